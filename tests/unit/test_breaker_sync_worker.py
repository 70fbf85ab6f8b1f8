"""The sync worker: stores that fail, hang, lose their data and come back; threads, event loops and the exit."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import pytest
from support.circuit_bench import Agent, FragileStore

from resilience.breaker import (
    Breaker,
    BreakerPolicy,
    CircuitState,
    Cooldown,
    Operation,
    Outcome,
    Permit,
    Store,
)
from resilience.breaker.local.pending_request import complete, complete_waits
from resilience.breaker.local.probe_request import ProbeRequest, StoreWait
from resilience.breaker.local.uninformed import TRIAL_SECONDS
from resilience.breaker.messages import StepReply, StepRequest, Transition
from resilience.breaker.stores import connection_progress
from resilience.breaker.stores.memory import MemoryStore
from resilience.errors import CircuitOpenError, StoreError
from resilience.testing import ManualClock

QUICK = BreakerPolicy(open_for=2.0, open_jitter=0.0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=1000.0)


@pytest.fixture
def store(clock: ManualClock) -> FragileStore:
    return FragileStore(MemoryStore(clock=clock))


@pytest.fixture
def one(store: FragileStore, clock: ManualClock) -> Agent:
    return Agent(store, clock, policy=QUICK, jitter_sample=0.0)


def eventually(claim: Callable[[], bool], seconds: float = 120.0) -> None:
    """Poll until the claim holds."""
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.002)


class TestAway:
    async def test_callers_never_see_a_store_s_error(
        self, one: Agent, store: FragileStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Calls go on, the outage is logged once, and `degraded` is true (purgatory raises the store's error)."""
        store.error = ConnectionError("refused")
        for _ in range(50):
            one.settle(await one.admit())

        assert one.breaker.degraded is True
        assert one.breaker.views()["A"].shared is False
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "ConnectionError: refused" in caplog.text

    async def test_one_circuit_s_error_is_the_store_s(self, one: Agent, store: FragileStore) -> None:
        """A store that replies with an exception in place of one circuit counts as away."""
        store.single = MemoryError("OOM")
        await one.admit()

        assert one.breaker.degraded is True

    async def test_the_offline_circuit_continues_the_counts(self, one: Agent, store: FragileStore) -> None:
        """Failures counted before an outage count in it: the fifth opens the circuit, although the store never receives it."""
        await one.fail(4)
        store.error = OSError("gone")
        await one.fail(1, reason="overloaded")
        refusal = await one.refusal()

        assert refusal is not None
        assert refusal.reason == "overloaded"
        assert [move.shared for move in one.moves] == [False]

    async def test_the_offline_circuit_probes_and_recovers(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """Without a store a circuit still goes through all its states: open, one probe at a time, closed."""
        store.error = OSError("gone")
        await one.fail(5)
        clock.advance(2.0)
        probe = await one.admit()
        assert probe.probe is True
        assert await one.refusal() is not None
        one.settle(probe, Outcome.IGNORED)
        one.settle(await one.admit())

        assert one.breaker.views()["A"].state is CircuitState.CLOSED
        assert one.breaker.degraded is True

    async def test_what_was_open_stays_open(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """A circuit that was open when the store went away stays open until its time is over."""
        await one.fail(5)
        clock.advance(1.0)
        store.error = OSError("gone")
        refusal = await one.refusal()

        assert one.breaker.degraded is True
        assert refusal is not None
        assert refusal.retry_after == pytest.approx(1.0, abs=0.01)

    async def test_a_cool_down_outlives_the_store(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """A stated wait that was sent before the outage holds in it, and so does one stated during the outage."""
        one.settle(
            await one.admit(),
            Outcome.IGNORED,
            cooldown=Cooldown(seconds=9.0, max_seconds=300.0, reason="rate_limit"),
        )
        store.error = OSError("gone")
        clock.advance(1.0)
        assert await one.refusal() is not None
        permit = await one.admit("B")
        one.settle(
            permit, Outcome.IGNORED, cooldown=Cooldown(seconds=9.0, max_seconds=300.0, reason="rate_limit")
        )

        assert await one.refusal("B") is not None

    async def test_an_override_outlives_the_store(self, one: Agent, store: FragileStore) -> None:
        """A circuit that an operator forced open without an end stays forced open."""
        await one.drive(one.breaker.operate("A", Operation.OPEN, actor="ann"))
        store.error = OSError("gone")
        one.clock.advance(3600.0)
        refusal = await one.refusal()

        assert refusal is not None
        assert (refusal.reason, refusal.retry_after) == ("forced_open", None)

    async def test_half_open_continues_as_expired_open(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """Another process holds the lease when the store goes away: this process may probe as well."""
        other = Agent(store, clock, policy=QUICK, jitter_sample=0.0)
        await other.fail(5)
        clock.advance(2.0)
        await other.admit()
        assert await one.refusal() is not None
        store.error = OSError("gone")
        clock.advance(1.1)

        assert (await one.admit()).probe is True

    async def test_a_failed_batch_is_never_sent_again(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """Results of a sync that failed are sent at most once: they stay local, also after the store is back."""
        permit = await one.admit()
        store.error = TimeoutError("no answer, perhaps carried out")
        for _ in range(4):
            one.settle(permit, Outcome.FAILURE)
        store.error = None
        clock.advance(1.0)
        one.turn()

        assert one.breaker.degraded is False
        assert one.breaker.views()["A"].failures == 0
        assert not any(batch.runs for request in store.asked for batch in request.batches)

    async def test_retries_of_an_away_store_back_off(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """Retries follow after 0.05, 0.1, 0.2 s and so on, at most 1 s with this sample (2 s plus or minus a half)."""
        store.error = OSError("gone")
        await one.admit()
        waits = []
        for _ in range(8):
            due = one.breaker._circuits.due
            waits.append(round(due - clock.monotonic(), 3))
            clock.advance(waits[-1] + 1e-6)
            one.turn()

        assert waits == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
        assert store.steps == 9

    async def test_after_the_outage_the_store_counts(
        self, one: Agent, store: FragileStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """After the outage the state of the store replaces the local one, and results of offline permits are late."""
        caplog.set_level(logging.INFO, "resilience")
        store.error = OSError("gone")
        local = await one.admit("B")
        await one.fail(5)
        assert await one.refusal() is not None
        store.error = None
        clock.advance(1.0)
        one.turn()

        assert one.breaker.degraded is False
        assert await one.refusal() is None
        assert one.settle(local) is False
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]

    async def test_an_early_sync_keeps_the_time_of_the_retry(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """A sync with nothing to send while the store is away leaves the time of the next retry unchanged."""
        store.error = OSError("gone")
        await one.admit()
        one.turn()
        store.error = None
        clock.advance(1.0)
        one.turn_if_due()

        assert one.breaker.degraded is False

    async def test_circuits_first_used_in_an_outage_are_read_afterwards(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """After the outage no offline view decides any more, also if an operator's order reached the store first."""
        other = Agent(store, clock, policy=QUICK)
        await other.fail(5)
        store.error = OSError("gone")
        await one.admit("B")
        await one.admit("A")
        store.error = None
        await one.drive(one.breaker.operate("B", "disable", actor="ann"))

        assert one.breaker.degraded is False
        assert await one.refusal("A") is not None

    async def test_waiting_callers_are_released_when_the_store_fails(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """A failed sync of one circuit also releases the callers that wait for another: the offline circuits answer them."""
        await one.fail(5)
        await one.admit("B")
        clock.advance(2.0)
        circuits = one.breaker._circuits
        probe = asyncio.ensure_future(one.breaker.admit("A"))
        while not circuits.by_client["A"].probe_request:
            await asyncio.sleep(0)
            if not circuits.by_client["A"].probe_request:
                one.turn_if_due()
        with circuits.lock:
            pending = circuits.take_pending(clock.monotonic())
        waiting = asyncio.ensure_future(one.breaker.admit("B"))
        await asyncio.sleep(0)
        with circuits.lock:
            pending += circuits.on_store_error(pending, OSError("gone"), clock.monotonic())
        complete(pending, error=OSError("gone"))

        assert (await probe).probe is True
        assert (await waiting).probe is False

    async def test_a_withdrawn_lease_is_released_in_an_outage_too(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """A probe request withdrawn before the store failed is granted by the offline circuit, and the lease is released."""
        await one.fail(5)
        clock.advance(2.0)
        circuits, circuit = one.breaker._circuits, one.breaker._circuits.by_client["A"]
        request = circuits.request_probe(circuit, QUICK)
        assert isinstance(request, ProbeRequest)
        circuits.withdraw_probe(circuit, request)
        store.error = OSError("gone")
        one.turn()

        assert (await one.admit()).probe is True


class SlowLink:
    """Plays the sync thread of an agent by hand: a request is taken, time passes, and the reply arrives or does not."""

    def __init__(self, agent: Agent) -> None:
        self.circuits = agent.breaker._circuits
        self.clock = agent.clock
        self.store = agent.breaker._shared.namespace.store

    def send(self) -> None:
        with self.circuits.lock:
            self.sent_at = self.clock.monotonic()
            self.pending = self.circuits.take_pending(self.sent_at)
            self.circuits.begin_request(self.pending, self.sent_at)
        self.replies = [
            reply
            for reply in self.store.step([item.request for item in self.pending])
            if isinstance(reply, StepReply)
        ]

    def fall_silent(self, seconds: float = 1.1) -> None:
        """Let time pass without a reply, and let a caller judge that twice."""
        self.clock.advance(seconds)
        self.circuits.judge_silence()
        self.clock.advance(0.05)
        self.circuits.judge_silence()

    def receive(self) -> None:
        with self.circuits.lock:
            self.circuits.apply_replies(self.pending, self.replies, self.sent_at)
            released = self.circuits.end_sync()
        complete(self.pending, self.replies)
        complete_waits(released)


async def begin(work: Any) -> asyncio.Task[Any]:
    """Start a caller and let it come to its first wait."""
    task: asyncio.Task[Any] = asyncio.ensure_future(work)
    for _ in range(3):
        await asyncio.sleep(0)
    return task


class TestSlow:
    async def test_a_second_without_a_reply_is_an_outage_and_less_is_not(
        self, one: Agent, caplog: pytest.LogCaptureFixture
    ) -> None:
        """After 0.9 s without a reply the store is not away. After a second it is: one warning, and `degraded` is true."""
        await one.admit()
        one.clock.advance(0.3)
        task, link = await begin(one.breaker.admit("A")), SlowLink(one)
        link.send()
        link.fall_silent(0.9)
        assert one.breaker.degraded is False
        link.fall_silent(0.2)
        await task

        assert one.breaker.degraded is True
        assert [record.levelname for record in caplog.records] == ["WARNING"]

    async def test_a_stall_of_the_process_is_no_silence(self, one: Agent) -> None:
        """A process that did not run for five seconds gives the thread a moment to read the reply before it judges."""
        await one.admit()
        one.clock.advance(0.3)
        task, link = await begin(one.breaker.admit("A")), SlowLink(one)
        link.send()
        one.clock.advance(5.0)
        link.circuits.judge_silence()
        link.receive()
        await task

        assert one.breaker.degraded is False

    async def test_time_that_a_waiting_caller_did_not_run_is_not_counted(self, one: Agent) -> None:
        """Slices of a wait that end late say that the process was starved: only the rest of the time is the store's."""
        await one.admit()
        one.clock.advance(0.3)
        await begin(one.breaker.admit("A"))
        link = SlowLink(one)
        link.send()
        for _ in range(30):
            due = one.clock.monotonic() + 0.025
            one.clock.advance(0.1)
            link.circuits.note_stall(due)
            link.circuits.judge_silence()

        assert one.breaker.degraded is False

    async def test_the_limit_follows_the_round_trip(self, one: Agent) -> None:
        """A store that takes 0.8 s for each reply may take 1.6 s before it is away."""
        await one.admit()
        link = SlowLink(one)
        one.clock.advance(0.3)
        await begin(one.breaker.admit("A"))
        link.send()
        one.clock.advance(0.8)
        link.receive()
        one.clock.advance(0.3)
        await begin(one.breaker.admit("A"))
        link.send()
        link.fall_silent(1.4)
        assert one.breaker.degraded is False
        link.fall_silent(0.3)

        assert one.breaker.degraded is True

    async def test_parts_of_a_request_are_signs_of_life(self, one: Agent) -> None:
        """A request that connects and logs in may take longer than a second, if no part of it does; its longest part is the round trip."""
        await begin(one.breaker.admit("A"))
        link = SlowLink(one)
        link.send()
        for _ in range(3):
            one.clock.advance(0.8)
            link.circuits.judge_silence()
            with connection_progress.heard_by(one.breaker._shared.namespace._note_life):
                connection_progress.note()
        connection_progress.note()  # of no request: nothing listens
        link.fall_silent(0.4)
        assert one.breaker.degraded is False
        link.receive()

        assert link.circuits.silence.round_trips.seconds == pytest.approx(0.8)

    async def test_a_late_reply_informs_and_the_store_is_looked_at_at_once(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """A reply after a second of silence updates the local circuit, and the store is back with the next reply."""
        await one.admit()
        other = Agent(store, clock, policy=QUICK)
        await other.drive(other.breaker.operate("A", Operation.OPEN, actor="ann"))
        clock.advance(0.3)
        await begin(one.breaker.admit("A"))
        link = SlowLink(one)
        link.send()
        link.fall_silent()
        link.receive()

        assert one.breaker.degraded is True
        with pytest.raises(CircuitOpenError, match="forced_open"):
            await one.breaker.admit("A")
        one.turn_if_due()
        assert one.breaker.degraded is False

    async def test_a_due_probe_is_decided_here_when_the_store_falls_silent(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """No call is refused because the store is late: one local probe, whose lease a late reply takes over."""
        await one.fail(5)
        clock.advance(2.0)
        task = await begin(one.breaker.admit("A"))
        link = SlowLink(one)
        link.send()
        link.fall_silent()
        permit = await asyncio.wait_for(task, 30.0)
        assert permit.probe is True
        link.receive()
        one.turn_if_due()
        assert one.breaker.degraded is False
        assert one.settle(permit) is False
        one.turn_if_due()

        assert one.breaker.views()["A"].state is CircuitState.CLOSED
        assert (await Agent(store, clock, policy=QUICK).admit()).probe is False

    async def test_a_lease_of_a_local_probe_that_has_ended_is_released(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """A lease that a silent store granted does not wedge the circuit after the probe has ended."""
        await one.fail(5)
        clock.advance(2.0)
        task = await begin(one.breaker.admit("A"))
        link = SlowLink(one)
        link.send()
        link.fall_silent()
        one.settle(await asyncio.wait_for(task, 30.0), Outcome.IGNORED)
        link.receive()
        one.turn_if_due()

        assert (await Agent(store, clock, policy=QUICK).admit()).probe is True

    async def test_callers_that_wait_for_a_probe_request_share_its_reply(
        self, one: Agent, clock: ManualClock
    ) -> None:
        """Callers beside one that requests a lease wait for the reply. One that cannot wait is refused at once."""
        await one.fail(5)
        clock.advance(2.0)
        first, second = await begin(one.breaker.admit("A")), await begin(one.breaker.admit("A"))
        with pytest.raises(CircuitOpenError) as hurried:
            await one.breaker.admit("A", max_wait=0.0)
        assert not second.done()
        assert (await one.drive(asyncio.wait_for(first, 30.0))).probe is True
        with pytest.raises(CircuitOpenError) as refused:
            await one.drive(asyncio.wait_for(second, 30.0))

        assert (hurried.value.pending, refused.value.pending) == (True, False)


class TestUninformed:
    @pytest.fixture
    async def link(self, one: Agent) -> SlowLink:
        """The first request of the process, which gets no reply yet."""
        self.first = await begin(one.breaker.admit("A"))
        link = SlowLink(one)
        link.send()
        return link

    async def test_it_makes_one_attempt_at_a_time(self, one: Agent, link: SlowLink) -> None:
        """Of ten callers of an uninformed process one is admitted; the others wait, and all go after its success."""
        callers = [self.first, *[await begin(one.breaker.admit("A")) for _ in range(9)]]
        link.fall_silent()
        await asyncio.wait(callers, timeout=30.0, return_when=asyncio.FIRST_COMPLETED)
        for _ in range(5):
            await asyncio.sleep(0)
        (admitted,) = [task for task in callers if task.done()]
        assert one.breaker.is_call_permitted("A") is False
        with pytest.raises(CircuitOpenError):
            await one.breaker.admit("A", max_wait=0.0)
        one.breaker.settle(admitted.result(), Outcome.SUCCESS)

        assert len(await asyncio.wait_for(asyncio.gather(*callers), 30.0)) == 10
        assert one.breaker.is_call_permitted("A") is True

    async def test_a_success_does_not_end_it_while_a_reply_is_due(self, one: Agent, link: SlowLink) -> None:
        """Before a store that is alive has replied, successes do not lift the limit of three attempts. Its silence does."""
        one.breaker._wait_budget = 0.0
        self.first.cancel()
        circuits, circuit = one.breaker._circuits, one.breaker._circuits.get("A", QUICK)
        for _ in range(3):
            permit = circuits.decide(circuit, QUICK)
            assert isinstance(permit, Permit)
            one.breaker.settle(permit, Outcome.SUCCESS)
        waits = circuits.decide(circuit, QUICK)
        assert isinstance(waits, StoreWait)
        assert one.breaker.is_call_permitted("A") is False
        link.fall_silent()

        assert waits.done()
        assert circuit.trial is None
        assert isinstance(circuits.decide(circuit, QUICK), Permit)

    async def test_a_look_that_does_not_end_delays_calls_by_three_seconds(
        self, one: Agent, link: SlowLink, clock: ManualClock
    ) -> None:
        """A server that accepts connections and hangs up is never silent. The first call waits a second, all together three."""
        self.first.cancel()
        waits = []

        def admit() -> Permit:
            """Admit a call whose waits are in vain, while the server gives signs of life."""
            admission = one.breaker._admission("A", None, clock.monotonic(), max_wait=math.inf)
            try:
                while True:
                    _, seconds = next(admission)
                    waits.append(seconds)
                    assert len(waits) < 20
                    for _ in range(10):
                        clock.advance(seconds / 10)
                        link.circuits.silence.note_life(clock.monotonic())
            except StopIteration as stop:
                permit: Permit = stop.value
                return permit

        for _ in range(5):
            one.breaker.settle(admit(), Outcome.IGNORED)  # the callers are cancelled

        assert waits == pytest.approx([1.0, 0.05, 0.05, 0.05, 1.85, 0.05])
        assert one.breaker.degraded is False
        assert one.breaker.is_call_permitted("A") is True

    async def test_it_makes_three_attempts_during_its_first_look(
        self, one: Agent, link: SlowLink, clock: ManualClock
    ) -> None:
        """After three attempts others wait for the look. When it takes longer than any connection they go on, one at a time."""
        self.first.cancel()
        circuits, circuit = one.breaker._circuits, one.breaker._circuits.get("A", QUICK)
        for _ in range(3):
            permit = circuits.decide(circuit, QUICK)
            assert isinstance(permit, Permit)
            one.breaker.settle(permit, Outcome.FAILURE, reason="timeout")
        others = [circuits.decide(circuit, QUICK) for _ in range(2)]
        clock.advance(circuits.trial_wait(circuit) - 0.01)
        circuits.end_look_wait()
        assert [isinstance(other, StoreWait) and other.done() for other in others] == [False, False]
        clock.advance(0.01)
        circuits.end_look_wait()

        assert [isinstance(other, StoreWait) and other.done() for other in others] == [True, True]
        assert isinstance(circuits.decide(circuit, QUICK), Permit)
        assert isinstance(circuits.decide(circuit, QUICK), StoreWait)
        assert circuits.trial_wait(circuit) == TRIAL_SECONDS

    async def test_a_second_in_which_the_process_did_not_run_is_none(
        self, one: Agent, clock: ManualClock
    ) -> None:
        """A slice of a wait that ends late puts the end of the time for the first look off."""
        circuits = one.breaker._circuits
        assert circuits.look_wait() == 1.0
        due = clock.monotonic() + 0.025
        clock.advance(1.025)
        circuits.note_stall(due)

        assert circuits.look_wait() == pytest.approx(0.975)

    async def test_a_late_reply_ends_it(self, one: Agent, store: FragileStore, link: SlowLink) -> None:
        """Callers that wait for an attempt are decided by the reply when it comes, however late."""
        other = Agent(store, one.clock, policy=QUICK)
        await other.fail(5)
        with one.breaker._circuits.lock:
            link.replies = [
                reply for reply in store.step([link.pending[0].request]) if isinstance(reply, StepReply)
            ]
        link.fall_silent()
        await asyncio.wait_for(self.first, 30.0)
        waiting = await begin(one.breaker.admit("A"))
        link.receive()

        with pytest.raises(CircuitOpenError):
            await asyncio.wait_for(waiting, 30.0)

    async def test_an_attempt_without_an_end_gives_its_place_to_another(
        self, one: Agent, link: SlowLink
    ) -> None:
        """After five seconds without an outcome another caller may try."""
        link.fall_silent()
        await asyncio.wait_for(self.first, 30.0)
        one.clock.advance(5.0)

        assert (await one.breaker.admit("A")).probe is False

    async def test_what_it_counts_before_the_first_reply_is_not_lost(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """A failure of a permit that was given before the epoch was known counts in the epoch that the store replies."""
        other = Agent(store, clock, policy=QUICK)
        await other.drive(other.breaker.operate("A", Operation.OPEN, actor="ann"))
        await other.drive(other.breaker.operate("A", Operation.CLOSE, actor="ann"))
        one.breaker._wait_budget = 0.0
        circuits = one.breaker._circuits
        circuit = circuits.get("A", QUICK)
        permit = circuits.decide(circuit, QUICK)
        assert isinstance(permit, Permit)
        one.settle(permit, Outcome.FAILURE, reason="timeout")
        one.turn_if_due()

        assert one.breaker.views()["A"].failures == 1

    async def test_the_first_look_reads_the_whole_namespace(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """After the first sync every circuit of the store is known, before any client is used."""
        other = Agent(store, clock, policy=QUICK)
        await other.fail(5)
        one.breaker.start()
        one.turn_if_due()
        steps = store.steps
        with pytest.raises(CircuitOpenError):
            await one.breaker.admit("A")

        assert store.steps == steps

    async def test_a_client_used_during_the_first_look_is_decided_by_its_replies(
        self, one: Agent, store: FragileStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Names without replies inform of nothing: a client first used between the two has one attempt in flight, until the replies."""
        other = Agent(store, clock, policy=QUICK)
        await other.fail(5)
        circuits, answer = one.breaker._circuits, store.step
        meanwhile: list[Permit | StoreWait | None] = []

        def step(requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]:
            meanwhile.extend(circuits.decide(circuits.get("A", QUICK), QUICK) for _ in range(2))
            return answer(requests)

        with monkeypatch.context() as patch:
            patch.setattr(store, "step", step)
            one.breaker.start()
            one.turn()

        assert [type(found) for found in meanwhile] == [Permit, StoreWait]
        assert [found.done() for found in meanwhile if isinstance(found, StoreWait)] == [True]
        with pytest.raises(CircuitOpenError):
            circuits.decide(circuits.get("A", QUICK), QUICK)

    async def test_a_first_look_that_fails_is_made_again(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """Names that came before an error of the store are no look: every circuit is read when the store is back."""
        other = Agent(store, clock, policy=QUICK)
        await other.fail(5)
        store.error = OSError("gone")
        one.breaker.start()
        one.turn()
        store.error = None
        clock.advance(0.2)
        one.turn_if_due()
        steps = store.steps

        assert await one.refusal() is not None
        assert store.steps == steps

    async def test_callers_wait_for_the_whole_first_look(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """The reply about another client is no reason to wait less: a second may pass, and three round trips once all circuits are read."""
        circuits = one.breaker._circuits
        circuits.silence.round_trips.note(0.1)
        circuits.first_sync_ended = True
        circuit = circuits.get("A", QUICK)
        before = one.breaker._refresh_wait(circuit, clock.monotonic())
        circuits.looked = True

        assert before == 1.0
        assert one.breaker._refresh_wait(circuit, clock.monotonic()) == pytest.approx(0.3)

    async def test_an_old_first_look_still_says_what_was_forbidden(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """An order that the first look showed is obeyed when the store is away at the first use of the client."""
        other = Agent(store, clock, policy=QUICK)
        await other.drive(other.breaker.operate("A", Operation.OPEN, actor="ann"))
        one.breaker.start()
        one.turn_if_due()
        clock.advance(60.0)
        store.error = OSError("gone")

        assert await one.refusal() is not None


def snapshot(store: Store, clock: ManualClock) -> MemoryStore:
    """Return a store with a snapshot of *store*, as a backup would restore it."""
    assert isinstance(store, MemoryStore)
    copy = MemoryStore(clock=clock)
    copy._circuits, copy._log, copy._logged = deepcopy((store._circuits, store._log, store._logged))
    return copy


class TestForgetful:
    @pytest.fixture
    def flush_store(self, store: FragileStore, clock: ManualClock) -> Callable[[], None]:
        def flush_store() -> None:
            store.inner = MemoryStore(clock=clock)

        return flush_store

    async def test_an_open_circuit_is_restored(
        self, one: Agent, store: FragileStore, clock: ManualClock, flush_store: Callable[[], None]
    ) -> None:
        """An emptied store gets the opening back with its remaining time (pybreaker: a flush closes everything)."""
        await one.fail(5)
        clock.advance(0.5)
        flush_store()
        assert await one.refusal() is not None
        newcomer = Agent(store, clock, policy=QUICK)
        refusal = await newcomer.refusal()

        assert refusal is not None
        assert refusal.reason == "timeout"
        assert refusal.retry_after == pytest.approx(1.5, abs=0.2)
        assert [move.rule.value for move in store.inner.transitions()] == ["restored"]

    async def test_overrides_and_cool_downs_are_restored(
        self, one: Agent, store: FragileStore, clock: ManualClock, flush_store: Callable[[], None]
    ) -> None:
        """An operator's orders and stated waits survive a flush of the store."""
        await one.drive(one.breaker.operate("A", "open", actor="ann", reason="bill"))
        await one.drive(one.breaker.operate("C", "disable", actor="ann", seconds=600.0))
        await one.drive(one.breaker.operate("B", "open", actor="ann"))
        await one.drive(one.breaker.operate("B", "close", actor="ann"))
        one.settle(
            await one.admit("B"),
            Outcome.IGNORED,
            cooldown=Cooldown(seconds=60.0, max_seconds=300.0, reason="rate_limit"),
        )
        flush_store()
        clock.advance(0.3)
        for client in "ABC":
            await one.refusal(client)
        seen = await one.drive(one.breaker.peek())

        assert {client: view.state.value for client, view in seen.items()} == {
            "A": "forced_open",
            "B": "closed",
            "C": "disabled",
        }
        assert (seen["A"].actor, seen["A"].reason) == ("ann", "bill")
        assert seen["B"].cooldown_reason == "rate_limit"

    async def test_what_an_old_copy_lacks_is_restored(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """A store that restarts with a copy of a minute ago gets back what was opened, ordered and ended since."""
        for client, operation in (("A", "close"), ("B", "close"), ("C", "open"), ("D", "disable")):
            await one.drive(one.breaker.operate(client, operation, actor="ann"))
        copy = snapshot(store.inner, clock)
        clock.advance(60.0)
        await one.fail(5)
        for client, operation in (("B", "open"), ("C", "close")):
            await one.drive(one.breaker.operate(client, operation, actor="bob", reason="bill"))
        store.inner = copy
        clock.advance(0.3)
        for client in "ABCD":
            await one.refusal(client)
        seen = await one.drive(one.breaker.peek())
        restored = [move for move in copy.transitions() if move.rule == "restored"]

        assert {client: view.state.value for client, view in seen.items()} == {
            "A": "open",
            "B": "forced_open",
            "C": "closed",
            "D": "disabled",
        }
        assert (seen["B"].actor, seen["B"].reason) == ("bob", "bill")
        assert sorted(move.client for move in restored) == ["A", "B", "C"]

    async def test_an_old_copy_is_restored_once(
        self, one: Agent, store: FragileStore, clock: ManualClock
    ) -> None:
        """Only the first process restores a circuit, also if the store's clock went back together with its data."""
        fleet = [Agent(store, clock, policy=QUICK) for _ in range(4)]
        await one.drive(one.breaker.operate("A", "close", actor="ann"))
        copy = snapshot(store.inner, ManualClock(epoch=clock.time() - 3600.0))
        await one.drive(one.breaker.operate("A", "open", actor="ann"))
        for each in fleet:
            assert await each.refusal() is not None
        store.inner = copy
        clock.advance(0.3)
        for each in fleet * 2:
            assert await each.refusal() is not None

        assert [move.rule.value for move in copy.transitions()] == ["operator", "restored"]

    async def test_half_open_is_restored_as_expired_open(
        self, one: Agent, clock: ManualClock, flush_store: Callable[[], None]
    ) -> None:
        """A flush does not close a half-open circuit: the next caller probes again."""
        await one.fail(5)
        clock.advance(2.0)
        await one.admit()
        flush_store()
        clock.advance(2.0)
        assert await one.refusal() is not None
        clock.advance(1.0)

        assert (await one.admit()).probe is True

    async def test_an_operator_s_close_is_not_undone_by_other_processes(
        self, one: Agent, store: FragileStore, clock: ManualClock, flush_store: Callable[[], None]
    ) -> None:
        """After a flush an order to close counts, although every process remembers the opening."""
        other = Agent(store, clock, policy=QUICK)
        await one.drive(one.breaker.operate("A", "open", actor="ann"))
        await other.refusal()
        flush_store()
        await one.drive(one.breaker.operate("A", "close", actor="ann"))
        clock.advance(0.3)

        assert await other.refusal() is None
        assert await one.refusal() is None

    async def test_a_closed_circuit_needs_no_restoration(
        self, one: Agent, store: FragileStore, clock: ManualClock, flush_store: Callable[[], None]
    ) -> None:
        """After a flush a recovered circuit is closed, and results of the lost epoch are late."""
        await one.fail(5)
        clock.advance(2.0)
        one.settle(await one.admit())
        permit = await one.admit()
        flush_store()
        clock.advance(0.3)
        await one.admit()

        assert one.settle(permit, Outcome.FAILURE) is True
        assert store.inner.transitions() == []


class TestThread:
    @pytest.fixture
    def breakers(self) -> Iterator[list[Breaker]]:
        made: list[Breaker] = []
        yield made
        for breaker in made:
            breaker.close()

    async def test_no_thread_before_first_use_and_one_afterwards(self, breakers: list[Breaker]) -> None:
        """Creating a breaker starts no thread. Using many circuits starts one, which `close` ends."""
        before = set(threading.enumerate())  # threads of earlier tests may end meanwhile
        breakers.append(Breaker(MemoryStore()))
        assert set(threading.enumerate()) <= before
        for client in "ABCDEF":
            breakers[0].settle(await breakers[0].admit(client), Outcome.FAILURE)
        assert len(set(threading.enumerate()) - before) == 1
        breakers[0].close()

        eventually(lambda: set(threading.enumerate()) <= before)

    async def test_a_hung_store_blocks_no_call(self, breakers: list[Breaker]) -> None:
        """Calls are admitted within their wait budget while the store does not reply at all."""
        hung = threading.Event()
        store = HungStore(hung)
        breakers.append(Breaker(store, QUICK))
        try:
            for _ in range(20):
                permit = await breakers[0].admit("A")
                breakers[0].settle(permit, Outcome.SUCCESS)
            assert store.entered.is_set()
            assert breakers[0].flush(0.01) is False
        finally:
            hung.set()

    async def test_works_from_several_loops_and_threads_at_once(self, breakers: list[Breaker]) -> None:
        """Eight threads with an event loop each share one breaker: every result is counted once."""
        breakers.append(
            Breaker(MemoryStore(), BreakerPolicy(min_calls=1_000_000, consecutive_failures=1_000_000))
        )

        async def many() -> None:
            for turn in range(200):
                permit = await breakers[0].admit("A")
                breakers[0].settle(permit, Outcome.FAILURE if turn % 4 == 0 else Outcome.SUCCESS)
                await asyncio.sleep(0)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: asyncio.run(many()), range(8)))
        assert breakers[0].flush(20.0) is True
        view = await breakers[0].refresh("A")

        assert (view.failures, view.successes) == (400, 1200)

    async def test_everything_settled_is_sent_at_close(self) -> None:
        """`close` sends everything and closes the store once; a second `close` does nothing."""
        inner = MemoryStore()
        store = FragileStore(inner)
        breaker = Breaker(store)
        permit = await breaker.admit("A")
        for _ in range(123):
            breaker.settle(permit, Outcome.SUCCESS)
        breaker.close()
        breaker.close()
        reply = inner.step([StepRequest(client="A")])[0]

        assert isinstance(reply, StepReply)
        assert reply.successes == 123
        assert store.closed == 1

    async def test_after_close_calls_are_decided_alone(self) -> None:
        """A closed breaker still admits, counts and opens for its own process; operators' orders raise."""
        breaker = Breaker(MemoryStore(), QUICK)
        await breaker.admit("A")
        breaker.close()
        for client in "AB":
            for _ in range(5):
                breaker.settle(await breaker.admit(client), Outcome.FAILURE, reason="timeout")
            with pytest.raises(CircuitOpenError):
                await breaker.admit(client)
        with pytest.raises(StoreError, match="closed"):
            await breaker.operate("A", "close", actor="ann")
        with pytest.raises(StoreError, match="closed"):
            await breaker.peek()

        assert breaker.flush() is False

    async def test_a_breaker_closed_unused_closes_its_store(self) -> None:
        """Without a thread the caller of `close` closes the store itself."""
        store = FragileStore(MemoryStore())
        breaker = Breaker(store)
        assert breaker.flush() is True
        breaker.close()

        assert store.closed == 1

    async def test_where_no_thread_can_start_calls_go_on(
        self, monkeypatch: pytest.MonkeyPatch, breakers: list[Breaker]
    ) -> None:
        """At the limit of threads the process decides alone, and tries to start one later."""
        started: list[object] = []

        def refuse(thread: threading.Thread) -> None:
            started.append(thread)
            raise RuntimeError(thread.name)

        clock = ManualClock()
        breakers.append(Breaker(MemoryStore(), QUICK, clock=clock))
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            for _ in range(5):
                breakers[0].settle(await breakers[0].admit("A"), Outcome.FAILURE)
            with pytest.raises(CircuitOpenError):
                await breakers[0].admit("A")
            assert len(started) == 1
        assert breakers[0].degraded is True
        permit = await breakers[0].admit("B")
        clock.advance(5.0)
        breakers[0].settle(permit, Outcome.SUCCESS)

        eventually(lambda: not breakers[0].degraded)

    async def test_a_hook_that_raises_is_logged_and_harmless(
        self, breakers: list[Breaker], caplog: pytest.LogCaptureFixture
    ) -> None:
        """An error in on_transition is logged, and the thread goes on."""

        def hook(move: Transition) -> None:
            raise LookupError(move.client)

        breakers.append(Breaker(MemoryStore(), QUICK, on_transition=hook))
        for _ in range(5):
            breakers[0].settle(await breakers[0].admit("A"), Outcome.FAILURE)
        breakers[0].flush(20.0)

        eventually(lambda: "LookupError: A" in caplog.text)
        with pytest.raises(CircuitOpenError):
            await breakers[0].admit("A")

    async def test_a_breaker_may_be_closed_from_its_hook(self) -> None:
        """The thread that calls the hook does not wait for itself."""
        closed = threading.Event()

        def hook(_: Transition) -> None:
            breaker.close()
            closed.set()

        breaker = Breaker(MemoryStore(), QUICK, on_transition=hook)
        for _ in range(5):
            breaker.settle(await breaker.admit("A"), Outcome.FAILURE)

        assert await asyncio.to_thread(closed.wait, 10.0)

    async def test_an_operator_does_not_wait_for_ever(
        self, breakers: list[Breaker], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An order to a hung store ends with a StoreError."""
        monkeypatch.setattr("resilience.breaker.control._ORDER_TIMEOUT", 0.01)
        hung = threading.Event()
        breakers.append(Breaker(HungStore(hung)))
        try:
            with pytest.raises(StoreError, match=r"within 0\.01 s"):
                await breakers[0].operate("A", "open", actor="ann")
        finally:
            hung.set()


class TestBounds:
    async def test_unsent_results_stay_bounded(self, one: Agent) -> None:
        """While no sync runs, a local circuit keeps a bounded number of runs, however many results arrive."""
        permit = await one.admit()
        for turn in range(5000):
            one.breaker.settle(permit, Outcome.FAILURE if turn % 2 else Outcome.SUCCESS)

        assert len(one.breaker._circuits.by_client["A"].runs) == 1024

    async def test_a_cancelled_request_is_dropped(self, one: Agent) -> None:
        """A request whose caller was cancelled is dropped, and the sync goes on."""
        task = asyncio.ensure_future(one.breaker.peek())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        one.turn()

        assert await one.refusal() is None


class HungStore:
    """A store whose every step waits until the test lets it go on."""

    def __init__(self, released: threading.Event, inner: MemoryStore | None = None) -> None:
        self._released = released
        self._inner = inner or MemoryStore()
        self.entered = threading.Event()

    def step(self, requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]:
        self.entered.set()
        self._released.wait(30.0)
        return self._inner.step(requests)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_a_permit_says_whether_it_probes() -> None:
    """A permit with a lease is a probe, one without is not, and neither shows its policy in its repr."""
    assert Permit("A", 1, "t").probe is True
    assert repr(Permit("A", 1)) == "Permit(client='A', epoch=1, token='')"
