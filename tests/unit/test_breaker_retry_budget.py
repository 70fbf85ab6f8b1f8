"""The fleet's retry budget: the law of the bucket, and what each process makes of it between replies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.circuit_bench import Agent, Bench, FragileStore

from resilience.breaker import BreakerPolicy, Cooldown, Operation, Outcome, Permit
from resilience.breaker.messages import StepReply, StepRequest
from resilience.breaker.retry_budget import UNITS_PER_RETRY, tokens_left
from resilience.breaker.stores.memory import MemoryStore
from resilience.testing import ManualClock

PATIENT = BreakerPolicy(min_calls=1_000_000, consecutive_failures=1_000_000, retry_floor=0)
FAILURE = Outcome.FAILURE


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=1000.0)


@pytest.fixture
def store(clock: ManualClock) -> FragileStore:
    return FragileStore(MemoryStore(clock=clock))


class InterruptedStore(FragileStore):
    """While it is asked, something happens in the process that asks; once."""

    meanwhile: Callable[[], None] | None = None

    def step(self, requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().step(requests)


def tokens(bench: Bench) -> float:
    return tokens_left(bench.view().budget_used, bench.policy)


def retry(agent: Agent, permit: Permit, times: int = 1, outcome: Outcome = FAILURE) -> None:
    """End attempts that will be followed by a retry, without letting the thread have its turn."""
    for _ in range(times):
        agent.breaker.settle(permit, outcome, retry=True)


class TestBucket:
    def test_it_begins_full(self) -> None:
        """An unused circuit has retry_burst retries, and stores nothing for them."""
        bench = Bench()

        assert tokens(bench) == 20.0
        assert bench.data == Bench().data

    def test_only_first_tries_earn(self) -> None:
        """A first try pays in a tenth; a retry takes out one, whichever is reported first, its end or its decision."""
        bench = Bench(retry_floor=0)
        bench.step(attempts=1, retries=1)
        bench.step(attempts=1)
        assert tokens(bench) == 19.0
        bench.step(attempts=3)

        assert tokens(bench) == pytest.approx(19.3)

    def test_what_does_not_fit_is_lost(self) -> None:
        """A thousand calls do not pay for a burst beyond retry_burst, nor within the telling that follows them."""
        bench = Bench(retry_floor=0)
        bench.step(attempts=1000)
        assert bench.data == Bench().data
        bench.step(attempts=1000, retries=3)

        assert tokens(bench) == pytest.approx(20 - 3.3)

    def test_it_fills_by_the_minute(self) -> None:
        """retry_floor retries a minute by the store's clock, to the millisecond, and no further than full."""
        bench = Bench(retry_floor=10)
        bench.step(retries=20)
        assert tokens(bench) == pytest.approx(-2.0)
        bench.later(59.999)
        assert tokens(bench) == pytest.approx(8.0 - 10 / 60_000)
        bench.later(3600.0)

        assert tokens(bench) == 20.0

    def test_a_process_that_looks_at_it_often_does_not_slow_it(self) -> None:
        """Nothing is rounded off, however small the steps."""
        bench = Bench(retry_floor=7, retry_ratio=0.0)
        bench.step(retries=9)
        for _ in range(60_000 // 3):
            bench.now += 3
            bench.step(retries=0, attempts=1)

        assert bench.view().budget_used == 2 * UNITS_PER_RETRY

    def test_no_move_and_no_order_fills_or_empties_it(self) -> None:
        """Open, half-open, closed again, an operator's orders: the bucket stands beside them."""
        bench = Bench(retry_floor=0)
        bench.step(retries=10)
        bench.half_open()
        bench.tell((Outcome.SUCCESS, 1), lease="t1")
        for operation in Operation:
            bench.order(operation)

        assert tokens(bench) == pytest.approx(9.0)

    def test_results_that_are_late_pay_in_too(self) -> None:
        """What matters is that an attempt was made: the request counts them, apart from the results that count."""
        bench = Bench(retry_floor=0)
        bench.step(retries=10)
        bench.fail(3, epoch=-5)
        assert tokens(bench) == pytest.approx(9.0)
        bench.trip()
        bench.step(attempts=3)

        assert tokens(bench) == pytest.approx(9.3)

    def test_another_burst_holds_at_once(self) -> None:
        """A deploy with twice the burst adds its retries from its first step on."""
        bench = Bench(retry_floor=0)
        bench.step(retries=10)
        bench.policy = replace(bench.policy, retry_burst=40)

        assert tokens(bench) == pytest.approx(29.0)

    def test_without_a_budget_nothing_is_counted(self) -> None:
        """`retry_ratio=None` keeps no account and has retries without end."""
        bench = Bench(retry_ratio=None)
        bench.step(attempts=5, retries=5)

        assert tokens(bench) == math.inf
        assert bench.data.budget_used == 0

    def test_a_clock_that_goes_back_neither_fills_nor_holds_it(self) -> None:
        """After the store's clock was set back a day the bucket goes on from where it was."""
        bench = Bench(retry_floor=10)
        bench.step(retries=10)
        bench.later(-86_400.0)
        assert tokens(bench) == pytest.approx(9.0)
        bench.step(attempts=0, retries=1)
        bench.later(60.0)

        assert tokens(bench) == pytest.approx(17.9)

    @given(
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20_000)), max_size=60),
        st.sampled_from([0.0, 0.1, 0.5]),
        st.sampled_from([0, 10, 120]),
        st.integers(1, 30),
    )
    def test_the_law(self, turns: list[tuple[int, int]], ratio: float, floor: int, burst: int) -> None:
        """Who retries only while one is left never exceeds retry_burst + retry_ratio * first tries + retry_floor * minutes."""
        bench = Bench(retry_ratio=ratio, retry_floor=floor, retry_burst=burst)
        began, firsts, retries, budget_used = bench.now, 0, 0, 0
        for failing, passed in turns:
            ended = failing
            for _ in range(failing):
                if tokens_left(budget_used, bench.policy) >= 1:
                    retries += 1
                    budget_used = bench.step(retries=1).budget_used
                    ended += 1
            budget_used = bench.step(attempts=ended).budget_used
            firsts += failing
            bench.now += passed
            budget_used = bench.view().budget_used

        assert retries <= burst + ratio * firsts + floor * (bench.now - began) / 60_000


