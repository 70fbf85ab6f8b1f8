"""A due probe runs beside the call that finds it due: a free backup answers, and the caller sees nothing of the probe."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from resilience import (
    BAMLErrorHandler,
    BreakerPolicy,
    CircuitState,
    FallbackPolicy,
    RetryPolicy,
    Settings,
    protect,
)
from resilience.errors import HistoryError
from resilience.history import Action, CallOutcome, CallRecord
from resilience.testing import Answer, ManualClock, ProviderSimulator, Status

pytestmark = pytest.mark.baml


class DownError(Exception):
    """A 503, as SDKs raise it."""

    status_code = 503


class Double:
    """A client shaped like a generated one. `primary` says what its own client does; a backup always answers."""

    def __init__(self) -> None:
        self.primary: Callable[[], Any] = self.fail
        self.options: list[Mapping[str, Any]] = []
        self.hanging = asyncio.Event()
        self.left = 0

    async def Ask(self, it: str, baml_options: Mapping[str, Any] = {}) -> str:  # noqa: N802 - as BAML generates it
        if "client_registry" in baml_options:
            return f"backup: {it}"
        self.options.append(baml_options)
        return str(await self.primary())

    async def fail(self) -> str:
        raise DownError

    async def answer(self) -> str:
        return "primary"

    async def hang(self) -> str:
        self.hanging.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left += 1
        return "never"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def make(clock: ManualClock, tmp_path: Path) -> AsyncIterator[Callable[..., BAMLErrorHandler]]:
    handlers: list[BAMLErrorHandler] = []

    def build(**breaker: Any) -> BAMLErrorHandler:
        handlers.append(handler_of(clock, tmp_path, **breaker))
        return handlers[-1]

    yield build
    for handler in handlers:
        await handler.aclose()


def handler_of(clock: ManualClock, folder: Path, **breaker: Any) -> BAMLErrorHandler:
    return BAMLErrorHandler(
        settings=Settings(store_url="memory://", database_url=f"sqlite:///{folder}/history.db"),
        retry=RetryPolicy(max_retries=0),
        breaker=BreakerPolicy(
            consecutive_failures=1, open_for=10.0, open_max=10.0, open_jitter=0.0, **breaker
        ),
        fallback=FallbackPolicy(clients=("Secondary",)),
        clock=clock,
        random=lambda: 0.0,
    )


async def until(condition: Callable[[], bool]) -> None:
    """Wait for work on other threads and tasks."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


async def written(handler: BAMLErrorHandler, rows: int) -> list[CallRecord]:
    """Return all rows of `calls`, oldest first, once there are this many: a busy machine takes its time to write."""
    found: list[CallRecord] = []
    async with asyncio.timeout(60):
        while len(found) < rows:
            await asyncio.sleep(0.02)
            with contextlib.suppress(HistoryError):  # the tables are not there yet
                requests = {call.request_id for call in await handler.history.calls()}
                found = [
                    call for request in requests for call in await handler.history.calls(request_id=request)
                ]
    return sorted(found, key=lambda call: call.started_at)


def state(handler: BAMLErrorHandler, client: str = "Ask") -> CircuitState | None:
    view = handler.circuits.get(client)
    return None if view is None else view.state


async def make_due(guarded: Any, handler: BAMLErrorHandler, clock: ManualClock) -> None:
    """Open the circuit by one failure, and let its time pass."""
    assert "backup: x" == await guarded.Ask("x")
    await until(lambda: state(handler) is CircuitState.OPEN)
    clock.advance(11.5)


async def test_the_backup_answers_and_the_probe_closes_the_circuit(make: Any, clock: ManualClock) -> None:
    """While the probe is under way callers get the backup's answers; after it they get the primary's."""
    double, handler = Double(), make()
    guarded, gate = protect(double, handler), asyncio.Event()
    await make_due(guarded, handler, clock)

    async def answer_later() -> str:
        await gate.wait()
        return "primary"

    double.primary = answer_later
    answers = [await guarded.Ask("y") for _ in range(3)]
    await until(lambda: len(double.options) == 2)
    gate.set()
    await until(lambda: state(handler) is CircuitState.CLOSED)

    assert ["backup: y"] * 3 == answers
    assert "primary" == await guarded.Ask("z")


async def test_callers_of_one_moment_start_one_probe(make: Any, clock: ManualClock) -> None:
    """Ten concurrent calls that find a probe due make one request to the primary, and each is answered."""
    double, handler = Double(), make()
    guarded = protect(double, handler)
    await make_due(guarded, handler, clock)
    double.primary = double.hang

    answers = await asyncio.gather(*(guarded.Ask("y") for _ in range(10)))
    await double.hanging.wait()

    assert ["backup: y"] * 10 == answers
    assert 2 == len(double.options)


