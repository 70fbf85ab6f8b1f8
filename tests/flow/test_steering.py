"""Exceptions with which frameworks steer a program go through a call at once, and no circuit counts them."""

from __future__ import annotations

import asyncio
import signal
import threading
import unittest
from collections.abc import Callable
from typing import Any

import celery.exceptions  # type: ignore[import-untyped]  # ships no types
import pytest

from resilience import BAMLErrorHandler, FallbackPolicy, RetryPolicy, Settings, classify, protect
from resilience.breaker import BreakerPolicy
from resilience.failure.control_flow import steers
from resilience.testing import Hang, ScriptedBAML, ScriptedSyncBAML, Snapshots


def foreign(module: str, *names: str, base: type[BaseException] = Exception) -> type[BaseException]:
    """Return a class as a framework defines it, with its line of bases, the last one being the most derived."""
    for name in names:
        base = type(name, (base,), {"__module__": module})
    return base


KINDS = {
    "langgraph interrupt": foreign("langgraph.errors", "GraphBubbleUp", "GraphInterrupt"),
    "langgraph command": foreign("langgraph.errors", "GraphBubbleUp", "ParentCommand"),
    "subclass of an application": type(
        "Ask", (foreign("langgraph.errors", "GraphBubbleUp"),), {"__module__": "app"}
    ),
    "celery retry": celery.exceptions.Retry,
    "celery ignore": celery.exceptions.Ignore,
    "celery reject": celery.exceptions.Reject,
    "celery soft limit": celery.exceptions.SoftTimeLimitExceeded,
    "celery revocation": celery.exceptions.TaskRevokedError,
    "streamlit rerun": foreign("streamlit.runtime.scriptrunner.exceptions", "RerunException"),
    "starlette disconnect": foreign("starlette.requests", "ClientDisconnect"),
    "skip of a test": unittest.SkipTest,
    "prefect pause": foreign("prefect.exceptions", "PausedRun"),
    "dagster retry": foreign("dagster._core.definitions.events", "RetryRequested"),
    "temporal cancellation": foreign("temporalio.exceptions", "FailureError", "CancelledError"),
    "rq limit": foreign("rq.timeouts", "BaseTimeoutException", "JobTimeoutException"),
    "signal that is no Exception": foreign("prefect.exceptions", "PrefectSignal", base=BaseException),
}


class OwnInterrupt(Exception):  # noqa: N818 - it is no error
    """Control flow of an application."""


class BusyError(Exception):
    """A failure of a client."""

    status_code = 503


def handler(**arguments: Any) -> BAMLErrorHandler:
    return BAMLErrorHandler(
        **{
            "settings": Settings(store_url="memory://", privacy="off"),
            "retry": RetryPolicy(initial_delay=0.001),
            "fallback": FallbackPolicy(clients=("B",)),
            "breaker": BreakerPolicy(consecutive_failures=1),
            **arguments,
        }
    )


async def ask(one: BAMLErrorHandler, exc: BaseException) -> list[str]:
    """Call a function that raises *exc* on both faces, check that it reaches the caller, and return the clients asked."""
    asked: list[str] = []

    def factory(client: str) -> Callable[[], Any]:
        async def run() -> None:
            asked.append(client)
            raise exc

        return run

    def blocking_factory(client: str) -> Callable[[], Any]:
        def run() -> None:
            asked.append(client)
            raise exc

        return run

    with pytest.raises(type(exc)) as caught:
        await one.call_with_fallback(factory, "F", "A")
    assert caught.value is exc
    with pytest.raises(type(exc)) as caught:
        await asyncio.to_thread(lambda: one.sync.call_with_fallback(blocking_factory, "F", "A"))
    assert caught.value is exc
    return asked


@pytest.mark.parametrize("name", KINDS)
async def test_control_flow_goes_through_at_once(name: str) -> None:
    """Async and sync: one attempt, the framework's own object, no record of an error, and a circuit that a single failure would open stays closed."""
    async with handler() as one:
        asked = await ask(one, KINDS[name]("steering"))

        assert asked == ["A", "A"]
        assert one.get_error_history() == []
        assert {client: view.state.value for client, view in one.circuits.items()} == {"A": "closed"}


STREAMED = {
    name: KINDS[name]
    for name in ("langgraph interrupt", "celery retry", "celery soft limit", "temporal cancellation")
}


