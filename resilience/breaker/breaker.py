"""Admit and settle: the front that callers use, deciding on this process's view of each circuit."""

from __future__ import annotations

import asyncio
import random as _random
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import Final, TypeVar

from resilience import validation
from resilience.breaker.local.circuit import LocalCircuit
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
"""No call waits longer for the store than this, in seconds."""
_ORDER_SECONDS: Final = 2.0  # operators may wait longer than calls


class Breaker:
    """The circuits of a fleet, as one process uses them. Works from any number of event loops and threads at once.

    Args:
        store: where the circuits are kept; it belongs to this breaker, which closes it.
        policy: the thresholds of every client,
        policies: but for those named here.
        clock: time for durations.
        random: draws from 0 to 1, for jitter.
        on_transition: told of every transition that this process caused, on the background thread; must not block long.
        on_sight: told there, in the same way, of epochs that replies showed for the first time.
        wait_budget: how long a call waits for the store at most, in seconds.
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
        """The thresholds of a client's circuit, unless a call brings its own."""
        return self._policies.get(client, self._policy)

    # -- calls ------------------------------------------------------------------------------------------------------------------

    async def admit(self, client: str, policy: BreakerPolicy | None = None) -> Permit:
        """Ask for leave to make one attempt.

        While the view is fresh and closed this does not even suspend. A stale view is refreshed, which concurrent callers share;
        an open circuit whose time is over, or a half-open one, is asked for a probe. Neither is waited for longer than the budget.
        A caller cancelled while it waits holds nothing.

        Args:
            client: whom the attempt will ask.
            policy: thresholds for this call alone.

        Raises:
            CircuitOpenError: do not ask this client now; says why, and when to come back.
        """
        circuit, came = self._by_client.get(client), self._now()
        if circuit is not None and came < circuit.free_until and (policy is None or policy is circuit.policy):
            return circuit.permit
        admission = self._admission(client, policy, came)
        try:
            future = next(admission)
            while True:
                try:
                    await self._wait(future, came)
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
        circuit, came = self._by_client.get(client), self._now()
        if circuit is not None and came < circuit.free_until and (policy is None or policy is circuit.policy):
            return circuit.permit
        admission = self._admission(client, policy, came)
        try:
            future = next(admission)
            while True:
                try:
                    self._wait_blocking(future, came)
                except BaseException as exc:  # noqa: BLE001 - an interruption: the admission lets go and raises it again
                    admission.throw(exc)
                future = next(admission)
        except StopIteration as stop:
            permit: Permit = stop.value
            return permit

    def _admission(
        self, client: str, policy: BreakerPolicy | None, came: float
    ) -> Generator[Future[None], None, Permit]:
        """Decide on a permit. Yields the futures to wait for, so that both kinds of callers share the rules."""
        policy = policy or self.policy_for(client)
        if not policy.enabled:
            return Permit(client, 0, "", policy)
        circuit = self._by_client.get(client) or self._circuits.get(client, self.policy_for(client))
        if circuit.is_stale(came, policy):
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
        """Tell how an attempt ended. Never blocks on the store and never raises; call it once for each permit.

        Args:
            permit: what `admit` gave.
            outcome: what the attempt says about its client; `verdict` knows.
            cooldown: a while for which the client must be left alone, beginning now, everywhere.
            reason: the failure category, which later refusals name.
            retry: the same client will be asked again for it: takes one from the fleet's budget; ask `may_retry` before.

        Returns:
            True if the result was late: the circuit has moved on since the permit was given, and counts it no more.
        """
        circuit = self._by_client.get(permit.client)
        if circuit is None or not permit.policy.enabled:
            return False
        with self._circuits.lock:
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
        """Does the fleet's budget leave a retry on this client? By the local view alone, less what was spent here since; no I/O."""
        circuit = self._by_client.get(client)
        return circuit is None or not circuit.policy.enabled or circuit.may_retry(self._now())

    def is_call_permitted(self, client: str) -> bool:
        """Would an ordinary permit be given, by the local view alone? No I/O, no probe; True for a client not used yet."""
        circuit = self._by_client.get(client)
        return circuit is None or circuit.is_free(self._now())

    def _probe(self, circuit: LocalCircuit, policy: BreakerPolicy) -> Generator[Future[None], None, Permit]:
        circuits = self._circuits
        request = circuits.request_probe(circuit, policy)
        if request is None:
            raise circuit.probe_pending_error()
        try:
            yield request.future
        except BaseException:
            circuits.withdraw_probe(circuit, request)
            raise
        if circuits.take_lease(request):
            return Permit(circuit.client, circuit.epoch, request.token, policy)
        permit = circuits.decide(circuit, policy)
        if permit is None:
            raise circuit.probe_pending_error()
        return permit

    async def _wait(self, future: Future[None], came: float) -> None:
        """Wait for the thread, but no longer than the budget allows; then who *came* then goes on with what it knows."""
        timeout = self._sync_worker.remaining_wait(came)
        if future.done() or timeout <= 0:
            return
        waiter = asyncio.wrap_future(future)
        try:
            await asyncio.wait((waiter,), timeout=timeout)
        finally:
            waiter.cancel()

    def _wait_blocking(self, future: Future[None], came: float) -> None:
        timeout = self._sync_worker.remaining_wait(came)
        if not future.done() and timeout > 0:
            wait((future,), timeout)

    # -- status and control -----------------------------------------------------------------------------------------------------

    @property
    def degraded(self) -> bool:
        """Is the store away, so that this process's own circuits decide?"""
        return self._circuits.offline

    def views(self) -> dict[str, CircuitView]:
        """The local views, by client; those of clients not yet heard of are missing."""
        circuits = list(self._by_client.values())
        return {circuit.client: circuit.view for circuit in circuits if circuit.view is not None}

    def state(self, client: str) -> CircuitState | None:
        """Where a circuit stands by the local view, however old that is; None for one not heard of yet. No I/O."""
        circuit = self._by_client.get(client)
        return circuit.view.state if circuit is not None and circuit.view is not None else None

    async def refresh(self, client: str) -> CircuitView:
        """Ask the store how a circuit stands, waiting no longer than a call would, and give the view.

        Raises:
            StoreError: nothing is known of this circuit yet, and the store did not answer in time.
        """
        circuit = self._circuits.get(client, self.policy_for(client))
        await self._wait(self._circuits.refresh(circuit), self._now())
        if circuit.view is None:
            msg = f"the store of circuits did not answer in time for {client!r}"
            raise StoreError(msg)
        return circuit.view

    async def peek(self, clients: Iterable[str] | None = None) -> dict[str, CircuitView]:
        """Look at circuits without touching them: those named, or all that the store knows.

        Raises:
            StoreError: the store cannot be read.
        """
        named = None if clients is None else list(clients)

        def look(store: Store) -> list[tuple[str, StepReply | Exception]]:
            asked = store.names() if named is None else named
            return list(zip(asked, store.step([StepRequest(client=each) for each in asked]), strict=True))

        asked = self._now()
        replies = await self._ordered(self._sync_worker.submit(look))
        now = self._now()
        return {
            client: CircuitView.from_reply(
                client, reply, policy=self.policy_for(client), asked=asked, now=now, shared=True
            )
            for client, reply in replies
            if isinstance(reply, StepReply)
        }

    async def transitions(self, after: str = "") -> list[Transition]:
        """The fleet's transitions after a cursor, oldest first, from the store's capped log.

        Raises:
            StoreError: the store cannot be read.
        """
        return await self._ordered(self.fetch_transitions(after))

    def fetch_transitions(self, cursor: str) -> Future[list[Transition]]:
        """As `transitions`, for those who have no event loop: the future carries them, or a `StoreError`."""
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
            client: whose circuit.
            operation: `open`, `disable`, `close` or `reset`.
            actor: who orders it.
            reason: why.
            seconds: how long `open` and `disable` last; None: until another order.

        Returns:
            How the circuit stands now.

        Raises:
            ValueError: there is no such operation, or *seconds* is no length of time.
            StoreError: the store cannot be used; nothing was changed.
        """
        validation.optional_number("operate", "seconds", seconds)
        order = Order(operation=Operation(operation), actor=actor, reason=reason, seconds=seconds)
        asked, policy = self._now(), self.policy_for(client)
        reply = await self._ordered(self.order(client, order))
        return CircuitView.from_reply(client, reply, policy=policy, asked=asked, now=self._now(), shared=True)

    def order(self, client: str, order: Order) -> Future[StepReply]:
        """As `operate`, for those who have no event loop: the future carries the reply, or a `StoreError`."""
        circuit = self._circuits.get(client, self.policy_for(client))
        return self._circuits.submit_order(
            circuit, StepRequest(client=client, policy=circuit.policy, order=order)
        )

    async def _ordered(self, future: Future[T]) -> T:
        try:
            async with asyncio.timeout(_ORDER_SECONDS):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            msg = f"the store of circuits did not answer within {_ORDER_SECONDS:g} s"
            raise StoreError(msg) from None

    def flush(self, timeout: float = 1.0) -> bool:
        """Wait until everything settled so far has reached the store. Blocks; False when it has not within *timeout* seconds."""
        return self._sync_worker.flush(timeout)

    def close(self) -> None:
        """Tell what is left, within a quarter of a second, and close the store. Blocks; closing twice is fine.

        A call made afterwards is decided by this process alone.
        """
        self._sync_worker.close()
