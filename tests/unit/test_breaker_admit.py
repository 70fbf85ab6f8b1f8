"""Admit and settle, by one process and by a fleet of them over one store."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from support.circuit_bench import Agent, FragileStore

from resilience.breaker import Breaker, BreakerPolicy, CircuitState, Cooldown, Operation, Outcome, Permit
from resilience.breaker.local.namespace_sync import Listener
from resilience.breaker.local.probe_request import StoreWait
from resilience.breaker.local.sharing import StoreRegistry
from resilience.breaker.stores.memory import MemoryStore
from resilience.errors import CircuitOpenError, StoreError
from resilience.testing import ManualClock

QUICK = BreakerPolicy(open_for=2.0, open_jitter=0.0)
MakeAgent = Callable[..., Agent]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=1000.0)


@pytest.fixture
def store(clock: ManualClock) -> FragileStore:
    return FragileStore(MemoryStore(clock=clock))


@pytest.fixture
def agent(store: FragileStore, clock: ManualClock) -> MakeAgent:
    def make(policy: BreakerPolicy = QUICK, **more: Any) -> Agent:
        return Agent(store, more.pop("clock", clock), policy=policy, **more)

    return make


class TestClosed:
    async def test_a_fresh_view_costs_no_step_and_no_suspension(
        self, agent: MakeAgent, store: FragileStore
    ) -> None:
        """After the first call, `admit` returns within max_staleness without a step and without suspending."""
        one = agent()
        first = await one.admit()
        steps = store.steps
        call = one.breaker.admit("A")
        with pytest.raises(StopIteration) as done:
            call.send(None)

        assert done.value.value is first
        assert store.steps == steps

    async def test_successes_are_sent_together_and_later(
        self, agent: MakeAgent, store: FragileStore, clock: ManualClock
    ) -> None:
        """A thousand successes are sent as one run in one request, shortly before the view becomes stale."""
        one = agent()
        permit = await one.admit()
        for _ in range(1000):
            one.settle(permit)
        clock.advance(0.19)
        one.turn_if_due()
        assert store.steps == 1
        clock.advance(0.02)
        one.turn_if_due()

        assert store.steps == 2
        assert [batch.runs for batch in store.asked[-1].batches] == [((Outcome.SUCCESS, 1000),)]
        assert one.breaker.views()["A"].successes == 1000

    async def test_a_stale_view_costs_one_refresh_for_all_waiting_calls(
        self, agent: MakeAgent, store: FragileStore, clock: ManualClock
    ) -> None:
        """Fifty concurrent callers share one step when the view is too old to admit a call before its refresh."""
        one = agent()
        await one.admit()
        clock.advance(2.0)
        steps = store.steps

        async def fifty() -> list[Permit]:
            return await asyncio.gather(*(one.breaker.admit("A") for _ in range(50)))

        assert len(await one.drive(fifty())) == 50
        assert store.steps == steps + 1

    async def test_nobody_waits_for_the_view_of_a_clean_circuit(
        self, agent: MakeAgent, store: FragileStore, clock: ManualClock
    ) -> None:
        """A stale view of a circuit without a failure admits a call, which requests one refresh behind itself: none is made before it."""
        one = agent()
        await one.admit()
        clock.advance(1.0)
        steps = store.steps

        assert one.breaker.free_permit("A") is await one.breaker.admit("A") is one.breaker.admit_blocking("A")
        assert store.steps == steps
        clock.advance(0.025)
        one.turn_if_due()
        assert store.steps == steps + 1
        one.turn_if_due()
        assert store.steps == steps + 1

    async def test_the_view_of_a_clean_circuit_is_renewed_for_a_while(
        self, agent: MakeAgent, store: FragileStore, clock: ManualClock
    ) -> None:
        """After its last call a process looks twice a second for less than two seconds, so that its next calls know of an outage."""
        one, other = agent(), agent()
        one.settle(await one.admit())
        looks = []
        for _ in range(500):
            clock.advance(0.01)
            steps = store.steps
            one.turn_if_due()
            looks += [clock.monotonic()] * (store.steps - steps)
        assert 3 <= len(looks) <= 5
        assert max(after - before for before, after in itertools.pairwise(looks)) < 0.52
        assert one.breaker._circuits.due == math.inf

        one.settle(await one.admit())
        await other.fail(QUICK.consecutive_failures)
        clock.advance(0.51)
        one.turn_if_due()
        with pytest.raises(CircuitOpenError):
            await one.breaker.admit("A")

    async def test_views_that_calls_wait_for_are_not_renewed(
        self, agent: MakeAgent, store: FragileStore, clock: ManualClock
    ) -> None:
        """A circuit with a failure, and one whose views are never fresh, get no request that no call makes."""
        one, strict = agent(), agent(BreakerPolicy(max_staleness=0.0))
        await one.fail()
        one.turn()
        await strict.admit()
        assert [each.breaker._circuits.due for each in (one, strict)] == [math.inf, math.inf]

    async def test_a_call_waits_for_the_view_after_any_failure(
        self, agent: MakeAgent, store: FragileStore, clock: ManualClock
    ) -> None:
        """A stale view that shows a failure of any process, or follows one of this process, is refreshed before the call."""
        one, other = agent(), agent()
        await one.admit()
        await other.fail()
        one.settle(await one.admit(), Outcome.FAILURE, reason="timeout")
        one.turn()
        for each in (one, other):
            clock.advance(0.25)
            steps = store.steps
            assert each.breaker.free_permit("A") is None
            await each.admit()
            assert store.steps == steps + 1

    async def test_a_store_of_one_process_is_never_stale(
        self, store: FragileStore, clock: ManualClock
    ) -> None:
        """No other process writes to a `memory://` store, so a closed circuit admits calls without a step, however old its view."""
        registry = StoreRegistry(lambda: 0.5, Listener())
        circuits = registry.acquire("memory", lambda: store, None, clock, Listener(), private=True)  # type: ignore[arg-type, return-value]  # as a WholeStore
        one = Agent(circuits, clock)  # type: ignore[arg-type]  # circuits are taken as well as a store
        one.settle(await one.admit(), Outcome.FAILURE, reason="timeout")
        one.turn()
        clock.advance(3600.0)
        steps = store.steps

        assert one.breaker.free_permit("A") is not None
        assert store.steps == steps
        assert clock.monotonic() < one.breaker._circuits.due

    async def test_strict_mode_asks_before_every_call(self, agent: MakeAgent, store: FragileStore) -> None:
        """With max_staleness 0 each call is decided by the store."""
        one = agent(BreakerPolicy(max_staleness=0.0))
        for _ in range(3):
            await one.admit()

        assert store.steps == 3

    async def test_a_switched_off_breaker_touches_nothing(
        self, agent: MakeAgent, store: FragileStore
    ) -> None:
        """With enabled=False every call gets a permit, nothing is counted, and the store gets no step."""
        one = agent(BreakerPolicy(enabled=False))
        for _ in range(20):
            assert one.settle(await one.admit(), Outcome.FAILURE) is False

        assert store.steps == 0
        assert one.breaker.views() == {}

    async def test_a_call_may_bring_its_own_thresholds(self, agent: MakeAgent, store: FragileStore) -> None:
        """Results are judged by the policy of their permit; calls with equal policies share a permit."""
        one = agent()
        strict = BreakerPolicy(consecutive_failures=2)
        await one.admit()
        permit = await one.admit(policy=strict)
        assert await one.admit(policy=BreakerPolicy(consecutive_failures=2)) is permit
        one.settle(permit, Outcome.FAILURE, reason="network")
        assert one.breaker.views()["A"].state is CircuitState.CLOSED
        one.settle(permit, Outcome.FAILURE, reason="network")
        one.turn()

        assert one.breaker.views()["A"].state is CircuitState.OPEN

    async def test_a_client_may_have_its_own_policy(self, agent: MakeAgent) -> None:
        """A client that is named in `policies` has those thresholds; the others have the default."""
        one = agent(policies={"B": BreakerPolicy(consecutive_failures=1)})
        one.settle(await one.admit("B"), Outcome.FAILURE)

        assert (await one.refusal("B")) is not None
        assert one.breaker.policy_for("A") == QUICK

    async def test_results_under_two_policies_are_separate_requests(
        self, agent: MakeAgent, store: FragileStore
    ) -> None:
        """Unsent results are sent in order, with a new request wherever the policy changes."""
        one = agent()
        plain, strict = await one.admit(), await one.admit(policy=BreakerPolicy(min_calls=7))
        for permit in (plain, plain, strict, plain):
            one.breaker.settle(permit, Outcome.SUCCESS)
        one.turn()

        assert [request.policy.min_calls for request in store.asked[-3:] if request.policy] == [10, 7, 10]


class TestTrip:
    async def test_n_failures_open_for_the_very_next_call(self, agent: MakeAgent) -> None:
        """Failures are sent at once, so that the call after the N-th failure is refused."""
        one = agent()
        await one.fail(5)
        refusal = await one.refusal()

        assert refusal is not None
        assert (refusal.client, refusal.reason) == ("A", "timeout")
        assert refusal.retry_after == pytest.approx(2.1)
        assert one.breaker.is_call_permitted("A") is False

    async def test_a_call_behind_the_tripping_failure_waits_for_the_reply(
        self, agent: MakeAgent, store: FragileStore
    ) -> None:
        """If an unsent failure may open the circuit, the next call waits for the reply, although its view is fresh."""
        one = agent()
        await one.fail(4)
        permit = await one.admit()
        one.breaker.settle(permit, Outcome.FAILURE, reason="timeout")

        assert await one.refusal() is not None

    async def test_failures_of_all_processes_count_together(self, agent: MakeAgent) -> None:
        """Five processes with one failure each open the circuit for all (interlock counts per process: 176 admitted)."""
        fleet = [agent() for _ in range(5)]
        for one in fleet:
            await one.fail()

        assert [type(await one.refusal()) for one in fleet[-1:]] == [CircuitOpenError]
        one = agent()
        assert await one.refusal() is not None

    async def test_no_increment_is_lost_between_processes(self, agent: MakeAgent) -> None:
        """Interleaved results of many processes all count (purgatory loses trips: it judges a private copy)."""
        patient = BreakerPolicy(consecutive_failures=1000, min_calls=1000)
        fleet = [agent(patient) for _ in range(8)]
        permits = [await one.admit() for one in fleet]
        for turn in range(10):
            for one, permit in zip(fleet, permits, strict=True):
                one.breaker.settle(permit, Outcome.FAILURE if turn % 2 else Outcome.SUCCESS)
        for one in fleet:
            one.turn()
        view = await fleet[0].drive(fleet[0].breaker.refresh("A"))

        assert (view.successes, view.failures) == (40, 40)

    async def test_a_success_of_another_process_does_not_erase_failures(self, agent: MakeAgent) -> None:
        """If every other call fails, the failure rate opens the circuit without any failures in a row (pybreaker never opens)."""
        good, bad = agent(), agent()
        for _ in range(5):
            good.settle(await good.admit())
            good.turn()
            await bad.fail()

        assert await bad.refusal() is not None

    async def test_a_new_process_sees_open_before_its_first_call(self, agent: MakeAgent) -> None:
        """The first use of a circuit reads the shared state (interlock lets 50 of 50 through in its first second)."""
        await agent().fail(5)
        newcomer = agent()

        assert newcomer.breaker.is_call_permitted("A") is True
        assert await newcomer.refusal() is not None

    async def test_cancellations_neither_open_nor_reset(self, agent: MakeAgent) -> None:
        """Cancelled calls count nothing (purgatory opens on six; circuitbreaker's count restarts)."""
        one = agent()
        for _ in range(50):
            one.settle(await one.admit(), Outcome.IGNORED)
        await one.fail(4)
        one.settle(await one.admit(), Outcome.IGNORED)
        assert one.breaker.views()["A"].state is CircuitState.CLOSED
        await one.fail()

        assert one.breaker.views()["A"].state is CircuitState.OPEN


class TestLate:
    async def test_a_late_success_does_not_close(self, agent: MakeAgent) -> None:
        """A call from before the trip that succeeds while open changes nothing (aiobreaker-redis closes)."""
        one = agent()
        early = await one.admit()
        await one.fail(5)

        assert one.settle(early) is True
        assert await one.refusal() is not None

    async def test_a_late_failure_does_not_lengthen_the_opening(
        self, agent: MakeAgent, clock: ManualClock
    ) -> None:
        """OPEN lasts its 2.0 s although a failure comes in at 1.6 s (pybreaker: 2.6 to 3.2 s)."""
        one = agent(jitter_sample=0.0)
        early = await one.admit()
        await one.fail(5)
        clock.advance(1.6)
        assert one.settle(early, Outcome.FAILURE) is True
        clock.advance(0.4)

        assert (await one.admit()).probe is True

    async def test_a_late_failure_after_recovery_does_not_open_again(
        self, agent: MakeAgent, clock: ManualClock
    ) -> None:
        """One failure of a call from two epochs ago leaves the recovered circuit closed (purgatory re-opens)."""
        one = agent(jitter_sample=0.0)
        early = await one.admit()
        await one.fail(5)
        clock.advance(2.0)
        one.settle(await one.admit())
        await one.fail(4)

        assert one.settle(early, Outcome.FAILURE) is True
        assert one.breaker.views()["A"].state is CircuitState.CLOSED
        assert one.breaker.views()["A"].failures == 4

    async def test_a_result_is_late_by_another_process_s_move(self, agent: MakeAgent) -> None:
        """A result that is late by another process's transition is not counted by the store, although this process accepts it."""
        one, other = agent(), agent()
        permit = await one.admit()
        await other.fail(5)
        assert one.settle(permit, Outcome.FAILURE) is False

        view = await one.drive(one.breaker.refresh("A"))
        assert (view.state, view.failures) == (CircuitState.OPEN, 0)

    async def test_settling_what_was_never_admitted_here_is_harmless(self, agent: MakeAgent) -> None:
        """A permit of another breaker, or of a client not used here, is dropped."""
        assert agent().settle(Permit("unheard-of"), Outcome.FAILURE) is False


class TestHalfOpen:
    @pytest.mark.parametrize("allowed", [1, 3, 10])
    @pytest.mark.parametrize("outcome", [Outcome.FAILURE, Outcome.SUCCESS])
    async def test_a_fleet_sends_exactly_as_many_probes_as_allowed(
        self, agent: MakeAgent, clock: ManualClock, allowed: int, outcome: Outcome
    ) -> None:
        """Eight processes send exactly half_open_probes probes together (for 1: pybreaker 37 to 51, purgatory 33 to 39)."""
        policy = BreakerPolicy(
            open_for=2.0, open_jitter=0.0, half_open_probes=allowed, successes_to_close=allowed
        )
        fleet = [agent(policy, jitter_sample=0.0) for _ in range(8)]
        await fleet[0].fail(5)
        clock.advance(2.0)
        probes: list[tuple[Agent, Permit]] = []
        for _ in range(4 * allowed):
            for one in fleet:
                try:
                    probes.append((one, await one.admit()))
                except CircuitOpenError:
                    continue
            clock.advance(0.01)
        for one, permit in probes:
            one.settle(permit, outcome, reason="timeout")

        assert len(probes) == allowed
        assert all(permit.probe for _, permit in probes)
        state = (await fleet[0].drive(fleet[0].breaker.refresh("A"))).state
        assert state is (CircuitState.CLOSED if outcome is Outcome.SUCCESS else CircuitState.OPEN)

    async def test_a_probe_waits_for_its_lease_however_long_the_refresh_took(
        self, agent: MakeAgent, clock: ManualClock
    ) -> None:
        """A call that waited 40 ms for a refresh still waits for the reply to its probe request: the store decides who probes."""
        one, other = agent(jitter_sample=0.0), agent(jitter_sample=0.0)
        await one.admit()
        await other.fail(5)
        clock.advance(2.0)
        task = asyncio.ensure_future(one.breaker.admit("A"))
        for _ in range(2):
            await asyncio.sleep(0)
            clock.advance(0.4)
            one.turn()
            await asyncio.sleep(0)

        assert (await one.drive(asyncio.wait_for(task, 30.0))).probe is True

    async def test_a_probe_costs_one_round_trip(
        self, agent: MakeAgent, store: FragileStore, clock: ManualClock
    ) -> None:
        """After the end of an opening, one step grants the probe lease and refreshes the stale view."""
        one = agent(jitter_sample=0.0)
        await one.fail(5)
        clock.advance(600.0)
        steps = store.steps

        assert (await one.admit()).probe is True
        assert store.steps == steps + 1

    async def test_a_process_that_was_idle_refuses_no_call_for_its_old_view(
        self, agent: MakeAgent, store: FragileStore, clock: ManualClock
    ) -> None:
        """An idle process that last saw the circuit open admits twenty calls after one step: another process has closed it."""
        one, idle = agent(jitter_sample=0.0), agent(jitter_sample=0.0)
        await one.fail(5)
        assert await idle.refusal() is not None
        clock.advance(2.0)
        one.settle(await one.admit())
        clock.advance(600.0)
        steps = store.steps

        async def twenty() -> list[Permit]:
            return await asyncio.gather(*(idle.breaker.admit("A") for _ in range(20)))

        assert [permit.probe for permit in await idle.drive(twenty())] == [False] * 20
        assert store.steps == steps + 1

    async def test_one_process_asks_once_at_a_time(
        self, agent: MakeAgent, store: FragileStore, clock: ManualClock
    ) -> None:
        """Of twenty concurrent calls after an opening one requests a probe, and the others are refused without a step."""
        one = agent(jitter_sample=0.0)
        await one.fail(5)
        clock.advance(2.0)

        async def twenty() -> list[Permit | BaseException]:
            return await asyncio.gather(*(one.breaker.admit("A") for _ in range(20)), return_exceptions=True)

        results = await one.drive(twenty())
        assert sum(isinstance(result, Permit) for result in results) == 1
        assert sum(bool(request.token) for request in store.asked) == 1

    async def test_refusals_are_remembered(
        self, agent: MakeAgent, store: FragileStore, clock: ManualClock
    ) -> None:
        """While another process holds the lease, a hundred calls within half a second send one probe request, not a hundred."""
        holder, one = agent(jitter_sample=0.0), agent(jitter_sample=0.0)
        await holder.fail(5)
        clock.advance(2.0)
        assert (await holder.admit()).probe is True
        for _ in range(100):
            refusal = await one.refusal()
            assert refusal is not None
            assert refusal.retry_after is not None
            assert 0 < refusal.retry_after <= 1.0
            clock.advance(0.005)

        assert sum(bool(request.token) for request in store.asked) == 2

    async def test_a_cancelled_probe_gives_its_place_back(self, agent: MakeAgent, clock: ManualClock) -> None:
        """When a probe is cancelled, the next call gets a probe lease at once (interlock: never again)."""
        one = agent(jitter_sample=0.0)
        await one.fail(5)
        clock.advance(2.0)
        for _ in range(10):
            permit = await one.admit()
            assert permit.probe is True
            one.settle(permit, Outcome.IGNORED)
        one.settle(await one.admit())

        assert (await one.admit()).probe is False

    async def test_a_caller_cancelled_while_it_waits_for_a_lease_gives_it_back(
        self, agent: MakeAgent, store: FragileStore, clock: ManualClock
    ) -> None:
        """A caller that is cancelled before the reply, or after it but before it resumes, keeps no lease."""
        one = agent(jitter_sample=0.0)
        await one.fail(5)
        clock.advance(2.0)
        for replied in (False, True):
            clock.advance(1.0)
            task = asyncio.ensure_future(one.breaker.admit("A"))
            while not one.breaker._circuits.by_client["A"].probe_request:
                await asyncio.sleep(0)
                if not one.breaker._circuits.by_client["A"].probe_request:
                    one.turn_if_due()
            if replied:
                one.turn()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            one.turn_if_due()
            view = await one.drive(one.breaker.refresh("A"))
            assert view.state is CircuitState.HALF_OPEN
        assert (await one.admit()).probe is True

    async def test_a_killed_prober_holds_its_place_for_the_lease(
        self, agent: MakeAgent, clock: ManualClock
    ) -> None:
        """If a process dies with the only lease, the next probe is granted when the lease expires, though others keep asking."""
        policy = BreakerPolicy(open_for=2.0, open_jitter=0.0, probe_lease=3.0)
        victim, one = agent(policy, jitter_sample=0.0), agent(policy, jitter_sample=0.0)
        await victim.fail(5)
        clock.advance(2.0)
        await victim.admit()
        started = clock.monotonic()
        while (refusal := await one.refusal()) is not None:
            clock.advance(refusal.retry_after or 0.001)

        assert 3.0 <= clock.monotonic() - started <= 3.1

    async def test_a_probe_settled_twice_counts_once(self, agent: MakeAgent, clock: ManualClock) -> None:
        """The second result of one probe is late and changes nothing."""
        policy = BreakerPolicy(open_for=2.0, open_jitter=0.0, successes_to_close=2)
        one = agent(policy, jitter_sample=0.0)
        await one.fail(5)
        clock.advance(2.0)
        permit = await one.admit()

        assert [one.settle(permit), one.settle(permit)] == [False, True]
        assert one.breaker.views()["A"].state is CircuitState.HALF_OPEN

    async def test_wake_ups_are_spread(self, agent: MakeAgent, clock: ManualClock) -> None:
        """Each process waits up to a tenth longer than the opening, by a delay that it draws once, so that fleets do not wake in step."""
        early, late = agent(jitter_sample=0.0), agent(jitter_sample=1.0)
        await early.fail(5)
        for one in (early, late):
            await one.refusal()
        clock.advance(2.0)
        assert await late.refusal() is not None
        clock.advance(0.15)
        assert await late.refusal() is not None
        clock.advance(0.05)
        assert (await late.admit()).probe is True

    async def test_the_state_may_have_closed_while_asking(self, agent: MakeAgent, clock: ManualClock) -> None:
        """A probe request for a circuit that has closed in the meantime returns an ordinary permit."""
        fast, slow = (
            agent(BreakerPolicy(open_for=2.0, open_jitter=0.0, max_staleness=60.0), jitter_sample=0.0),
            agent(jitter_sample=0.0),
        )
        await fast.fail(5)
        clock.advance(2.0)
        slow.settle(await slow.admit())
        permit = await fast.admit()

        assert permit.probe is False
        assert fast.breaker.views()["A"].state is CircuitState.CLOSED


class TestCooldown:
    async def test_holds_here_at_once_and_everywhere_soon(self, agent: MakeAgent, clock: ManualClock) -> None:
        """After a stated wait this process refuses the next call, and other processes after their refresh, until the wait is over."""
        one, other = agent(jitter_sample=0.0), agent(jitter_sample=0.0)
        await other.admit()
        permit = await one.admit()
        one.breaker.settle(
            permit, Outcome.IGNORED, cooldown=Cooldown(seconds=3.0, max_seconds=300.0, reason="rate_limit")
        )
        assert one.breaker.is_call_permitted("A") is False
        with pytest.raises(CircuitOpenError, match="rate_limit") as refused:
            one.breaker._circuits.decide(one.breaker._circuits.by_client["A"], QUICK)
        one.turn_if_due()
        clock.advance(0.25)
        other.settle(
            await other.admit(), Outcome.IGNORED
        )  # its last view was clean, so this one call waits for no view
        clock.advance(0.025)
        other.turn_if_due()
        refusal = await other.refusal()

        assert refused.value.retry_after == pytest.approx(3.0)
        assert refusal is not None
        assert refusal.reason == "rate_limit"
        assert refusal.retry_after == pytest.approx(2.725)
        clock.advance(2.725)
        assert await other.refusal() is None

    async def test_a_shorter_one_changes_nothing(self, agent: MakeAgent) -> None:
        """A cool-down is not shortened by a shorter one."""
        one = agent(jitter_sample=0.0)
        permit = await one.admit()
        for seconds in (30.0, 1.0):
            one.settle(
                permit,
                Outcome.IGNORED,
                cooldown=Cooldown(seconds=seconds, max_seconds=300.0, reason="rate_limit"),
            )
        refusal = await one.refusal()

        assert refusal is not None
        assert refusal.retry_after == pytest.approx(30.0)

    async def test_many_at_once_are_sent_as_one(self, agent: MakeAgent, store: FragileStore) -> None:
        """Of eighty stated waits that are unsent together, only the longest is sent."""
        one = agent(jitter_sample=0.0)
        permit = await one.admit()
        for turn in range(80):
            cooldown = Cooldown(seconds=3.0 - turn / 100, max_seconds=300.0, reason="rate_limit")
            one.breaker.settle(permit, Outcome.IGNORED, cooldown=cooldown)
        one.turn_if_due()

        assert [given.seconds for _, given in store.asked[-1].cooldowns] == [3.0]

    @pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan])
    async def test_no_time_is_no_cool_down(
        self, agent: MakeAgent, store: FragileStore, seconds: float
    ) -> None:
        """A cool-down of zero, negative or NaN seconds refuses no call and is not sent."""
        one = agent()
        permit = await one.admit()
        one.settle(
            permit,
            Outcome.IGNORED,
            cooldown=Cooldown(seconds=seconds, max_seconds=300.0, reason="rate_limit"),
        )

        assert store.steps == 1
        assert one.breaker.is_call_permitted("A") is True

    async def test_a_guess_from_an_older_epoch_is_dropped(self, agent: MakeAgent) -> None:
        """After a RESET, a doubling cool-down of a call that began before it refuses no call."""
        one = agent()
        permit = await one.admit()
        await one.drive(one.breaker.operate("A", Operation.OPEN, actor="ann"))
        await one.drive(one.breaker.operate("A", Operation.RESET, actor="ann"))
        one.settle(
            permit,
            Outcome.IGNORED,
            cooldown=Cooldown(seconds=300.0, max_seconds=3600.0, doubling=True, reason="quota_exhausted"),
        )

        assert await one.refusal() is None

    async def test_the_longer_of_opening_and_cool_down_is_named(self, agent: MakeAgent) -> None:
        """If a circuit is open and cooling down, a refusal has the reason of whichever lasts longer."""
        one = agent(jitter_sample=0.0)
        permit = await one.admit()
        one.settle(
            permit, Outcome.IGNORED, cooldown=Cooldown(seconds=1.0, max_seconds=300.0, reason="rate_limit")
        )
        for _ in range(5):
            one.settle(permit, Outcome.FAILURE, reason="network")
        shorter = await one.refusal()
        one.settle(
            permit, Outcome.IGNORED, cooldown=Cooldown(seconds=60.0, max_seconds=300.0, reason="rate_limit")
        )
        longer = await one.refusal()

        assert [refusal.reason for refusal in (shorter, longer) if refusal] == ["network", "rate_limit"]


