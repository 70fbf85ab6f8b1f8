"""How a circuit lets its traffic back in, cools down longer, counts refused requests, and cuts what a store returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.circuit_bench import Agent, Bench, FragileStore

from resilience.breaker import BreakerPolicy, CircuitState, Cooldown, Operation, Outcome
from resilience.breaker.ramp import REASON
from resilience.breaker.rejections import refuses_everything
from resilience.breaker.state import Bucket, Lease
from resilience.breaker.stores.memory import MemoryStore
from resilience.testing import ManualClock

STATED = Cooldown(seconds=3.0, max_seconds=300.0, reason="rate_limit")


def cooled() -> Bench:
    """Return a circuit whose cool-down has just ended."""
    bench = Bench()
    bench.cool(3)
    return bench.later(3)


def want(bench: Bench, wanted: int = 1000) -> int:
    return bench.step(wanted=wanted).admitted


class TestRamp:
    def test_steps_double_after_a_cool_down(self) -> None:
        """After a cool-down 1, 2, 4 ... attempts are admitted per 100 ms; what a step has left is asked for again and again."""
        bench, admitted = cooled(), []
        for _ in range(6):
            admitted.append(want(bench) + want(bench))
            bench.later(0.1)
        assert admitted == [1, 2, 4, 8, 16, 32]

    def test_steps_begin_at_four_after_a_closing(self) -> None:
        """After probes have closed the circuit the first step has four attempts."""
        bench = Bench()
        bench.half_open("t1")
        bench.succeed(lease="t1")
        assert [want(bench), want(bench.later(0.1)), want(bench.later(0.1))] == [4, 8, 16]

    def test_a_step_is_shared(self) -> None:
        """Processes get no more than they ask for, and together no more than the step has."""
        bench = cooled()
        want(bench)
        bench.later(0.2)
        assert [want(bench, 1), want(bench, 2), want(bench, 9), want(bench, 1)] == [1, 2, 1, 0]

    def test_begins_with_the_first_attempt(self) -> None:
        """A client that nothing asks for a minute after its cool-down is still asked by one attempt first."""
        bench = cooled().later(60)
        assert bench.view().ramp_ms == -1
        assert [want(bench), bench.view().ramp_ms, want(bench.later(0.03)), bench.view().ramp_ms] == [
            1,
            100,
            0,
            70,
        ]

    def test_is_over_after_two_seconds(self) -> None:
        """Two seconds after its first attempt there is no ramp, and nothing of it is kept."""
        bench = cooled()
        want(bench)
        assert bench.later(1.999).view().ramp_ms == 1
        assert bench.later(0.001).view().ramp_ms == 0
        assert (bench.data.ramp_first, bench.data.ramp_at) == (0, 0)

    def test_a_refusal_starts_again(self) -> None:
        """A refusal renews the cool-down: no attempt until its end, and then one."""
        bench = cooled()
        want(bench)
        want(bench.later(0.1))
        wait = bench.cool(3).cooldown_ms
        assert want(bench.later(0.1)) == 0
        assert want(bench.later(wait / 1000 - 0.1)) == 1

    @pytest.mark.parametrize("operation", [Operation.CLOSE, Operation.RESET, Operation.DISABLE])
    def test_an_operator_needs_none(self, operation: Operation) -> None:
        """An operator's order that admits calls admits all of them."""
        bench = cooled()
        bench.order(operation)
        assert bench.view().ramp_ms == 0

    def test_a_cool_down_that_outlives_an_opening_is_followed_by_its_own(self) -> None:
        """Where a cool-down is still running when the circuit closes, the ramp begins at its end, with one attempt."""
        bench = Bench(open_for=1.0)
        bench.half_open("t1")
        bench.cool(10)
        bench.succeed(lease="t1")
        assert want(bench) == 0
        assert want(bench.later(10)) == 1


class TestRepeatedWaits:
    def test_each_is_longer(self) -> None:
        """A stated wait that is refused again lasts open_growth times as long each time, up to its limit."""
        bench, waits = Bench(open_growth=1.5), []
        for _ in range(4):
            waits.append(bench.cool(100, max_seconds=300).cooldown_ms)
            want(bench.later(waits[-1] / 1000))
        assert waits == [100_000, 150_000, 225_000, 300_000]

    def test_a_success_starts_over(self) -> None:
        """After a success a stated wait has its own length again."""
        bench = cooled()
        want(bench)
        bench.succeed()
        assert bench.cool(3).cooldown_ms == 3000

    def test_those_in_flight_together_count_once(self) -> None:
        """Refusals during a cool-down, and after it before any attempt was admitted, belong to the cool-down before."""
        bench = Bench(open_growth=2.0)
        for _ in range(5):
            assert bench.cool(3).cooldown_ms == 3000
        assert bench.later(4).cool(3).cooldown_ms == 3000
        want(bench.later(3))
        assert bench.cool(3).cooldown_ms == 6000

    def test_another_reason_starts_over(self) -> None:
        """The growth of one reason says nothing about another."""
        bench = cooled()
        want(bench)
        assert bench.cool(5, doubling=True, reason="authentication").cooldown_ms == 5000


