"""A clean call is made without an engine: what it leaves is the same, and what it does on the caller's thread is little."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from resilience import (
    BAMLErrorHandler,
    BreakerPolicy,
    FallbackPolicy,
    RetryPolicy,
    Settings,
    request_id,
)
from resilience.clock import SystemClock
from resilience.execution import planned_call
from resilience.execution.planned_call import CleanCall
from resilience.logs import LogPolicy
from resilience.records.deferred import DeferredRecord
from resilience.records.records import CallOutcome
from resilience.testing import ManualClock

Script = Sequence[Any]
_OF_ONE_RUN: Final = ("event_id", "call_id", "instance_id", "pid", "row_sequence", "sequence")


class StatusError(Exception):
    """An error as SDKs raise it."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


class Sink:
    """Remembers the lines of calls."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        self.lines += [(stream, dict(line)) for stream, line in lines if line["event"] != "config"]


class Run:
    """A handler on a held clock. With *engine*, every call runs through its engine, because starts of calls are logged."""

    def __init__(self, folder: Path, *, engine: bool, **policies: Any) -> None:
        self.clock, self.sink = ManualClock(), Sink()
        policies.setdefault("retry", RetryPolicy(jitter=False))
        policies.setdefault("fallback", FallbackPolicy(clients=("B",)))
        self.handler = BAMLErrorHandler(
            settings=Settings(store_url="memory://", database_url=f"sqlite:///{folder}/{engine}.db"),
            logs=LogPolicy(call_start=engine),
            sinks=[self.sink],
            clock=self.clock,
            random=lambda: 0.5,
            **policies,
        )

    def provider(self, script: Script) -> Callable[[str], Any]:
        left = list(script)

        def bind(client: str) -> Any:
            async def ask(seconds: float) -> str:
                self.clock.advance(seconds)
                step = left.pop(0) if client == "A" and left else None
                if isinstance(step, BaseException):
                    raise step
                if step == "hang":
                    await asyncio.Event().wait()
                return f"answer of {client}"

            return ask

        return bind

    async def play(self, script: Script) -> tuple[Any, Any]:
        """Make a clean call, then one by the script, then a clean one. Return what the second gave, and the lines."""
        handler = self.handler
        await handler.call_with_fallback(self.provider(()), "Warm", "A", 0.0)
        assert handler._open().breaker.flush(20.0)
        with request_id("order-7"):
            asked = handler.call_with_fallback(self.provider(script), "F", "A", 0.25)
            task = asyncio.ensure_future(asked)
            if "hang" in script:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                task.cancel()
            outcome: Any = (await asyncio.gather(task, return_exceptions=True))[0]
        await handler.call_with_fallback(self.provider(()), "Last", "B", 0.5)
        assert await handler._open().recorder.aflush(60)
        assert handler._open().breaker.flush(20.0)
        return outcome if isinstance(outcome, tuple) else repr(outcome), self.comparable()

    def comparable(self) -> list[Any]:
        """Return the lines of calls without what differs from run to run. Transitions come from another thread, at any time."""
        lines = [
            (stream, line)
            for stream, line in self.sink.lines
            if line["event"] not in ("call.start", "breaker.state")
        ]
        for _, line in lines:
            if line["request_id"] == line.get("call_id"):
                line["request_id"] = "own"
            for name in _OF_ONE_RUN:
                line.pop(name, None)
        return lines


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Callable[..., Run]]:
    runs: list[Run] = []

    def make(*, engine: bool, **policies: Any) -> Run:
        runs.append(Run(tmp_path, engine=engine, **policies))
        return runs[-1]

    yield make
    for each in runs:
        await each.handler.aclose()


@pytest.mark.parametrize(
    ("script", "policies"),
    [
        ((), {}),
        ((), {"retry": RetryPolicy(jitter=False, attempt_timeout=60.0, deadline=90.0)}),
        ((), {"breaker": BreakerPolicy(slow_call_duration=0.1)}),
        ((StatusError(500),), {}),
        ((StatusError(500), StatusError(500)), {}),
        ((StatusError(400),), {}),
        ((StatusError(429),), {}),
        (("hang",), {}),
        ((KeyError("ours"),), {"fallback": FallbackPolicy()}),
    ],
)
async def test_a_call_leaves_the_same_with_and_without_an_engine(
    run: Any, script: Script, policies: dict[str, Any]
) -> None:
    """Result, lines of all records and circuits are equal, also where the first attempt of a call without an engine fails."""
    one, other = run(engine=False, **policies), run(engine=True, **policies)
    left, right = await one.play(script), await other.play(script)

    assert left == right
    assert len(left[1]) >= 3
    circuits = [
        {
            client: (view.state, view.epoch, view.successes, view.failures, view.slow)
            for client, view in shown.items()
        }
        for shown in (one.handler.circuits, other.handler.circuits)
    ]
    assert circuits[0] == circuits[1]


async def test_a_clean_call_makes_no_context_and_no_record_on_the_callers_thread(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hands one object to the writer, which makes the id and the record there; nothing is logged at its start."""
    clean = run(engine=False)
    await clean.play(())
    services, kept = clean.handler._services, list[DeferredRecord]()
    clean.handler._services = dataclasses.replace(services, record_clean=kept.append, record=None)

    def refuse(*_: Any, **__: Any) -> Any:
        pytest.fail("a clean call made this on the caller's thread")

    for name in ("CallContext", "CallRecord", "new_id"):
        monkeypatch.setattr(planned_call, name, refuse)
    assert ("answer of A", "A") == await clean.handler.call_with_fallback(clean.provider(()), "F", "A", 0.25)
    monkeypatch.undo()

    (record,) = kept
    assert type(record) is CleanCall
    assert (CallOutcome.OK, 0.25, 1) == (
        (built := record.build()).outcome,
        built.duration,
        built.attempts,
    )


