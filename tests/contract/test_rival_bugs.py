"""What other breakers get wrong, held against ours over every store: each test names the bug it would find.

Real breakers with their own threads, several on one store as the processes of a fleet are. The bugs that the other tests of circuits
cover already (probes, lost increments, skewed clocks, outages, forks) are not repeated here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.circuit_bench import Agent, FragileStore
from support.valkey_servers import Valkey

from resilience import BAMLErrorHandler, RetryPolicy, Settings
from resilience.breaker import Breaker, BreakerPolicy, CircuitState, Outcome, Permit, Store
from resilience.breaker.messages import Transition
from resilience.breaker.stores.memory import MemoryStore
from resilience.breaker.stores.sqlite import SQLiteStore
from resilience.errors import CircuitOpenError
from resilience.testing import ManualClock

FAST = BreakerPolicy(open_for=0.3, open_growth=1.0, open_jitter=0.0, max_staleness=0.0)
DEADLY = replace(FAST, probe_lease=1.0)
SLOW = replace(FAST, open_for=1.0)
LONG = replace(FAST, open_for=60.0)
_PATIENCE = 20.0

Make = Callable[..., Breaker]


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with Valkey() as running:
        yield running


@pytest.fixture(params=["memory", "sqlite", "valkey"])
def make(request: pytest.FixtureRequest, tmp_path: Path, valkey: Valkey) -> Iterator[Make]:
    """Makes breakers that share one store, as processes would."""
    memory = MemoryStore()
    stores: dict[str, Callable[[], Store]] = {
        "memory": lambda: memory,
        "sqlite": lambda: SQLiteStore(tmp_path / "circuits.db"),
        "valkey": lambda: valkey.store(tmp_path.name),
    }
    made: list[Breaker] = []

    def another(policy: BreakerPolicy = FAST, **more: Any) -> Breaker:
        made.append(Breaker(stores[request.param](), policy, wait_budget=_PATIENCE, **more))
        return made[-1]

    yield another
    for breaker in made:
        breaker.close()


def settle(breaker: Breaker, permit: Permit, outcome: Outcome) -> bool:
    """Settle, and wait until the store knows."""
    late = breaker.settle(permit, outcome, reason="timeout")
    assert breaker.flush(_PATIENCE)
    return late


async def open_it(breaker: Breaker, failures: int = 5) -> None:
    for _ in range(failures):
        settle(breaker, await breaker.admit("A"), Outcome.FAILURE)


async def probe(breaker: Breaker) -> Permit:
    """Ask until a probe is lent."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            try:
                return await breaker.admit("A")
            except CircuitOpenError:
                await asyncio.sleep(0.005)


async def state(breaker: Breaker) -> CircuitState:
    return (await breaker.peek(["A"]))["A"].state


class TestLateResults:
    """pybreaker, aiobreaker, asyncbreaker, flexinfer, circuit-breaker-box, ss-utils, purgatory, aiobreaker-redis."""

    async def test_a_late_failure_does_not_lengthen_the_opening(self, make: Make) -> None:
        """A call that began before the trip and fails while the circuit is open leaves its end where it was."""
        one, other = make(LONG), make(LONG)
        slow = await other.admit("A")
        await open_it(one)
        await asyncio.sleep(0.5)
        settle(other, slow, Outcome.FAILURE)
        found = (await one.peek(["A"]))["A"]
        left = found.until - time.monotonic()
        (move,) = await one.transitions()

        assert found.epoch == move.epoch
        assert left < 59.6

    async def test_a_late_success_does_not_close(self, make: Make) -> None:
        """A call that began before the trip and succeeds while the circuit is open is no recovery."""
        one, other = make(), make()
        slow = await other.admit("A")
        await open_it(one)
        settle(other, slow, Outcome.SUCCESS)

        assert await state(one) is CircuitState.OPEN

    async def test_late_failures_after_a_recovery_open_nothing(self, make: Make) -> None:
        """Five calls that began before the trip and fail after the recovery are not five failures in a row of today."""
        one, other = make(), make()
        slow = [await other.admit("A") for _ in range(5)]
        await open_it(one)
        settle(one, await probe(one), Outcome.SUCCESS)
        for permit in slow:
            settle(other, permit, Outcome.FAILURE)

        assert await state(one) is CircuitState.CLOSED

    async def test_a_late_result_is_told_to_its_caller(self, make: Make) -> None:
        """gobreaker#122: who settles a result that counts no more learns that it was late."""
        one = make()
        slow = await one.admit("A")
        await open_it(one)

        assert settle(one, slow, Outcome.SUCCESS) is True


