"""ManualClock: time that passes only when a test moves it."""

from __future__ import annotations

import asyncio

import pytest

from resilience.clock import Clock
from resilience.testing import ManualClock


def test_it_stands_still() -> None:
    """Nothing but `advance` and `sleep` moves it."""
    clock: Clock = ManualClock(5.0, epoch=100.0)

    assert (clock.monotonic(), clock.monotonic(), clock.time()) == (5.0, 5.0, 100.0)


def test_both_readings_move_together() -> None:
    """`monotonic` and `time` move by the same amount."""
    clock = ManualClock(epoch=100.0)

    clock.advance(2.5)

    assert (clock.monotonic(), clock.time()) == (2.5, 102.5)


def test_it_never_goes_back() -> None:
    """A negative step raises an error that names it, and nothing moves."""
    clock = ManualClock()

    with pytest.raises(ValueError, match=r"ManualClock\.seconds=-1"):
        clock.advance(-1)
    assert clock.monotonic() == 0.0


async def test_sleep_moves_the_time_and_is_recorded() -> None:
    """By default a sleep moves the clock and ends at once."""
    clock = ManualClock()

    await clock.sleep(60)
    await clock.sleep(0)

    assert clock.monotonic() == 60.0
    assert clock.sleeps == [60, 0]


async def test_sleep_lets_other_tasks_run() -> None:
    """A loop that only sleeps on the clock does not starve other tasks."""
    clock = ManualClock()
    turns: list[str] = []

    async def other() -> None:
        turns.append("other")

    task = asyncio.create_task(other())
    await clock.sleep(1)
    turns.append("sleeper")
    await task

    assert turns == ["other", "sleeper"]


async def test_without_auto_sleepers_wait_for_advance() -> None:
    """Sleeping tasks wake in the order of their times, none before its own."""
    clock = ManualClock(auto=False)
    woken: list[float] = []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    async with asyncio.TaskGroup() as group:
        for seconds in (3, 1, 2):
            group.create_task(sleeper(seconds))
        await asyncio.sleep(0)
        clock.advance(2)
        await asyncio.sleep(0)
        early = list(woken)
        clock.advance(1)

    assert early == [1, 2]
    assert woken == [1, 2, 3]


async def test_without_auto_a_sleep_of_zero_ends_at_once() -> None:
    """A sleep of zero seconds ends without an `advance`."""
    clock = ManualClock(auto=False)

    await clock.sleep(0)

    assert clock.sleeps == [0]


async def test_a_cancelled_sleeper_is_skipped() -> None:
    """A cancelled sleeper does not break the next `advance`, and the others still wake."""
    clock = ManualClock(auto=False)
    given_up = asyncio.create_task(clock.sleep(1))
    patient = asyncio.create_task(clock.sleep(1))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up

    clock.advance(1)

    await patient
