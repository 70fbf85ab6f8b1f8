"""How often a process asks the store: bounded by the clock, independent of the number of calls and failures."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from support.circuit_bench import Agent, FragileStore

from resilience.breaker import BreakerPolicy, Cooldown, Outcome
from resilience.breaker.stores.memory import MemoryStore
from resilience.errors import CircuitOpenError
from resilience.testing import ManualClock

NEVER_OPENS: dict[str, Any] = {"min_calls": 1_000_000, "consecutive_failures": 1_000_000}
TICK = 0.001


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=1000.0)


@pytest.fixture
def store(clock: ManualClock) -> FragileStore:
    return FragileStore(MemoryStore(clock=clock))


def sync_if_due(agent: Agent) -> None:
    """Run a sync if one is due now."""
    if agent.breaker._circuits.due <= agent.clock.monotonic():
        agent.turn()


async def traffic(
    agent: Agent, seconds: float, fails: Callable[[int], bool], *, calls: int = 1
) -> list[float]:
    """Make calls in every millisecond. Return the times of the store's steps."""
    store, steps = agent.breaker._sync_worker.store, []
    assert isinstance(store, FragileStore)
    for n in range(round(seconds / TICK)):
        before = store.steps
        for each in range(calls):
            failed = fails(calls * n + each)
            permit = await agent.admit()
            agent.breaker.settle(permit, Outcome.FAILURE if failed else Outcome.SUCCESS, reason="timeout")
        sync_if_due(agent)
        steps += [agent.clock.monotonic()] * (store.steps - before)
        agent.clock.advance(TICK)
    return steps


def gaps(steps: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(steps)]


def never(_: int) -> bool:
    return False


class TestHealthy:
    async def test_the_interval_doubles_up_to_what_keeps_the_view_fresh(
        self, store: FragileStore, clock: ManualClock
    ) -> None:
        """It is 0.1 s, then 0.2, 0.4, 0.8, 1.6 and 2 s, where max_staleness allows it; no call waits for a refresh."""
        one = Agent(store, clock, policy=BreakerPolicy(max_staleness=2.5))
        steps = await traffic(one, 12.0, never)

        assert gaps(steps) == pytest.approx([0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 2.0], abs=0.003)
        assert all(request.batches for request in store.asked[1:])

    @pytest.mark.parametrize(("staleness", "interval"), [(0.25, 0.2), (0.1, 0.1), (60.0, 2.0)])
    async def test_it_stays_within_its_bounds(
        self, store: FragileStore, clock: ManualClock, staleness: float, interval: float
    ) -> None:
        """It grows to four fifths of max_staleness, but stays within 0.1 s and 2 s."""
        one = Agent(store, clock, policy=BreakerPolicy(max_staleness=staleness))
        steps = await traffic(one, 8.0, never)

        assert gaps(steps)[-1] == pytest.approx(interval, abs=0.003)

    async def test_the_store_s_load_does_not_depend_on_the_calls(
        self, store: FragileStore, clock: ManualClock
    ) -> None:
        """At the default staleness a process sends five steps a second, at a thousand calls a second and at five thousand."""
        few, many = (
            Agent(FragileStore(MemoryStore(clock=clock)), ManualClock(start=1000.0)) for _ in range(2)
        )

        assert len(await traffic(few, 2.0, never)) == len(await traffic(many, 2.0, never, calls=5)) <= 11

    async def test_a_failure_resets_it(self, store: FragileStore, clock: ManualClock) -> None:
        """A failure is sent within 5 ms, and the successes after it within 0.1 s."""
        one = Agent(store, clock, policy=BreakerPolicy(max_staleness=2.5))
        await traffic(one, 8.0, never)
        assert one.breaker._by_client["A"].flush_interval.interval == 2.0
        steps = await traffic(one, 0.7, lambda n: n == 20)
        failed = next(n for n, request in enumerate(store.asked) if "timeout" in str(request.batches))

        assert [batch.reason for batch in store.asked[failed].batches] == ["timeout"]
        assert gaps(steps)[:2] == pytest.approx([0.1, 0.2], abs=0.003)

    @pytest.mark.parametrize("how", ["a transition", "a cool-down", "a failure elsewhere"])
    async def test_events_of_other_processes_reset_it(
        self, store: FragileStore, clock: ManualClock, how: str
    ) -> None:
        """What happens in another process shows in the next reply, and resets the interval too."""
        policy = BreakerPolicy(max_staleness=2.5, open_for=0.5, open_jitter=0.0)
        one, other = Agent(store, clock, policy=policy), Agent(store, clock, policy=policy)
        await traffic(one, 8.0, never)
        one.turn()
        if how == "a transition":
            await other.fail(5)
        elif how == "a cool-down":
            cooldown = Cooldown(seconds=1.0, max_seconds=1.0, reason="rate_limit")
            other.settle(await other.admit(), Outcome.IGNORED, cooldown=cooldown)
        else:
            await other.fail(1)
        one.breaker._circuits.refresh(one.breaker._by_client["A"])
        one.turn()

        assert one.breaker._by_client["A"].flush_interval.interval == 0.1