async def test_nothing_runs_where_nothing_is_kept() -> None:
    """With `privacy=off` and no sinks the writer thread is not even started, whatever happens to calls."""
    settings = Settings(store_url="memory://", privacy="off")
    async with BAMLErrorHandler(settings=settings, retry=RetryPolicy(max_retries=0)) as handler:
        for answer in (None, StatusError(500)):
            provider = Run.provider(_Still(), [answer])
            await asyncio.gather(
                handler.call_with_retry(provider("A"), "A", "F", 0.0), return_exceptions=True
            )
        names = {thread.name for thread in threading.enumerate()}
        worker = handler._open().recorder.recorder._worker

    assert worker.thread is None
    assert "resilience-sync" in names


class _Still(Run):
    """Only a provider."""

    def __init__(self) -> None:
        self.clock = ManualClock()


def test_an_interruption_of_a_clean_call_is_recorded(tmp_path: Path) -> None:
    """A signal handler that raises while a blocking clean call is being settled ends it: its record says that it was cancelled."""
    handler = BAMLErrorHandler(
        settings=Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/h.db")
    )
    with handler.sync:
        handler.sync.call_with_retry(lambda: 1, "A", "F")
        assert handler._open().breaker.flush(20.0)
        services = handler._services
        assert services is not None
        planned = handler.prepare_call(lambda _: lambda: 1, "F", "A")
        assert planned.open()
        kept: list[Any] = []

        class Interrupted(SystemClock):
            """A clock that is interrupted at its next reading, and only then."""

            calls = 0

            def monotonic(self) -> float:
                self.calls += 1
                if self.calls == 1:
                    raise KeyboardInterrupt
                return super().monotonic()

        planned.services = dataclasses.replace(services, clock=Interrupted(), record=kept.append)
        with pytest.raises(KeyboardInterrupt):
            planned.answered(1)

    assert [CallOutcome.CANCELLED] == [record.build().outcome for record in kept]


async def test_readers_of_the_same_process_see_rows_that_still_gather(tmp_path: Path) -> None:
    """The row of a clean call may wait a second where its line is in a file; a read of the same handler writes it first."""
    settings = Settings(
        store_url="memory://", database_url=f"sqlite:///{tmp_path}/h.db", log_dir=tmp_path / "logs"
    )
    async with BAMLErrorHandler(settings=settings) as handler:
        for number in range(3):
            await handler.call_with_retry(_Still().provider(())("A"), "A", "F", 0.0)
            assert number + 1 == len(await handler.history.calls())
            assert number + 1 == len(await asyncio.to_thread(handler.history.sync.calls))


def test_a_stop_iteration_of_a_client_arrives_as_it_was_raised(tmp_path: Path) -> None:
    """Also from the first attempt of a blocking call without an engine, although no generator can raise it."""

    def stop() -> None:
        raise StopIteration

    settings = Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/h.db")
    handler = BAMLErrorHandler(settings=settings, retry=RetryPolicy(max_retries=0))
    with handler.sync:
        handler.sync.call_with_retry(lambda: 1, "A", "F")
        assert handler._open().breaker.free_permit("A") is not None
        with pytest.raises(StopIteration):
            handler.sync.call_with_retry(stop, "A", "F")