class TestOperators:
    async def test_an_order_reaches_every_process(self, agent: MakeAgent, clock: ManualClock) -> None:
        """An order of one process applies in all with the first call's refresh behind it, with its actor and reason; CLOSE ends it."""
        one, other = agent(), agent()
        await other.admit()
        view = await one.drive(one.breaker.operate("A", "open", actor="ann", reason="bill", seconds=None))
        clock.advance(0.25)
        other.settle(await other.admit(), Outcome.IGNORED)
        clock.advance(0.025)
        other.turn_if_due()
        refusal = await other.refusal()

        assert (view.state, view.actor, view.reason, view.until) == (
            CircuitState.FORCED_OPEN,
            "ann",
            "bill",
            math.inf,
        )
        assert refusal is not None
        assert (refusal.reason, refusal.retry_after) == ("forced_open", None)
        await one.drive(one.breaker.operate("A", "close", actor="ann"))
        clock.advance(0.25)
        assert await other.refusal() is None

    async def test_a_timed_order_ends_by_itself(self, agent: MakeAgent, clock: ManualClock) -> None:
        """When the time of a forced opening is over, calls are admitted again."""
        one = agent()
        await one.drive(one.breaker.operate("A", "open", actor="ann", seconds=10.0))
        refusal = await one.refusal()
        assert refusal is not None
        assert refusal.retry_after == pytest.approx(10.0)
        clock.advance(10.0)

        assert await one.refusal() is None

    async def test_the_end_of_an_order_is_found_by_asking(self, agent: MakeAgent, clock: ManualClock) -> None:
        """A call at the end of a timed order is admitted, even if the view would stay fresh for longer."""
        one = agent(BreakerPolicy(max_staleness=60.0))
        await one.admit()
        await one.drive(one.breaker.operate("A", "open", actor="ann", seconds=10.0))
        clock.advance(10.0)

        assert (await one.admit()).probe is False

    async def test_disabled_admits_and_counts_nothing(self, agent: MakeAgent) -> None:
        """A disabled circuit admits every call, despite failures and cool-downs."""
        one = agent()
        await one.drive(one.breaker.operate("A", Operation.DISABLE, actor="ann"))
        for _ in range(20):
            cooldown = Cooldown(seconds=9.0, max_seconds=300.0, reason="rate_limit")
            one.settle(await one.admit(), Outcome.FAILURE, cooldown=cooldown)

        assert one.breaker.is_call_permitted("A") is True
        assert one.breaker.views()["A"].state is CircuitState.DISABLED

    async def test_an_unknown_order_is_refused(self, agent: MakeAgent) -> None:
        """`operate` raises ValueError for a word that is no operation."""
        with pytest.raises(ValueError, match="melt"):
            await agent().breaker.operate("A", "melt", actor="ann")

    @pytest.mark.parametrize("seconds", [0.0, -5.0, math.nan, math.inf])
    async def test_an_order_lasts_a_real_time(self, agent: MakeAgent, seconds: float) -> None:
        """`operate` raises ValueError unless `seconds` is a positive, finite number or None."""
        with pytest.raises(ValueError, match=r"operate\.seconds"):
            await agent().breaker.operate("A", "open", actor="ann", seconds=seconds)

    async def test_an_operator_learns_of_a_store_that_fails(
        self, agent: MakeAgent, store: FragileStore
    ) -> None:
        """While the store fails, orders and the transition log raise StoreError: no order is carried out locally."""
        store.error = OSError("disk")
        one = agent()
        with pytest.raises(StoreError, match="disk"):
            await one.drive(one.breaker.operate("A", "open", actor="ann"))
        with pytest.raises(StoreError, match="disk"):
            await one.drive(one.breaker.transitions())