class TestFailing:
    async def test_the_first_failures_are_sent_five_milliseconds_apart(
        self, store: FragileStore, clock: ManualClock
    ) -> None:
        """Failures of calls that were in flight reach the store as soon as the gap allows."""
        one = Agent(store, clock, policy=BreakerPolicy(**NEVER_OPENS))
        permit, steps = await one.admit(), []
        for _ in range(60):
            before = store.steps
            one.breaker.settle(permit, Outcome.FAILURE, reason="timeout")
            sync_if_due(one)
            steps += [clock.monotonic()] * (store.steps - before)
            clock.advance(TICK)

        assert gaps(steps)[1:7] == pytest.approx([0.005] * 6, abs=0.0011)

    async def test_the_call_after_a_failure_waits_for_the_reply_to_it(
        self, store: FragileStore, clock: ManualClock
    ) -> None:
        """The reply includes the failures of other processes: the next call knows of them, although its view was fresh."""
        one, other = Agent(store, clock), Agent(store, clock)
        await one.admit()
        await other.fail(4)
        permit = await one.admit()
        one.breaker.settle(permit, Outcome.FAILURE, reason="timeout")

        with pytest.raises(CircuitOpenError):
            await one.admit()

    async def test_no_call_waits_in_a_long_stream_of_failures(
        self, store: FragileStore, clock: ManualClock
    ) -> None:
        """A client that fails now and then for a long time does not slow down the calls that succeed."""
        one = Agent(store, clock, policy=BreakerPolicy(**NEVER_OPENS))
        await traffic(one, 1.0, lambda _: True)
        permit = await one.admit()
        one.breaker.settle(permit, Outcome.FAILURE, reason="timeout")
        asked = store.steps

        assert await one.admit() is permit
        assert asked == store.steps

    async def test_a_long_stream_of_failures_is_sent_less_often(
        self, store: FragileStore, clock: ManualClock
    ) -> None:
        """With three failures in ten of a thousand calls a second the gap grows to 0.1 s: tens of steps, not hundreds."""
        one = Agent(store, clock, policy=BreakerPolicy(**NEVER_OPENS))
        steps = await traffic(one, 3.0, lambda n: n % 10 < 3)
        late = [gap for gap, at in zip(gaps(steps), steps[1:], strict=True) if at > steps[0] + 1.0]

        assert len(steps) <= 45
        assert late == pytest.approx([0.1] * len(late), abs=0.003)
        assert sum(sum(count for _, count in b.runs) for r in store.asked for b in r.batches) >= 2850

    async def test_no_call_waits_while_nothing_can_open_the_circuit(
        self, store: FragileStore, clock: ManualClock
    ) -> None:
        """Failures with successes in between are no streak: at the default thresholds three in ten make no call wait."""
        one = Agent(store, clock)
        steps = await traffic(one, 3.0, lambda n: n % 10 in (0, 3, 6))

        assert one.moves == []
        assert len(steps) <= 45

    async def test_a_flush_without_failures_resets_the_gap(
        self, store: FragileStore, clock: ManualClock
    ) -> None:
        """After a flush without a failure the next failure is sent at once."""
        one = Agent(store, clock, policy=BreakerPolicy(**NEVER_OPENS))
        await traffic(one, 2.0, lambda _: True)
        await traffic(one, 0.5, never)
        began = clock.monotonic()
        steps = await traffic(one, 0.02, lambda n: n == 3)

        assert steps == pytest.approx([began + 0.003], abs=0.006)

    async def test_failures_that_open_the_circuit_are_sent_before_the_next_call(
        self, store: FragileStore, clock: ManualClock
    ) -> None:
        """When this process's own failures open the circuit in the middle of a stream, no further call is admitted."""
        one = Agent(store, clock, policy=BreakerPolicy(min_calls=1_000_000, consecutive_failures=40))
        await traffic(one, 2.0, lambda n: n % 4 > 0)
        assert one.breaker._by_client["A"].flush_interval.failing_flushes > 8
        admitted = 0
        for _ in range(60):
            if (refused := await one.refusal()) is not None:
                break
            admitted += 1
            one.breaker.settle(await one.admit(), Outcome.FAILURE, reason="timeout")

        assert refused is not None
        assert admitted <= 40
        assert [move.failures for move in one.moves] != []

    async def test_the_gap_counts_from_the_start_of_a_sync(
        self, store: FragileStore, clock: ManualClock
    ) -> None:
        """A failure that arrives during a sync waits for the gap, and does not cause another sync at once."""
        one = Agent(store, clock, policy=BreakerPolicy(**NEVER_OPENS))
        permit = await one.admit()
        clock.advance(1.0)
        one.breaker.settle(permit, Outcome.FAILURE)
        one.turn()
        one.breaker.settle(permit, Outcome.FAILURE)

        assert one.breaker._circuits.due == pytest.approx(clock.monotonic() + 0.005)
