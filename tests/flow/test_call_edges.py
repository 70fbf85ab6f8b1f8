"""Rare ways in which a client ends: what the caller gets, what is recorded, and what is kept alive."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resilience import BAMLErrorHandler, CircuitState, RetryPolicy, Settings
from resilience.execution import sync_driver
from resilience.history import CallOutcome, CallRecord, DeferredRecord


class Large:
    """What a client holds while it runs."""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., BAMLErrorHandler]]:
    handlers: list[BAMLErrorHandler] = []

    def build(**retry: Any) -> BAMLErrorHandler:
        policy = RetryPolicy(initial_delay=0.0, max_delay=0.0, **retry)
        settings = Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db")
        handlers.append(BAMLErrorHandler(settings=settings, retry=policy))
        return handlers[-1]

    yield build
    for handler in handlers:
        handler.close()


def outcomes(handler: BAMLErrorHandler, monkeypatch: pytest.MonkeyPatch) -> list[CallOutcome]:
    """Return a list that fills with the outcome of each call from now on."""
    ended: list[CallOutcome] = []

    def record(item: Any) -> None:
        built = item.build() if isinstance(item, DeferredRecord) else item
        if isinstance(built, CallRecord):
            ended.append(built.outcome)

    monkeypatch.setattr(handler._open().recorder, "record", record)
    return ended


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Turn the collector of reference cycles off: only what is in a cycle stays alive."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize(
    "error",
    [ValueError("x"), TimeoutError("x"), StopIteration(1), SystemExit(1), asyncio.CancelledError()],
    ids=repr,
)
def test_a_failed_blocking_call_keeps_nothing_alive(make: Any, error: BaseException) -> None:
    """When the caller has dropped the exception, the frames of the client are gone at once."""
    kind, alive = type(error), []

    def fail() -> None:
        large = Large()
        alive.append(weakref.ref(large))
        raise kind

    with pytest.raises(kind) as raised:
        make(max_retries=1).sync.call_with_retry(fail, "A", "F")
    del raised

    assert [] == [one for one in alive if one() is not None]


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("kind", [ValueError, TimeoutError, asyncio.CancelledError])
async def test_a_failed_awaited_call_keeps_nothing_alive(make: Any, kind: type[BaseException]) -> None:
    """When the caller has dropped the exception, the frames of the client are gone at once."""
    alive = []

    async def fail() -> None:
        large = Large()
        alive.append(weakref.ref(large))
        raise kind

    with pytest.raises(kind) as raised:
        await make(max_retries=1).call_with_retry(fail, "A", "F")
    del raised

    assert [] == [one for one in alive if one() is not None]


def test_a_stop_iteration_of_a_blocking_function_comes_back(make: Any) -> None:
    """`next` on an empty iterator: the caller gets the StopIteration itself, although generators cannot raise it."""
    error = StopIteration("empty")

    def fail() -> None:
        raise error

    with pytest.raises(StopIteration) as raised:
        make(max_retries=1).sync.call_with_retry(fail, "A", "F")

    assert error is raised.value


def test_an_exception_that_is_returned_is_a_result(make: Any) -> None:
    """A client may return an exception, also one that has a meaning for the engine."""
    for value in (ValueError("x"), StopIteration(1), TimeoutError()):
        assert value is make().sync.call_with_retry(lambda value=value: value, "A", "F")


def test_an_interruption_is_no_failure(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The soft time limit of Celery is an Exception raised while the caller waits: the call counts as cancelled."""

    class SoftTimeLimitError(Exception):
        """As the SoftTimeLimitExceeded of Celery: an Exception, raised by a signal handler."""

    def interrupt(*_: Any) -> bool:
        raise SoftTimeLimitError

    handler = make(max_retries=0)
    ended = outcomes(handler, monkeypatch)
    monkeypatch.setattr(sync_driver, "_wait", interrupt)
    with pytest.raises(SoftTimeLimitError):
        handler.sync.call_with_retry(lambda: 1, "A", "F")

    assert [CallOutcome.CANCELLED] == ended
    assert [] == handler.get_error_history()
    assert handler.circuits["A"].state is CircuitState.CLOSED


def test_an_interruption_between_two_effects_ends_the_call(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal that arrives outside of a wait still ends the call at once: its record is written before the caller goes on."""
    handler = make()
    ended = outcomes(handler, monkeypatch)
    call = handler.prepare_call(lambda _: lambda: 1, "F", "A").engine()
    context, readings = call.context, iter(range(2))

    class Interrupting:
        """A clock that is interrupted at its third reading, after the client was admitted."""

        def monotonic(self) -> float:
            if next(readings, None) is None:
                raise KeyboardInterrupt
            return 0.0

        def time(self) -> float:
            return 0.0

    context.services = dataclasses.replace(context.services, clock=Interrupting())
    with pytest.raises(KeyboardInterrupt) as raised:
        sync_driver.run_sync(call, (), {})

    assert [CallOutcome.CANCELLED] == ended
    assert raised.tb is not None  # it still holds the frames of the call


def test_a_blocking_wrapper_of_a_coroutine_function_is_blocking(make: Any) -> None:
    """A function that runs a coroutine function itself has its name and its `__wrapped__`, and is accepted all the same."""

    async def ask() -> str:
        return "answer"

    @functools.wraps(ask)
    def blocking() -> str:
        return asyncio.run(ask())

    assert "answer" == make().sync.call_with_retry(blocking, "A", "F")


async def test_a_coroutine_wrapper_of_a_blocking_function_is_awaitable(make: Any) -> None:
    """A coroutine function that runs a blocking one in a thread is accepted by the async verbs."""

    def ask() -> str:
        return "answer"

    @functools.wraps(ask)
    async def awaitable() -> str:
        return await asyncio.to_thread(ask)

    assert "answer" == await make().call_with_retry(awaitable, "A", "F")