class TestStatus:
    async def test_peek_sees_all_circuits_and_touches_none(
        self, agent: MakeAgent, store: FragileStore
    ) -> None:
        """`peek` returns the circuits of the store, or those that were named, and writes nothing."""
        one, other = agent(), agent()
        await one.fail(5)
        log = store.inner.transitions()
        seen = await other.drive(other.breaker.peek())
        named = await other.drive(other.breaker.peek(["B"]))

        assert {client: view.state for client, view in seen.items()} == {"A": CircuitState.OPEN}
        assert named["B"].state is CircuitState.CLOSED
        assert store.inner.names() == ["A"]
        assert store.inner.transitions() == log
        assert other.breaker.views() == {}

    async def test_transitions_are_logged_once_and_reported_once(
        self, agent: MakeAgent, clock: ManualClock
    ) -> None:
        """The store logs each transition once, in order; on_transition is called for those of its own process."""
        one, other = agent(jitter_sample=0.0), agent(jitter_sample=0.0)
        await one.fail(5)
        clock.advance(2.0)
        other.settle(await other.admit())
        reported = await one.drive(one.breaker.transitions())
        rest = await one.drive(one.breaker.transitions(reported[0].cursor))

        assert [move.to_state.value for move in reported] == ["open", "half_open", "closed"]
        assert rest == reported[1:]
        assert [move.to_state.value for move in one.moves] == ["open"]
        assert [move.to_state.value for move in other.moves] == ["half_open", "closed"]
        assert one.breaker.degraded is False

    async def test_a_view_is_not_invented(self, agent: MakeAgent) -> None:
        """`refresh` raises StoreError if there is no view and the store does not answer in time."""
        one = agent(wait_budget=0.0)
        with pytest.raises(StoreError, match="in time"):
            await one.breaker.refresh("A")

    async def test_a_client_that_does_not_exist_yet_is_free(self, agent: MakeAgent) -> None:
        """`is_call_permitted` returns True for a client that was never used."""
        assert agent().breaker.is_call_permitted("new") is True


