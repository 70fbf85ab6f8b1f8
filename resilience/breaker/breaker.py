"""The circuit breaker: what callers use to admit an attempt and to settle its result.

`admit` and `settle` decide on this process's view of each circuit and do no I/O. One background thread exchanges results and views
with the store (`local/sync_worker.py`). The state machine is `circuit.py`.
"""

from __future__ import annotations

import asyncio
import random as _random
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Final, TypeVar

from resilience import validation
from resilience.breaker.local.circuit import LocalCircuit
from resilience.breaker.local.probe_request import StoreWait
from resilience.breaker.local.sync_worker import StoreSyncWorker
from resilience.breaker.messages import (
    Cooldown,
    EpochChange,
    Operation,
    Order,
    Outcome,
    StepReply,
    StepRequest,
    Transition,
)
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitState
from resilience.breaker.stores.base import Store
from resilience.breaker.view import CircuitView, Permit
from resilience.clock import Clock, SystemClock
from resilience.errors import StoreError

T = TypeVar("T")
WAIT_BUDGET: Final = 0.05
"""Seconds that a call waits for the store at most."""
_ORDER_TIMEOUT: Final = 10.0  # seconds; an operator may wait longer than a call


class Breaker:
    """The circuit breakers of all clients, as one process uses them. Works from any number of event loops and threads at once.

    Args:
        store: where the circuits are kept. It belongs to this breaker, which closes it.
        policy: the thresholds of every client that is not in *policies*.
        policies: thresholds by client.
        clock: time for durations; the store has its own.
        random: returns a number from 0 to 1, for jitter.
        on_transition: called on the sync thread with every transition that this process caused; must not block for long.
        on_epoch_change: called on the sync thread with the epochs that replies showed for the first time.
        wait_budget: seconds that a call waits for the store at most.
    """

    def __init__(
        self,
        store: Store,
        policy: BreakerPolicy | None = None,
        *,
        policies: Mapping[str, BreakerPolicy] | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = _random.random,
        on_transition: Callable[[Transition], None] | None = None,
        on_epoch_change: Callable[[Sequence[EpochChange]], None] | None = None,
        wait_budget: float = WAIT_BUDGET,
    ) -> None:
        self._policy = policy or BreakerPolicy()
        self._policies = dict(policies or {})
        self._clock = clock or SystemClock()
        self._now = self._clock.monotonic
        self._sync_worker = StoreSyncWorker(
            store,
            clock=self._clock,
            sample=random,
            wait_budget=wait_budget,
            on_transition=on_transition,
            on_epoch_change=on_epoch_change,
        )
        self._circuits = self._sync_worker.circuits
        self._by_client = self._circuits.by_client

    def policy_for(self, client: str) -> BreakerPolicy:
        """Return the thresholds of a client's circuit, which a call may override."""
        return self._policies.get(client, self._policy)

    # -- calls ------------------------------------------------------------------------------------------------------------------

    async def admit(self, client: str, policy: BreakerPolicy | None = None) -> Permit:
        """Request permission for one attempt.

        While the view is fresh and closed this does not even suspend. A stale view is refreshed first; concurrent callers share the
        refresh. If the circuit is half-open, or open and its time is over, a probe lease is requested. Neither is waited for longer
        than the wait budget; then the view decides as it is. A caller that is cancelled while it waits holds no lease.

        Args:
            client: the client of the attempt.
            policy: thresholds for this call alone.

        Returns:
            The permit, to be given back with `settle`.

        Raises:
            CircuitOpenError: the client must not be asked now; names the reason and when to try again.
        """
        circuit, now = self._by_client.get(client), self._now()
        # The hot path: no lock and no allocation. Both reads may be stale by one sync, like any view.
        if circuit is not None and now < circuit.free_until and (policy is None or policy is circuit.policy):
            return circuit.permit
        admission = self._admission(client, policy, now)
        try:
            future = next(admission)
            while True:
                try:
                    await self._wait(future, now)
                except BaseException as exc:  # noqa: BLE001 - a cancellation: the admission lets go and raises it again
                    admission.throw(exc)
                future = next(admission)
        except StopIteration as stop:
            permit: Permit = stop.value
            return permit

    def admit_blocking(self, client: str, policy: BreakerPolicy | None = None) -> Permit:
        """Return a permit as `admit` does, with waits that block the calling thread and that signals interrupt.

        Args:
            client: the client that the attempt will ask.
            policy: thresholds for this call only.

        Raises:
            CircuitOpenError: the client must not be asked now.
        """
        circuit, now = self._by_client.get(client), self._now()
        if circuit is not None and now < circuit.free_until and (policy is None or policy is circuit.policy):
            return circuit.permit
        admission = self._admission(client, policy, now)
        try:
            future = next(admission)
            while True:
                try:
                    self._wait_blocking(future, now)
                except BaseException as exc:  # noqa: BLE001 - an interruption: the admission lets go and raises it again
                    admission.throw(exc)
                future = next(admission)
        except StopIteration as stop:
            permit: Permit = stop.value
            return permit

    def _admission(
        self, client: str, policy: BreakerPolicy | None, started: float
    ) -> Generator[StoreWait, None, Permit]:
        """Decide on a permit. Yields the futures to wait for, so that callers that await and callers that block share the rules.

        The caller waits for each future within its wait budget, and continues whether or not the future is done. If the wait is
        cancelled or interrupted, the caller throws that exception in here: a requested lease is withdrawn, and the exception goes on.
        """
        policy = policy or self.policy_for(client)
        if not policy.enabled:
            return Permit(client, 0, "", policy)
        circuit = self._by_client.get(client) or self._circuits.get(client, self.policy_for(client))
        if circuit.is_stale(started, policy):
            yield self._circuits.refresh(circuit)
        permit = self._circuits.decide(circuit, policy)
        if permit is None:
            permit = yield from self._probe(circuit, policy)
        return permit

    def settle(
        self,
        permit: Permit,
        outcome: Outcome,
        *,
        cooldown: Cooldown | None = None,
        reason: str = "",
        retry: bool = False,
    ) -> bool:
        """Record how an attempt ended. Never blocks on the store and never raises. Call it once for each permit.

        Args:
            permit: the permit that `admit` returned.
            outcome: what the result means for the circuit; see `outcome_for`.
            cooldown: starts a cool-down of the client now, for the whole fleet.
            reason: the failure category, which later refusals name.
            retry: the same client will be asked again for this call. Takes one token from the retry budget; check `may_retry` first.

        Returns:
            True if the result was late: the circuit has moved since the permit was given, and does not count it.
        """
        circuit = self._by_client.get(permit.client)
        if circuit is None or not permit.policy.enabled:
            return False
        with self._circuits.lock:
            # The hot path: one more success of the permit that the last result belongs to only increases a counter.
            tail = circuit.tail
            if (
                tail.permit is permit
                and tail.outcome is outcome is Outcome.SUCCESS
                and not (cooldown or retry)
            ):
                tail.count += 1
                return False
        return self._circuits.add_result(circuit, permit, outcome, cooldown, reason, retry=retry)

    def may_retry(self, client: str) -> bool:
        """Return whether the fleet's retry budget has a token left for this client.

        Decided by the local view, minus the retries of this process since; no I/O.
        """
        circuit = self._by_client.get(client)
        return circuit is None or not circuit.policy.enabled or circuit.may_retry(self._now())

    def is_call_permitted(self, client: str) -> bool:
        """Return whether an ordinary permit, not a probe, would be granted now.

        Decided by the local view, however old; no I/O. True for a client that was never used.
        """
        circuit = self._by_client.get(client)
        return circuit is None or circuit.is_free(self._now())

    def _probe(self, circuit: LocalCircuit, policy: BreakerPolicy) -> Generator[StoreWait, None, Permit]:
        """Request a probe lease. Yields the future to wait for.

        A lease that is granted after the caller has stopped waiting must not be lost: half-open would then wait for its expiry.
        `take_or_withdraw` and `withdraw_probe` mark the request, and the reply returns the lease.

        Raises:
            CircuitOpenError: no lease was granted, or another caller of this process is requesting one.
        """
        circuits = self._circuits
        request = circuits.request_probe(circuit, policy)
        if request is None:
            raise circuit.probe_pending_error()
        try:
            if request.reply is None:  # while the store is away, the offline circuit has replied already
                yield request.future
        except BaseException:
            circuits.withdraw_probe(circuit, request)
            raise
        if circuits.take_or_withdraw(request):
            return Permit(circuit.client, circuit.epoch, request.token, policy)
        permit = circuits.decide(circuit, policy)
        if permit is None:
            raise circuit.probe_pending_error()
        return permit

    async def _wait(self, future: Future[None], started: float) -> None:
        """Wait for the sync thread within the wait budget of a caller that *started* at this time. Never raises for a timeout."""
        timeout = self._sync_worker.remaining_wait(started)
        if future.done() or timeout <= 0:
            return
        waiter = asyncio.wrap_future(future)
        try:
            await asyncio.wait((waiter,), timeout=timeout)
        finally:
            waiter.cancel()

    def _wait_blocking(self, future: StoreWait, started: float) -> None:
        timeout = self._sync_worker.remaining_wait(started)
        if timeout > 0:
            future.latch.wait(timeout)

    # -- status and control -----------------------------------------------------------------------------------------------------

    @property
    def degraded(self) -> bool:
        """Whether the store is away, so that the circuits of this process alone decide."""
        # A closed breaker has gone offline on purpose, to send its last results. That is no trouble with the store.
        return self._circuits.offline and not self._circuits.closed

    def views(self) -> dict[str, CircuitView]:
        """Return the local views by client. Clients that the store has not answered for yet are missing."""
        circuits = list(self._by_client.values())
        return {circuit.client: circuit.view for circuit in circuits if circuit.view is not None}

    def state(self, client: str) -> CircuitState | None:
        """Return the state of a circuit by the local view, however old; None without one. No I/O."""
        circuit = self._by_client.get(client)
        return circuit.view.state if circuit is not None and circuit.view is not None else None

    async def refresh(self, client: str) -> CircuitView:
        """Refresh the view of a circuit and return it. Waits no longer than a call would; then returns the old view.

        Raises:
            StoreError: there is no view yet, and the store did not answer in time.
        """
        circuit = self._circuits.get(client, self.policy_for(client))
        await self._wait(self._circuits.refresh(circuit), self._now())
        if circuit.view is None:
            msg = f"the store of circuits did not answer in time for {client!r}"
            raise StoreError(msg)
        return circuit.view

    async def peek(self, clients: Iterable[str] | None = None) -> dict[str, CircuitView]:
        """Read circuits without changing them.

        Args:
            clients: the clients to read; None: all that the store knows.

        Returns:
            Views by client, with instants of this process's monotonic clock. Circuits that cannot be read are missing.

        Raises:
            StoreError: the store cannot be read.
        """
        selected = None if clients is None else list(clients)

        def read(store: Store) -> list[tuple[str, StepReply | Exception]]:
            names = store.names() if selected is None else selected
            requests = [StepRequest(client=name) for name in names]
            return list(zip(names, store.step(requests), strict=True))

        asked = self._now()
        replies = await self._await_store(self._sync_worker.submit(read))
        now = self._now()
        return {
            client: CircuitView.from_reply(
                client, reply, policy=self.policy_for(client), asked=asked, now=now, shared=True
            )
            for client, reply in replies
            if isinstance(reply, StepReply)
        }

    async def transitions(self, after: str = "") -> list[Transition]:
        """Return the fleet's transitions from the store's capped log, oldest first.

        Args:
            after: `Transition.cursor` of the last one that was read; empty: all that are kept.

        Raises:
            StoreError: the store cannot be read.
        """
        return await self._await_store(self.fetch_transitions(after))

    def fetch_transitions(self, cursor: str) -> Future[list[Transition]]:
        """Like `transitions`, for callers without an event loop. Return a future of the transitions, or of a `StoreError`."""
        return self._sync_worker.submit(lambda store: store.transitions(cursor))

    async def operate(
        self,
        client: str,
        operation: Operation | str,
        *,
        actor: str,
        reason: str = "",
        seconds: float | None = None,
    ) -> CircuitView:
        """Carry out an operator's order for the whole fleet.

        Args:
            client: the client whose circuit it is.
            operation: `open`, `disable`, `close` or `reset`.
            actor: the operator.
            reason: why.
            seconds: how long `open` and `disable` last; None: until another order.

        Returns:
            The circuit after the order.

        Raises:
            ValueError: there is no such operation, or *seconds* is not a positive number.
            StoreError: the store cannot be used; nothing was changed.
        """
        validation.optional_number("operate", "seconds", seconds)
        order = Order(operation=Operation(operation), actor=actor, reason=reason, seconds=seconds)
        asked, policy = self._now(), self.policy_for(client)
        reply = await self._await_store(self.submit_order(client, order))
        return CircuitView.from_reply(client, reply, policy=policy, asked=asked, now=self._now(), shared=True)

    def submit_order(self, client: str, order: Order) -> Future[StepReply]:
        """Like `operate`, for callers without an event loop. Return a future of the reply, or of a `StoreError`."""
        circuit = self._circuits.get(client, self.policy_for(client))
        return self._circuits.submit_order(
            circuit, StepRequest(client=client, policy=circuit.policy, order=order)
        )

    async def _await_store(self, future: Future[T]) -> T:
        try:
            async with asyncio.timeout(_ORDER_TIMEOUT):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            msg = f"the store of circuits did not answer within {_ORDER_TIMEOUT:g} s"
            raise StoreError(msg) from None

    def flush(self, timeout: float = 1.0) -> bool:
        """Block until everything settled so far has reached the store.

        Args:
            timeout: seconds to wait.

        Returns:
            Whether it has; False also while the store is away.
        """
        return self._sync_worker.flush(timeout)

    def close(self) -> None:
        """Send what is left and close the store. Blocks for at most half a second if the store does not answer.

        Closing twice is harmless. Later calls are decided by this process alone.
        """
        self._sync_worker.close()