class TestRefusedRequests:
    def test_are_no_failures(self) -> None:
        """A row of refused requests opens no circuit and is not in the window."""
        reply = Bench().tell((Outcome.REJECTED, 200))
        assert (reply.state, reply.failures, reply.successes, reply.rejected) == (
            CircuitState.CLOSED,
            0,
            0,
            200,
        )

    @pytest.mark.parametrize("success", [Outcome.SUCCESS, Outcome.SLOW_SUCCESS])
    def test_a_success_ends_the_row(self, success: Outcome) -> None:
        """One success forgets the row, and how different its requests were."""
        bench = Bench()
        bench.tell((Outcome.REJECTED, 9))
        bench.step(rejected_functions=2, rejected_requests=5)
        reply = bench.tell((success, 1))
        assert (reply.rejected, reply.rejected_functions, reply.rejected_requests) == (0, 0, 0)

    def test_a_failure_does_not(self) -> None:
        """A failure is no sign that the client accepts requests."""
        bench = Bench()
        bench.tell((Outcome.REJECTED, 3), (Outcome.FAILURE, 1), (Outcome.REJECTED, 1))
        assert bench.view().rejected == 4

    def test_the_most_different_of_one_process_count(self) -> None:
        """Two processes that each make the same wrong request do not make it two requests."""
        bench = Bench()
        bench.tell((Outcome.REJECTED, 2))
        bench.step(rejected_functions=1, rejected_requests=1)
        bench.step(rejected_functions=1, rejected_requests=1)
        assert (bench.view().rejected_functions, bench.view().rejected_requests) == (1, 1)

    def test_a_probe_returns_its_lease(self) -> None:
        """A probe whose request is refused neither closes nor opens the circuit; its place is free again."""
        bench = Bench()
        bench.half_open("t1")
        reply = bench.tell((Outcome.REJECTED, 1), lease="t1")
        assert (reply.state, reply.late, reply.rejected) == (CircuitState.HALF_OPEN, 0, 1)
        assert bench.ask("t2").granted

    @pytest.mark.parametrize(
        ("row", "functions", "requests", "expected"),
        [(5, 2, 1, True), (5, 1, 3, True), (4, 9, 9, False), (99, 1, 2, False)],
    )
    def test_the_rule(self, row: int, functions: int, requests: int, expected: bool) -> None:  # noqa: FBT001
        """Five in a row, of two functions or three requests."""
        assert refuses_everything(row, functions, requests) is expected


FUTURE = 4_000_000_000_000


class TestPoison:
    @pytest.mark.parametrize(
        ("fields", "after"),
        [
            ({"state": CircuitState.OPEN, "state_until": FUTURE}, 22.0),
            ({"cooldown_until": FUTURE, "cooldown_reason": "rate_limit"}, 300.0),
            ({"closed_at": FUTURE}, 0.0),
            ({"ramp_first": 10**6, "ramp_at": FUTURE}, 2.0),
            ({"budget_used": 10**15}, 0.0),
        ],
    )
    def test_is_cut_to_the_policy(self, fields: dict[str, Any], after: float) -> None:
        """Whatever a store returns, a call or a probe is admitted at the latest when the policy's longest time is over."""
        bench = Bench(open_for=10.0, open_max=20.0, open_jitter=0.1)
        bench.data = replace(bench.data, epoch=bench.now, **fields)
        bench.view()
        bench.later(after)
        reply = bench.step(token="t1", wanted=1)  # noqa: S106 - the name of a lease
        assert reply.granted or (reply.state is CircuitState.CLOSED and not reply.cooldown_ms)
        assert bench.data.budget_used <= 60_000 * 120

    def test_results_and_leases_of_the_future_are_forgotten(self) -> None:
        """A bucket that begins in the future would stay in the window for ever, and a lease would hold its place."""
        bench = Bench()
        bench.data = replace(
            bench.data, buckets=(Bucket(FUTURE, 0, 900, 0, 900),), leases=(Lease("x", FUTURE),)
        )
        assert bench.view().failures == 0
        assert bench.data.leases[0].expiry <= bench.now + 60_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=1000.0)