class TestTripping:
    """purgatory, gobreaker, pybreaker, aiobreaker-redis."""

    async def test_failures_that_arrive_together_all_count(self, make: Make) -> None:
        """32 calls of four processes that were under way together and failed open the circuit for every next call."""
        fleet = [
            make(BreakerPolicy(consecutive_failures=32, min_calls=1000, max_staleness=0.0)) for _ in range(4)
        ]
        permits = [(each, await each.admit("A")) for each in fleet for _ in range(8)]
        for each, permit in permits:
            each.settle(permit, Outcome.FAILURE, reason="timeout")
        for each in fleet:
            assert each.flush(_PATIENCE)

        for each in fleet:
            with pytest.raises(CircuitOpenError):
                await each.admit("A")

    async def test_half_of_a_fleets_calls_failing_opens(self, make: Make) -> None:
        """Successes of one process do not erase the failures of another: at a failure rate of one half the circuit opens."""
        good, bad = make(), make()
        calls = 0
        while calls < 40 and await state(good) is CircuitState.CLOSED:
            settle(good, await good.admit("A"), Outcome.SUCCESS)
            settle(bad, await bad.admit("A"), Outcome.FAILURE)
            calls += 2

        assert await state(good) is CircuitState.OPEN
        assert calls <= 20

    async def test_new_thresholds_hold_at_once(self, make: Make) -> None:
        """A process deployed with a lower threshold trips by it, whatever those before it stored."""
        old = make(BreakerPolicy(consecutive_failures=50, min_calls=1000, max_staleness=0.0))
        new = make(BreakerPolicy(consecutive_failures=3, min_calls=1000, max_staleness=0.0))
        await open_it(old, failures=2)
        await open_it(new, failures=1)

        assert await state(old) is CircuitState.OPEN

    @pytest.mark.parametrize("seconds", [0.05, 0.4])
    async def test_an_opening_may_be_shorter_than_a_second(self, make: Make, seconds: float) -> None:
        """Stores that keep whole seconds open for none, or for a part of what was asked."""
        one = make(BreakerPolicy(open_for=seconds, open_jitter=0.0, max_staleness=0.0))
        await open_it(one)
        (move,) = await one.transitions()

        assert (move.to_state, move.wait_ms) == (CircuitState.OPEN, round(1000 * seconds))

    @pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/St_Johns"])
    async def test_the_machines_time_zone_means_nothing(
        self, make: Make, zone: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Off Greenwich a circuit opens for as long as in it; aiobreaker compares UTC with local time."""
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        one = make(LONG)
        await open_it(one)
        wait = (await one.peek(["A"]))["A"].until - time.monotonic()
        monkeypatch.undo()
        time.tzset()

        assert 0 < wait <= 60.0


class TestHalfOpen:
    """interlock-cb, flexinfer, asyncbreaker."""

    async def test_refused_callers_do_not_keep_a_dead_probe_alive(self, make: Make) -> None:
        """A probe whose process died is replaced after its lease, however often others ask meanwhile."""
        dead, alive = make(DEADLY), make(DEADLY)
        await open_it(dead)
        lost = await probe(dead)
        began = time.monotonic()
        asked = 0
        while not (got := await _ask(alive)):
            asked += 1
            assert time.monotonic() - began < _PATIENCE
            await asyncio.sleep(0.002)

        assert lost.probe
        assert got.probe
        assert asked > 2
        assert lost.token != got.token

    async def test_two_cancelled_probes_wedge_nothing(self, make: Make) -> None:
        """Each place that is given back can be lent again, in the same half-open."""
        one = make()
        await open_it(one)
        tokens = set()
        for _ in range(4):
            permit = await probe(one)
            tokens.add(permit.token)
            settle(one, permit, Outcome.IGNORED)
        settle(one, await probe(one), Outcome.SUCCESS)

        assert len(tokens) == 4
        assert await state(one) is CircuitState.CLOSED

    async def test_who_closed_it_may_call_at_once(self, make: Make) -> None:
        """The process whose probe succeeded is not refused its next call because the word has not come back yet."""
        one = make()
        await open_it(one)
        one.settle(await probe(one), Outcome.SUCCESS)
        permit = await one.admit("A")

        assert permit.probe is False

    async def test_a_process_that_slept_does_not_open_it_again(self, make: Make) -> None:
        """A process whose view still says open, woken in the middle of another's probe, is refused and changes nothing."""
        one, sleeper = make(SLOW), make(SLOW)
        await open_it(one)
        with pytest.raises(CircuitOpenError):
            await sleeper.admit("A")
        permit = await probe(one)
        with pytest.raises(CircuitOpenError):
            await sleeper.admit("A")
        during = await state(one)
        settle(one, permit, Outcome.SUCCESS)
        ordinary = await probe(sleeper)

        assert during is CircuitState.HALF_OPEN
        assert ordinary.probe is False
        assert [move.to_state for move in await one.transitions()] == ["open", "half_open", "closed"]


async def _ask(breaker: Breaker) -> Permit | None:
    try:
        return await breaker.admit("A")
    except CircuitOpenError:
        return None


async def test_a_result_from_before_a_flush_counts_in_no_other_life(valkey: Valkey) -> None:
    """interlock-cb's fence starts at 0 again with the key: a probe of the old life must not close the circuit of the new one."""
    old, new = (Breaker(valkey.store("lives"), FAST, wait_budget=_PATIENCE) for _ in range(2))
    await open_it(old)
    permit = await probe(old)
    with valkey.looking() as client:
        client.flushall()
    await open_it(new)
    settle(old, permit, Outcome.SUCCESS)
    stands = await state(new)
    old.close()
    new.close()

    assert stands is CircuitState.OPEN


async def test_guarded_calls_do_not_wait_for_each_other(make: Make) -> None:
    """All are inside at once; pybreaker holds a lock while the call runs, gobreaker one of the whole fleet."""
    fleet = [make() for _ in range(2)]
    barrier = asyncio.Barrier(16)

    async def call(breaker: Breaker) -> None:
        permit = await breaker.admit("A")
        async with asyncio.timeout(_PATIENCE):
            await barrier.wait()
        breaker.settle(permit, Outcome.SUCCESS)

    await asyncio.gather(*(call(breaker) for breaker in fleet for _ in range(8)))

    assert barrier.n_waiting == 0
    assert not barrier.broken


async def test_a_stalled_event_loop_is_no_outage_of_the_store(valkey: Valkey) -> None:
    """LiteLLM: a loop that stands still for longer than the store's timeout must not be taken for a store that does."""
    breaker = Breaker(valkey.store("stall"), FAST)
    await breaker.admit("A")
    waiting = [asyncio.ensure_future(breaker.admit("A")) for _ in range(8)]
    await asyncio.sleep(0)
    time.sleep(0.4)  # noqa: ASYNC251 - a loop that stands still is what this is about
    permits = await asyncio.gather(*waiting)
    degraded = breaker.degraded
    breaker.close()

    assert len(permits) == 8
    assert not degraded


async def test_five_hundred_callers_at_once_share_one_connection(valkey: Valkey) -> None:
    """redis.asyncio's pool fails 400 of 500 that come at once: no pool of ours is ever exhausted."""
    breaker = Breaker(valkey.store("crowd"), FAST, wait_budget=_PATIENCE)
    with valkey.looking() as client:
        before = {each["id"] for each in client.client_list()}
        permits = await asyncio.gather(*(breaker.admit(f"client-{n % 10}") for n in range(500)))
        lines = {each["id"] for each in client.client_list()} - before
    degraded = breaker.degraded
    await asyncio.to_thread(breaker.close)

    assert len(permits) == 500
    assert len(lines) == 1
    assert not degraded


async def test_no_cancellation_is_swallowed(make: Make) -> None:
    """redis-py loses a cancel() that lands while it sends: here a caller that is cancelled while it waits for the store is cancelled."""
    one = make()
    for turns in range(200):
        waiting = asyncio.ensure_future(one.admit("A"))
        for _ in range(1 + turns % 3):
            await asyncio.sleep(0)
        if waiting.done():
            continue
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


def test_one_breaker_serves_one_loop_after_the_other(make: Make) -> None:
    """A client of redis.asyncio belongs to the loop that used it first: the second gets "Event loop is closed"."""
    one = make()
    for _ in range(3):
        permit = asyncio.run(one.admit("A"))
        settle(one, permit, Outcome.FAILURE)
    seen = asyncio.run(one.peek(["A"]))["A"]

    assert seen.failures == 3
    assert not one.degraded


async def test_who_is_told_of_a_move_may_use_the_breaker(make: Make) -> None:
    """Gobreaker calls OnStateChange under its lock: a listener that looks at the circuit never returns."""
    seen: list[CircuitState | None] = []

    def look(_: Transition) -> None:
        seen.append(one.state("A"))
        one.settle(permit, Outcome.SUCCESS)

    one = make(on_transition=look)
    permit = await one.admit("A")
    await open_it(one)

    assert seen == [CircuitState.OPEN]


async def test_a_slow_trickle_of_failures_opens_nothing() -> None:
    """circuit-breaker-box counts failures that no success ends: here one in a hundred calls, for a day, is no outage."""
    clock = ManualClock(start=1000.0)
    one = Agent(FragileStore(MemoryStore(clock=clock)), clock)
    for _ in range(24 * 60):
        await one.fail()
        for _ in range(99):
            one.breaker.settle(await one.admit(), Outcome.SUCCESS)
        one.turn()
        clock.advance(60.0)

    assert one.moves == []


async def test_idle_circuits_cost_the_store_nothing() -> None:
    """interlock-cb polls for every breaker of every process: here 100 unused circuits send nothing in an hour."""
    clock = ManualClock(start=1000.0)
    store = FragileStore(MemoryStore(clock=clock))
    one = Agent(store, clock)
    for number in range(100):
        one.settle(await one.admit(f"client-{number}"))
    clock.advance(1.0)
    one.turn_if_due()
    reported = store.steps
    for _ in range(60):
        clock.advance(60.0)
        one.turn_if_due()

    assert reported > 0
    assert store.steps == reported


async def test_the_tripping_call_keeps_its_own_exception() -> None:
    """The failure that opens the circuit reaches its caller as it is; aiobreaker and asyncbreaker raise a refusal of their own."""
    raised: list[ConnectionError] = []
    caught: list[Exception] = []

    async def fail() -> None:
        raised.append(ConnectionError())
        raise raised[-1]

    settings = Settings(store_url="memory://", privacy="off")
    async with BAMLErrorHandler(settings=settings, retry=RetryPolicy(max_retries=0)) as handler:
        while len(caught) < 1000 and not any(isinstance(each, CircuitOpenError) for each in caught):
            try:
                await handler.call_with_retry(fail, "A", "F")
            except (ConnectionError, CircuitOpenError) as exc:
                caught.append(exc)
    *own, refusal = caught

    assert len(own) >= 5
    assert all(ours is theirs for ours, theirs in zip(raised, own, strict=True))
    assert isinstance(refusal, CircuitOpenError)
