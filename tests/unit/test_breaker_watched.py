"""Circuits in a file that other processes watch: a healthy one costs a read for each refresh, and a transaction in two seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.circuit_bench import Agent

from resilience.breaker import Outcome
from resilience.breaker.messages import StepReply, StepRequest
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitState
from resilience.breaker.stores.sqlite import SQLiteStore
from resilience.testing import ManualClock

PERIOD = 0.3125  # seconds between two calls: a sum of powers of two, which a clock adds without error


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the test's processes and of their store."""
    return ManualClock(start=1000.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of circuits."""
    return tmp_path / "circuits.db"


class CountingStore(SQLiteStore):
    """A store that counts its steps, those of them that had something to write, and the questions whether anything has changed."""

    steps = updates = looks = 0

    def is_unchanged(self, clients: Sequence[str]) -> bool:
        self.looks += 1
        return super().is_unchanged(clients)

    def step(self, requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]:
        self.steps += 1
        self.updates += any(request.has_updates for request in requests)
        return super().step(requests)


def agent(path: Path, clock: ManualClock, **policy: Any) -> tuple[Agent, CountingStore]:
    """Return a process, and its connection to the file."""
    store = CountingStore(path, clock=clock)
    return Agent(store, clock, policy=BreakerPolicy(open_jitter=0.0, **policy)), store


async def calls(one: Agent, count: int, outcome: Outcome = Outcome.SUCCESS) -> None:
    """Make calls at the pace of an agent; the thread runs when it is due."""
    for _ in range(count):
        permit = await one.admit()
        one.breaker.settle(permit, outcome)
        for pause in (PERIOD / 8, PERIOD * 7 / 8):
            one.clock.advance(pause)
            one.turn_if_due()


async def test_clean_calls_write_the_file_once_in_two_seconds(path: Path, clock: ManualClock) -> None:
    """Thirty-two calls in ten seconds are five transactions at most, nothing is lost, and no view is older than half a second."""
    one, store = agent(path, clock)
    await calls(one, 1)
    before, steps = store.updates, store.steps
    await calls(one, 32)

    assert 4 <= store.updates - before <= 5
    assert store.steps - steps == store.updates - before, "a refresh that finds nothing new is no step"
    assert clock.monotonic() - one.breaker.views()["A"].at <= 0.5
    clock.advance(2.0)
    one.turn_if_due()
    assert one.breaker.views()["A"].successes == 33


async def test_rare_calls_ask_for_no_view_which_is_renewed_twice_a_second(
    path: Path, clock: ManualClock
) -> None:
    """Views of rare calls are renewed by time, not by each call; once calls come fast, the second one asks for a view at once."""
    one, store = agent(path, clock)
    await calls(one, 4)
    looks = store.looks
    await calls(one, 16)
    assert store.looks - looks <= 10 + 1

    updates = store.updates
    while store.updates == updates:
        clock.advance(1 / 32)
        one.turn_if_due()
    clock.advance(0.26)
    one.breaker.free_permit("A")
    assert one.breaker._circuits.due - clock.monotonic() > 0.1, "nothing is sent for the first one"
    clock.advance(0.06)
    one.breaker.free_permit("A")
    assert one.breaker._circuits.due - clock.monotonic() < 0.03
    clock.advance(0.03)
    one.turn_if_due()
    assert clock.monotonic() - one.breaker.views()["A"].at < 0.03


async def test_busy_calls_ask_for_a_view_as_soon_as_theirs_is_old(path: Path, clock: ManualClock) -> None:
    """A process with sixteen calls a second never decides by a view that is older than the limit and the time between two calls."""
    one, _ = agent(path, clock)
    ages = []
    for _ in range(64):
        one.breaker.settle(await one.admit(), Outcome.SUCCESS)
        ages.append(clock.monotonic() - one.breaker.views()["A"].at)
        for _ in range(2):
            clock.advance(1 / 32)
            one.turn_if_due()
    assert max(ages[8:]) <= 0.25 + 1 / 16


async def test_a_commit_of_another_process_shows_in_the_next_refresh(path: Path, clock: ManualClock) -> None:
    """What another process wrote about any client is read, and an opening refuses the calls after the next refresh."""
    one, store = agent(path, clock)
    other, _ = agent(path, clock)
    await calls(one, 4)
    steps = store.steps
    await calls(other, 1)
    await calls(one, 3)
    assert store.steps > steps

    await other.fail(5)
    await calls(one, 1)  # begun with the old view, which is renewed within half a second
    clock.advance(0.5 - PERIOD)
    one.turn_if_due()
    assert (await one.refusal()) is not None
    assert one.breaker.views()["A"].state is CircuitState.OPEN


async def test_a_failure_takes_the_gathered_successes_with_it(path: Path, clock: ManualClock) -> None:
    """Successes that gather are sent before a later failure in the order they happened, at once."""
    one, _ = agent(path, clock)
    await calls(one, 4)
    held = sum(run.count for run in one.breaker._by_client["A"].runs)
    assert held > 1

    await calls(one, 1, Outcome.FAILURE)
    view = one.breaker.views()["A"]
    assert (view.successes, view.failures, view.streak) == (4, 1, 1)


async def test_a_policy_that_always_asks_gathers_nothing(path: Path, clock: ManualClock) -> None:
    """With max_staleness=0 each call reads the store first, and its success is sent as soon as any."""
    one, store = agent(path, clock, max_staleness=0.0)
    await calls(one, 4)
    steps, updates = store.steps, store.updates
    await calls(one, 4)

    assert store.steps - steps >= 4
    assert store.updates - updates == 4


async def test_a_flush_sends_what_gathers(path: Path, clock: ManualClock) -> None:
    """A job waits for everything before it; so the successes are in the file when a flush returns."""
    one, _ = agent(path, clock)
    await calls(one, 3)
    assert one.breaker._by_client["A"].runs
    one.breaker._sync_worker.submit(one.breaker._shared.namespace, lambda _: None)
    one.turn()

    assert not one.breaker._by_client["A"].runs
    assert one.breaker.views()["A"].successes == 3


def test_the_version_is_that_of_each_client_s_own_step(path: Path, clock: ManualClock) -> None:
    """A step about one client says nothing about another: their rows were read at different versions of the file."""
    mine, theirs = SQLiteStore(path, clock=clock), SQLiteStore(path, clock=clock)
    ask_a, ask_b = (StepRequest(client=name, policy=BreakerPolicy(), attempts=1) for name in "AB")
    mine.step([ask_a, ask_b])
    assert mine.is_unchanged(["A", "B"])

    theirs.step([StepRequest(client="B", policy=BreakerPolicy(), retries=1)])
    mine.step([ask_a])
    assert mine.is_unchanged(["A"])
    assert not mine.is_unchanged(["A", "B"])
    mine.step([ask_b])
    assert mine.is_unchanged(["A", "B"])


def test_a_file_that_was_replaced_or_a_circuit_that_was_forgotten_has_changed(
    path: Path, clock: ManualClock
) -> None:
    """A new file at the path counts as a change, and so does a circuit that this connection itself deleted."""
    store = SQLiteStore(path, clock=clock)
    ask = StepRequest(client="A", policy=BreakerPolicy(), retries=1)
    store.step([ask])
    store.forget("A")
    assert not store.is_unchanged(["A"])

    store.step([ask])
    assert store.is_unchanged(["A"])
    for file in path.parent.iterdir():
        file.unlink()
    assert not store.is_unchanged(["A"])