class TestClocks:
    @pytest.mark.parametrize("skew", [-3600.0, 60.0, 3600.0])
    async def test_clocks_of_processes_are_never_compared(
        self, store: FragileStore, clock: ManualClock, skew: float
    ) -> None:
        """A process whose clocks are off by an hour sees the same circuit (pybreaker at +60 s: 113 calls through OPEN)."""
        skewed_clock = ManualClock(start=5_000.0 + skew, epoch=1_700_000_000.0 + skew)
        one = Agent(store, clock, policy=QUICK, jitter_sample=0.0)
        skewed = Agent(store, skewed_clock, policy=QUICK, jitter_sample=0.0)
        await skewed.fail(5)
        for _ in range(19):
            assert await one.refusal() is not None
            assert await skewed.refusal() is not None
            clock.advance(0.1)
            skewed_clock.advance(0.1)
        clock.advance(0.101)
        skewed_clock.advance(0.101)

        assert (await skewed.admit()).probe is True
        assert await one.refusal() is not None


def test_an_interrupted_blocking_wait_does_not_lock_the_sync_thread() -> None:
    """Callers that block wait on one lock of the interpreter, and touch none that the sync thread needs to complete the wait."""
    waiting = StoreWait()
    condition, waiting._condition = waiting._condition, None  # type: ignore[assignment]  # every method of a Future takes it
    assert not waiting.latch.wait(0.0)
    waiting._condition = condition
    waiting.set_result(None)
    waiting._condition = None  # type: ignore[assignment]

    assert waiting.latch.wait(0.0)


def test_a_probe_while_the_store_is_away_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The offline circuit grants the lease within the call, so the caller does not use up its wait budget."""

    class Away(MemoryStore):
        def step(self, requests: Any) -> Any:
            raise StoreError

    clock = ManualClock(start=1000.0)
    policy = BreakerPolicy(consecutive_failures=1, open_for=2.0, open_jitter=0.0)
    breaker = Breaker(Away(), policy, clock=clock, wait_budget=60.0)
    breaker.settle(breaker.admit_blocking("A"), Outcome.FAILURE, reason="x")
    clock.advance(3.0)
    monkeypatch.setattr(
        "resilience.breaker.local.waiting.wait_blocking", lambda *_: pytest.fail("the call waited")
    )
    permit = breaker.admit_blocking("A")
    breaker.close()

    assert permit.token