@pytest.mark.parametrize("before", [(), ("Once",)], ids=["at once", "after content"])
@pytest.mark.parametrize("name", STREAMED)
async def test_control_flow_inside_a_stream_goes_through_at_once(name: str, before: tuple[str, ...]) -> None:
    """Async and sync, iterated and final, alone and in a group beside a failure: the stream is not restarted, and nothing is recorded."""
    for wrap in (False, True):
        alone = STREAMED[name]("steering")
        exc: Any = ExceptionGroup("both", [BusyError(), alone]) if wrap else alone
        async with handler(retry=RetryPolicy(initial_delay=0.001)) as one:
            fake = ScriptedBAML(Tell=[Snapshots(*before, exc), "not asked"])
            blocking_fake = ScriptedSyncBAML(Tell=[Snapshots(*before, exc), "not asked"])

            with pytest.raises(type(exc)) as caught:
                [snapshot async for snapshot in protect(fake, one).stream.Tell()]
            assert caught.value is exc
            blocking = protect(blocking_fake, one)
            with pytest.raises(type(exc)) as caught:
                await asyncio.to_thread(blocking.stream.Tell().get_final_response)

            assert caught.value is exc
            assert (1, 1) == (len(fake.calls), len(blocking_fake.calls))
            assert one.get_error_history() == []
            assert {view.state.value for view in one.circuits.values()} <= {"closed"}


async def test_a_group_without_control_flow_is_a_failure_of_its_most_telling_member() -> None:
    """In a stream too, async and blocking: the next client is asked, and the record has the category of the member that says most."""
    group = ExceptionGroup("both", [ValueError("?"), BusyError()])
    for kind in (ScriptedBAML, ScriptedSyncBAML):
        async with handler(retry=RetryPolicy(max_retries=1, initial_delay=0.001)) as one:
            stream = protect(kind(Tell=[Snapshots("Once", group), "whole"]), one).stream.Tell()
            read = stream.get_final_response
            assert "whole" == (await read() if kind is ScriptedBAML else await asyncio.to_thread(read))
            assert ["service_unavailable"] == [record.category.value for record in one.get_error_history()]


def test_a_soft_time_limit_ends_a_blocking_stream_that_is_silent() -> None:
    """Celery raises it from a signal handler, between two steps of the task: the wait for the next snapshot ends at once."""

    def limit(*_: object) -> None:
        raise celery.exceptions.SoftTimeLimitExceeded

    one = handler()
    stream = iter(protect(ScriptedSyncBAML(Tell=[Snapshots("Once", Hang()), "not asked"]), one).stream.Tell())
    previous = signal.signal(signal.SIGUSR1, limit)  # the signal of Celery's prefork pool
    try:
        assert "Once" == next(stream)
        threading.Timer(0.1, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1)).start()
        with pytest.raises(celery.exceptions.SoftTimeLimitExceeded):
            next(stream)
    finally:
        signal.signal(signal.SIGUSR1, previous)
        one.close()
    assert one.get_error_history() == []


async def test_classes_of_the_application_go_through_as_well() -> None:
    """`pass_through` names them. Without it the same class is a failure."""
    async with handler(pass_through=(OwnInterrupt,)) as one:
        assert await ask(one, OwnInterrupt()) == ["A", "A"]
        assert one.get_error_history() == []
    async with handler(
        retry=RetryPolicy(max_retries=0), fallback=FallbackPolicy(), breaker=BreakerPolicy()
    ) as other:
        await ask(other, OwnInterrupt())
        assert [record.client for record in other.get_error_history()] == ["A", "A"]


@pytest.mark.parametrize(
    "given", [OwnInterrupt, [OwnInterrupt], (OwnInterrupt(),), ("OwnInterrupt",), (Exception,)]
)
def test_a_wrong_argument_is_refused(given: Any) -> None:
    """A class alone, a list, an instance, a name, or Exception itself: the message says what to give."""
    with pytest.raises(TypeError, match=r"exception classes|your own classes"):
        handler(pass_through=given)


def test_groups_and_wrappers() -> None:
    """A group with control flow in it steers, also in a group; Temporal's activity error does if a cancellation caused it."""
    interrupt = KINDS["langgraph interrupt"]("ask a human")
    wrapped = foreign("temporalio.exceptions", "ActivityError")("activity")
    assert not steers(wrapped)
    wrapped.__cause__ = KINDS["temporal cancellation"]("cancelled")

    assert steers(BaseExceptionGroup("", [BusyError(), BaseExceptionGroup("", [interrupt])]))
    assert steers(wrapped)
    assert not steers(ExceptionGroup("", [BusyError(), ValueError()]))


@pytest.mark.parametrize(
    "exc",
    [
        foreign("langgraph.errors", "GraphRecursionError")("too deep"),
        foreign("celery.exceptions", "TimeoutError")("the result backend"),
        foreign("temporalio.exceptions", "ApplicationError")("failed"),
        foreign("my_app.errors", "Retry")("a failure of the application's own"),
        foreign("requests.exceptions", "RetryError")("429"),
    ],
)
def test_failures_of_the_same_frameworks_stay_failures(exc: Exception) -> None:
    """A name alone is not enough, and neither is the module."""
    assert not steers(exc)


def test_control_flow_is_classified_as_the_callers_doing() -> None:
    """`classify` agrees with what calls do."""
    failure = classify(KINDS["celery soft limit"]())

    assert (failure.category.value, failure.recoverable, failure.counts_against_client) == (
        "cancelled",
        False,
        False,
    )