async def test_the_caller_sees_nothing_of_the_probe(make: Any, clock: ManualClock) -> None:
    """Collector, tags, on_tick and abort controller of the caller stay with the call; its other options reach the probe."""
    double, handler = Double(), make()
    guarded = protect(double, handler)
    await make_due(guarded, handler, clock)
    mine: dict[str, Any] = {"collector": object(), "tags": {"a": "b"}, "on_tick": print, "env": {"K": "v"}}

    await guarded.Ask("y", baml_options=mine)
    await until(lambda: len(double.options) == 2)

    assert {"collector", "env"} == set(double.options[1])
    assert mine["collector"] not in double.options[1]["collector"]


async def test_a_failed_probe_is_recorded_as_one(make: Any, clock: ManualClock) -> None:
    """Its error row says probe and names no action of a caller, its call row is in no list of calls, and rates count it."""
    double, handler = Double(), make()
    guarded = protect(double, handler)
    await make_due(guarded, handler, clock)

    assert "backup: y" == await guarded.Ask("y")
    await until(lambda: len(handler.get_error_history()) == 2)

    beside = [call for call in await written(handler, 3) if call.probe]
    probe, first = handler.get_error_history()
    assert (True, Action.FALLBACK) == (probe.probe, probe.action)
    assert not first.probe
    calls = await handler.history.calls()
    assert [False, False] == [call.probe for call in calls]
    assert [(CallOutcome.FAILED, "Ask", 1)] == [(call.outcome, call.client, call.attempts) for call in beside]
    assert [probe.request_id] == [call.request_id for call in beside]
    assert 2 == (await handler.history.summary())["total_calls"]
    (rates,) = [row for row in await handler.history.rates(by="client", since=None) if row.client == "Ask"]
    assert (2, 2, 2) == (rates.calls, rates.attempts, rates.errors)


async def test_closing_the_handler_returns_the_lease(make: Any, clock: ManualClock) -> None:
    """A probe that hangs ends with its handler; another handler of the fleet can probe at once."""
    double, handler, other = Double(), make(), make()
    guarded = protect(double, handler)
    await make_due(guarded, handler, clock)
    other.open()
    double.primary = double.hang
    await guarded.Ask("y")
    await double.hanging.wait()

    await handler.aclose()
    double.primary = double.answer
    again = protect(double, other)
    await until(lambda: state(other) is not None)
    clock.advance(1.5)  # until a refused probe may be requested again; the lease would last 60 s
    assert "backup: z" == await again.Ask("z")
    await until(lambda: state(other) is CircuitState.CLOSED)

    assert 1 == double.left


def test_a_loop_that_ends_takes_its_probe_along(
    clock: ManualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio.run cancels a hanging probe; a loop that is just closed reports no task as destroyed while pending."""
    caplog.set_level(logging.DEBUG, "asyncio")
    handler = handler_of(clock, tmp_path)

    async def leave_a_probe() -> Double:
        double = Double()
        guarded = protect(double, handler)
        await make_due(guarded, handler, clock)
        double.primary = double.hang
        await guarded.Ask("y")
        await double.hanging.wait()
        return double

    first = asyncio.run(leave_a_probe())
    loop = asyncio.new_event_loop()
    clock.advance(60.0)
    second = loop.run_until_complete(leave_a_probe())
    loop.close()
    handler.close()
    gc.collect()

    assert (1, 1) == (first.left, second.left)
    assert not [record for record in caplog.records if "destroyed" in record.getMessage()]


async def test_the_caller_probes_where_the_policy_says_so(make: Any, clock: ManualClock) -> None:
    """With probe_beside=False the call that finds the probe due makes it, as calls that are not BAML always do."""
    double, handler = Double(), make(probe_beside=False)
    guarded = protect(double, handler)
    await make_due(guarded, handler, clock)
    double.primary = double.answer

    assert "primary" == await guarded.Ask("y")


async def test_a_call_that_is_not_baml_probes_itself(make: Any, clock: ManualClock) -> None:
    """call_with_fallback may have side effects, so no second call of its function is made beside it."""
    double, handler = Double(), make()
    await make_due(protect(double, handler), handler, clock)
    asked: list[str] = []

    def bind(client: str) -> Any:
        async def ask() -> str:
            asked.append(client)
            return client

        return ask

    assert ("Ask", "Ask") == await handler.call_with_fallback(bind, "F", "Ask")
    assert ["Ask"] == asked


async def test_a_probe_of_a_real_client_counts_its_tokens(
    simulator: ProviderSimulator, b: Any, make: Any, clock: ManualClock
) -> None:
    """The probe asks the function's own client with the same prompt, and its tokens are in the history."""
    simulator.client("Primary").set(Status(503))
    handler = make()
    guarded = protect(b, handler)
    await guarded.ParseResearchGoal("Find out why")
    await until(lambda: state(handler, "Primary") is CircuitState.OPEN)
    clock.advance(11.5)
    simulator.client("Primary").set(Answer())

    await guarded.ParseResearchGoal("Find out why")
    await until(lambda: state(handler, "Primary") is CircuitState.CLOSED)

    assert (2, 2) == (simulator.client("Primary").asked, simulator.client("Secondary").asked)
    (probe,) = [call for call in await written(handler, 3) if call.probe]
    assert ("Primary", CallOutcome.OK) == (probe.client_final, probe.outcome)
    assert probe.input_tokens
    assert probe.output_tokens