class TestProcess:
    async def test_it_does_not_overspend_between_replies(
        self, store: FragileStore, clock: ManualClock
    ) -> None:
        """Twenty retries are left: the process decides twenty before it hears again, and no more."""
        one = Agent(store, clock, policy=PATIENT)
        permit = await one.admit()
        granted = 0
        while one.breaker.may_retry("A") and granted < 100:
            retry(one, permit)
            granted += 1

        assert granted == 20
        assert store.steps == 1

    async def test_what_was_spent_is_told_once(self, store: FragileStore, clock: ManualClock) -> None:
        """The replies take the place of the process's own count: neither twice nor not at all."""
        one = Agent(store, clock, policy=PATIENT)
        retry(one, await one.admit(), 5)
        one.turn()
        assert one.breaker.views()["A"].retry_tokens == pytest.approx(14.5)
        one.turn()
        granted = 0
        while one.breaker.may_retry("A"):
            retry(one, await one.admit())
            granted += 1

        assert granted == 14

    async def test_other_processes_learn_of_it(self, store: FragileStore, clock: ManualClock) -> None:
        """What one process spent is missing in the next reply to another."""
        one, other = (Agent(store, clock, policy=PATIENT) for _ in range(2))
        await other.admit()
        retry(one, await one.admit(), 20)
        one.turn()
        assert other.breaker.may_retry("A") is True
        clock.advance(2.0)
        await other.admit()

        assert other.breaker.may_retry("A") is False

    async def test_what_two_processes_overdrew_is_made_up_first(
        self, store: FragileStore, clock: ManualClock
    ) -> None:
        """Both spend the same twenty: no process retries until first tries have paid for what is missing."""
        one, other = (Agent(store, clock, policy=PATIENT) for _ in range(2))
        for each in (one, other):
            await each.admit()
        for each in (one, other):
            retry(each, await each.admit(), 20)
        one.turn()
        other.turn()
        assert other.breaker.views()["A"].retry_tokens == pytest.approx(-22.0)
        for _ in range(229):
            one.breaker.settle(await one.admit(), FAILURE)
        one.turn()
        assert one.breaker.may_retry("A") is False
        one.breaker.settle(await one.admit(), FAILURE)
        one.turn()

        assert one.breaker.may_retry("A") is True

    async def test_every_attempt_pays_in(self, store: FragileStore, clock: ManualClock) -> None:
        """Successes, ignored ones and late ones: ten of them are a retry."""
        one = Agent(store, clock, policy=PATIENT)
        permit = await one.admit()
        retry(one, permit, 10)
        one.turn()
        for outcome in (Outcome.SUCCESS, Outcome.IGNORED, Outcome.FAILURE, Outcome.SUCCESS):
            one.breaker.settle(permit, outcome)
        one.turn()
        assert store.asked[-1].attempts == 4
        for _ in range(3):
            assert one.breaker.settle(Permit("A", -1, "", PATIENT), Outcome.SUCCESS) is True
        one.breaker.settle(permit, Outcome.SUCCESS)
        one.turn()

        assert store.asked[-1].attempts == 4
        assert one.breaker.views()["A"].retry_tokens == pytest.approx(9.8)

    async def test_results_that_a_move_made_late_pay_in(self, clock: ManualClock) -> None:
        """Results noted while a turn learns that the circuit moved count no more, but as attempts."""
        store = InterruptedStore(MemoryStore(clock=clock))
        one, other = (Agent(store, clock, policy=BreakerPolicy(retry_floor=0)) for _ in range(2))
        permit = await one.admit()
        await other.fail(5)
        one.breaker.settle(permit, Outcome.SUCCESS)
        store.meanwhile = lambda: retry(one, permit, 2, Outcome.SUCCESS)
        one.turn()
        assert (store.asked[-1].attempts, store.asked[-1].retries) == (1, 0)
        one.turn()

        assert (store.asked[-1].attempts, store.asked[-1].retries) == (2, 2)
        assert store.asked[-1].batches == ()

    async def test_a_retry_is_told_at_once(self, store: FragileStore, clock: ManualClock) -> None:
        """Also one that follows a result that counts for nothing, such as an unusable answer."""
        one = Agent(store, clock, policy=PATIENT)
        permit = await one.admit()
        one.breaker.settle(permit, Outcome.IGNORED)
        clock.advance(0.01)
        one.turn_if_due()
        assert store.steps == 1
        retry(one, permit, 1, Outcome.IGNORED)
        one.turn_if_due()

        assert store.steps == 2
        assert (store.asked[-1].attempts, store.asked[-1].retries) == (2, 1)

    async def test_the_bucket_fills_between_replies(self, store: FragileStore, clock: ManualClock) -> None:
        """A call that takes a minute finds what has been refilled since it began."""
        one = Agent(store, clock, policy=replace(PATIENT, retry_floor=10))
        retry(one, await one.admit(), 25)
        one.turn()
        permit = await one.admit()
        assert one.breaker.may_retry("A") is False
        clock.advance(51.1)
        assert one.breaker.may_retry("A") is True
        retry(one, permit, 2)

        assert one.breaker.may_retry("A") is False

    async def test_the_local_bucket_serves_while_the_store_is_away(
        self, store: FragileStore, clock: ManualClock
    ) -> None:
        """It begins with what the fleet had left; what was spent on it is not brought to the store afterwards."""
        one = Agent(store, clock, policy=PATIENT)
        retry(one, await one.admit(), 15)
        one.turn()
        store.error = OSError("gone")
        clock.advance(1.0)
        granted = 0
        while one.breaker.may_retry("A"):
            retry(one, await one.admit())
            granted += 1
        assert one.breaker.degraded is True
        assert granted == 3
        store.error = None
        clock.advance(5.0)
        one.turn()
        one.turn()
        await one.admit()

        assert one.breaker.degraded is False
        assert one.breaker.views()["A"].retry_tokens == pytest.approx(3.5)

    async def test_nothing_is_spent_twice_when_the_store_forgot(
        self, store: FragileStore, clock: ManualClock
    ) -> None:
        """A store that lost its memory has a full bucket, and this process has no debt left that no reply would clear."""
        one = Agent(store, clock, policy=PATIENT)
        permit = await one.admit()
        one.settle(
            permit, Outcome.IGNORED, cooldown=Cooldown(seconds=60.0, max_seconds=60.0, reason="rate_limit")
        )
        await other_move(one)
        retry(one, permit, 7)
        store.inner = MemoryStore(clock=clock)
        one.turn()
        one.turn()

        assert one.breaker._by_client["A"].retry_budget.unconfirmed == 0

    async def test_where_there_is_no_budget_every_retry_may_be_made(
        self, store: FragileStore, clock: ManualClock
    ) -> None:
        """A client that was never used, a breaker that is off, and `retry_ratio=None`."""
        one = Agent(store, clock, policy=replace(PATIENT, retry_ratio=None))
        off = Agent(store, clock, policy=replace(PATIENT, enabled=False))
        assert one.breaker.may_retry("never used") is True
        retry(one, await one.admit(), 100)
        retry(off, await off.admit(), 100)
        one.turn()

        assert one.breaker.may_retry("A") is True
        assert off.breaker.may_retry("A") is True
        assert one.breaker.views()["A"].retry_tokens == math.inf

    async def test_a_probe_s_retry_is_drawn_like_any_other(
        self, store: FragileStore, clock: ManualClock
    ) -> None:
        """Half-open and disabled too: the bucket does not ask how the circuit stands."""
        one = Agent(store, clock, policy=BreakerPolicy(open_jitter=0.0, open_for=2.0, retry_floor=0))
        await one.fail(5)
        clock.advance(5.0)
        probe = await one.admit()
        assert probe.probe is True
        one.settle(probe, Outcome.FAILURE, retry=True)
        await one.drive(one.breaker.operate("A", Operation.DISABLE, actor="ann"))
        one.turn()
        clock.advance(1.0)
        one.settle(await one.admit(), Outcome.FAILURE, retry=True)
        clock.advance(1.0)
        await one.admit()

        assert one.breaker.views()["A"].retry_tokens == pytest.approx(17.9)


async def other_move(one: Agent) -> None:
    """An order that gives the circuit an epoch, and its process a memory of it."""
    await one.drive(one.breaker.operate("A", Operation.CLOSE, actor="ann"))
    one.clock.advance(1.0)
    await one.admit()