@pytest.fixture
def store(clock: ManualClock) -> FragileStore:
    return FragileStore(MemoryStore(clock=clock))


@pytest.fixture
def agent(store: FragileStore, clock: ManualClock) -> Callable[..., Agent]:
    return lambda **more: Agent(store, clock, **more)


class TestProcesses:
    async def cool(self, one: Agent, clock: ManualClock) -> None:
        one.settle(await one.admit(), Outcome.IGNORED, cooldown=STATED)
        clock.advance(3.0)

    async def admitted(self, agents: list[Agent], calls: int) -> int:
        return sum([await one.refusal() is None for one in agents for _ in range(calls)])

    async def test_share_the_steps(self, agent: Callable[..., Agent], clock: ManualClock) -> None:
        """Four processes with twenty callers each admit 1, 2, 4 ... of them together, and each one's refusal names the next step."""
        fleet = [agent() for _ in range(4)]
        await self.cool(fleet[0], clock)
        seen = []
        for _ in range(4):
            seen.append(await self.admitted(fleet, 20))
            clock.advance(0.1)
        assert seen == [1, 2, 4, 8]
        for one in fleet:
            refusal = await one.refusal()
            if refusal is not None:
                assert refusal.reason == REASON
                assert 0 < (refusal.retry_after or 0) <= 0.1

    async def test_are_all_admitted_after_two_seconds(
        self, agent: Callable[..., Agent], clock: ManualClock
    ) -> None:
        """Two seconds after the first attempt every call is admitted, although no answer has come yet."""
        fleet = [agent() for _ in range(4)]
        await self.cool(fleet[0], clock)
        await self.admitted(fleet, 1)
        clock.advance(2.0)
        assert await self.admitted(fleet, 100) == 400

    async def test_ask_once_a_step(
        self, agent: Callable[..., Agent], clock: ManualClock, store: FragileStore
    ) -> None:
        """When a step has nothing left, a process refuses its callers without asking until the next step."""
        one = agent()
        await self.cool(one, clock)
        await one.refusal()
        await one.refusal()
        steps = store.steps
        assert await self.admitted([one], 50) == 0
        assert store.steps == steps

    async def test_without_the_store_have_a_ramp_of_their_own(
        self, agent: Callable[..., Agent], clock: ManualClock, store: FragileStore
    ) -> None:
        """A process whose store is away takes one step at a time by itself."""
        one = agent()
        await self.cool(one, clock)
        store.error = ConnectionError("away")
        one.turn()
        seen = []
        for _ in range(3):
            seen.append(await self.admitted([one], 20))
            clock.advance(0.1)
        assert seen == [1, 2, 4]

    async def test_say_whether_a_call_would_wait(
        self, agent: Callable[..., Agent], clock: ManualClock
    ) -> None:
        """While the step has nothing left the client is not free, so that a call with a backup goes there."""
        one = agent()
        await self.cool(one, clock)
        assert one.breaker.is_call_permitted("A")
        await self.admitted([one], 2)
        assert not one.breaker.is_call_permitted("A")
        clock.advance(0.1)
        assert one.breaker.is_call_permitted("A")

    async def test_know_refused_requests_of_each_other(
        self, agent: Callable[..., Agent], clock: ManualClock
    ) -> None:
        """The row is the fleet's: four refusals of one process and one of another, of different requests, are five."""
        one, two = agent(), agent()
        for number in range(4):
            assert not one.breaker.note_rejected("A", "F", bytes([number]))
            one.settle(await one.admit(), Outcome.REJECTED)
        one.turn()
        permit = await two.admit()
        assert two.breaker.note_rejected("A", "G", b"x")
        two.settle(permit, Outcome.REJECTED)
        two.settle(await two.admit(), Outcome.SUCCESS)
        two.turn()
        clock.advance(0.3)
        one.settle(await one.admit(), Outcome.REJECTED)
        assert not one.breaker.note_rejected("A", "F", b"y")

    def test_a_policy_may_allow_longer_cool_downs(self) -> None:
        """cooldown_max is the limit of a step, whatever a request asks for."""
        bench = Bench(cooldown_max=900.0)
        assert bench.cool(5000, max_seconds=5000).cooldown_ms == 5_000_000
        assert bench.view().cooldown_ms == 900_000
        assert BreakerPolicy().cooldown_max == 300.0
