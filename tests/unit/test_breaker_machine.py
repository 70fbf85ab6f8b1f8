"""A fleet of breakers over one store that fails, forgets and comes back: what must hold whatever happens, and that it ends well."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from support.circuit_bench import Agent, FragileStore

from resilience.breaker import BreakerPolicy, CircuitState, Cooldown, Operation, Outcome, Permit
from resilience.breaker.messages import FAILURES
from resilience.breaker.state import FRESH, CircuitData
from resilience.breaker.stores.memory import MemoryStore
from resilience.errors import CircuitOpenError, StoreError
from resilience.testing import ManualClock

STRICT = BreakerPolicy(
    max_staleness=0.0,
    open_for=2.0,
    open_max=8.0,
    half_open_probes=2,
    successes_to_close=2,
    probe_lease=5.0,
    consecutive_failures=3,
    retry_burst=3,
)
ADMITTING = (CircuitState.CLOSED, CircuitState.DISABLED)
PROCESSES = st.integers(0, 2)
OUTCOMES = st.sampled_from([*Outcome, Outcome.FAILURE, Outcome.FAILURE])
COOLDOWNS = st.sampled_from(
    [
        None,
        None,
        Cooldown(seconds=3.0, max_seconds=300.0, reason="rate_limit"),
        Cooldown(seconds=1.0, max_seconds=4.0, doubling=True, reason="authentication"),
    ]
)


class FleetMachine(RuleBasedStateMachine):
    """Three processes in strict mode, so that what they do can be held against the store's data of that moment."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.time = ManualClock()
        self.store = FragileStore(MemoryStore(clock=self.time))
        # Clocks of processes that are hours apart: nothing may depend on them.
        self.clocks = [ManualClock(start=5.0 + 3600 * n, epoch=1e9 + 3600 * n) for n in range(3)]
        self.agents = [self.begin(n) for n in range(3)]
        self.forgotten = False

    def begin(self, process: int) -> Agent:
        return Agent(self.store, self.clocks[process], jitter_sample=process / 2, policy=STRICT)

    @property
    def data(self) -> CircuitData:
        assert isinstance(self.store.inner, MemoryStore)
        return self.store.inner._circuits.get("A", FRESH)

    def now(self) -> int:
        return round(1000 * self.time.time())

    def admit(self, process: int) -> Permit | None:
        """Admit, and hold the answer against the shared state: no store error, no call through a closed door (I1, I13)."""
        agent = self.agents[process]
        try:
            # Without a wait for the attempt of another caller: its outcome is another rule of this machine.
            permit = self.runner.run(agent.drive(agent.breaker.admit("A", max_wait=0.0)))
        except CircuitOpenError:
            return None
        if not agent.breaker.degraded:
            if permit.probe:
                assert any(lease.token == permit.token for lease in self.data.leases)
            else:
                assert self.data.state in ADMITTING or self.forgotten
                assert self.data.cooldown_until <= self.now() or self.data.state is CircuitState.DISABLED
            assert permit.epoch == self.data.epoch or self.forgotten
        return permit

    @rule(target=held, process=PROCESSES)
    def start(self, process: int) -> Any:
        permit = self.admit(process)
        return multiple() if permit is None else (self.agents[process], permit)

    @rule(call=consumes(held), outcome=OUTCOMES, cooldown=COOLDOWNS)
    def finish(self, call: tuple[Agent, Permit], outcome: Outcome, cooldown: Cooldown | None) -> None:
        """A call ends, perhaps long after its circuit moved on; its process may even have been replaced."""
        agent, permit = call
        retry = outcome in FAILURES and agent.breaker.may_retry("A")
        agent.settle(permit, outcome, cooldown=cooldown, reason="timeout", retry=retry)

    @rule(call=held)
    def finish_a_probe_and_again(self, call: tuple[Agent, Permit]) -> None:
        """A probe told twice is late the second time."""
        agent, permit = call
        if permit.probe:
            agent.settle(permit, Outcome.SUCCESS)
            assert agent.settle(permit, Outcome.FAILURE) is True

    @rule(process=PROCESSES, outcome=OUTCOMES, times=st.integers(1, 4))
    def call(self, process: int, outcome: Outcome, times: int) -> None:
        for _ in range(times):
            permit = self.admit(process)
            if permit is not None:
                retry = outcome in FAILURES and self.agents[process].breaker.may_retry("A")
                self.agents[process].settle(permit, outcome, reason="network", retry=retry)

    @rule(process=PROCESSES, yields=st.integers(0, 4))
    def cancel_a_caller(self, process: int, yields: int) -> None:
        """Cancelled anywhere in admit: no count moves, and whatever lease there was is back (I9)."""
        agent = self.agents[process]
        before = self.data

        async def cancelled() -> None:
            task = asyncio.ensure_future(agent.breaker.admit("A"))
            for _ in range(yields):
                await asyncio.sleep(0)
                agent.turn_if_due()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled() and task.exception() is None:
                agent.settle(task.result(), Outcome.IGNORED)
            agent.turn()

        self.runner.run(cancelled())
        after = self.data
        assert [lease.token for lease in after.leases if lease not in before.leases] == []
        assert sum(bucket.failures for bucket in after.buckets) <= sum(
            bucket.failures for bucket in before.buckets
        )

    @rule(process=PROCESSES)
    def kill(self, process: int) -> None:
        """A process dies with its leases and what it had not told; another takes its place."""
        self.agents[process] = self.begin(process)

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 2.0, 5.0, 30.0, 70.0]))
    def pass_time(self, seconds: float) -> None:
        for clock in (self.time, *self.clocks):
            clock.advance(seconds)
        for agent in self.agents:
            agent.turn_if_due()

    @rule(error=st.sampled_from([ConnectionError("refused"), TimeoutError("hung"), None, None]))
    def outage(self, error: Exception | None) -> None:
        self.store.error = error

    @rule()
    def forget(self) -> None:
        """The store is emptied; from here on epochs of the past may be in use for a moment."""
        self.store.inner = MemoryStore(clock=self.time)
        self.forgotten = True
        self.time.advance(0.001)  # the birth of a circuit distinguishes those before and after the loss

    @rule(
        process=PROCESSES,
        operation=st.sampled_from([Operation.OPEN, Operation.DISABLE, Operation.CLOSE, Operation.RESET]),
    )
    def operate(self, process: int, operation: Operation) -> None:
        """An order is carried out for all, or its giver learns that it was not."""
        agent = self.agents[process]
        try:
            view = self.runner.run(
                agent.drive(agent.breaker.operate("A", operation, actor="ann", seconds=20.0))
            )
        except StoreError:
            assert self.store.error is not None
        else:
            # Also in a store that was emptied, where a process may remember an opening of a later epoch.
            assert self.data.state is view.state

    @invariant()
    def leases_are_bounded(self) -> None:
        """Never more live leases than places (I2), and a bounded data (I14)."""
        assert sum(lease.expiry > self.now() for lease in self.data.leases) <= STRICT.half_open_probes
        assert len(self.data.leases) <= STRICT.half_open_probes + 8
        assert len(self.data.buckets) <= 10

    @invariant()
    def retries_are_accounted_for(self) -> None:
        """Whatever happened to the store: what a process holds against itself is what it has not told yet, and no more."""
        assert self.data.budget_used >= 0
        for agent in self.agents:
            for circuit in agent.breaker._by_client.values():
                assert circuit.retry_budget.unconfirmed == circuit.retry_budget.retries >= 0

    @invariant()
    def the_log_is_a_chain(self) -> None:
        """One transition an epoch, each from where the last one led (I4)."""
        log = self.store.inner.transitions()
        assert [move.from_state for move in log[1:]] == [move.to_state for move in log[:-1]]
        assert [move.epoch for move in log] == sorted({move.epoch for move in log})

    def teardown(self) -> None:
        """Liveness (I3): with a healthy client and store every process is soon admitted again, through one shared circuit."""
        self.store.error = None
        self.pass_time(70.0)
        try:
            for _ in range(30):
                for process in range(3):
                    self.call(process, Outcome.SUCCESS, 1)
                self.pass_time(1.0)
            assert all(self.admit(process) is not None for process in range(3))
            assert self.data.state is CircuitState.CLOSED
            assert not any(agent.breaker.degraded for agent in self.agents)
        finally:
            self.runner.close()


TestFleet = FleetMachine.TestCase
TestFleet.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
