"""The state of circuits and the orders of operators: the side of the breaker that no call passes.

Everything here is done on the sync thread, and its callers wait with a time limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Final, TypeVar

from resilience import validation
from resilience.breaker.local.sharing import SharedCircuits
from resilience.breaker.messages import Operation, Order, StepReply, StepRequest, Transition
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import LONGEST_TEXT, CircuitState
from resilience.breaker.stores.base import Store
from resilience.breaker.view import CircuitView
from resilience.clock import Clock
from resilience.errors import StoreError

T = TypeVar("T")
_LONGEST_WORDS: Final = LONGEST_TEXT // 4  # characters; one has at most four bytes
_ORDER_TIMEOUT: Final = 10.0  # seconds; an operator may wait longer than a call


class CircuitControl:
    """What operators and gauges do with the circuits of this process.

    Args:
        shared: the circuits and the sync thread.
        policy: the thresholds of every client that is not in *policies*.
        policies: thresholds by client.
        clock: time for durations; the store has its own.
    """

    def __init__(
        self,
        shared: SharedCircuits,
        policy: BreakerPolicy,
        policies: Mapping[str, BreakerPolicy],
        clock: Clock,
    ) -> None:
        self._shared = shared
        self._policy = policy
        self._policies = policies
        self._clock = clock
        self._now = clock.monotonic
        self._sync_worker = shared.worker
        self._circuits = shared.namespace.circuits
        self._by_client = self._circuits.by_client

    def policy_for(self, client: str) -> BreakerPolicy:
        """Return the thresholds of a client's circuit, which a call may override."""
        return self._policies.get(client, self._policy)

    def start(self) -> None:
        """Start the sync thread, which reads every circuit of the namespace, so that the first call is informed. Never blocks."""
        self._circuits.begin_look()

    @property
    def degraded(self) -> bool:
        """Whether the store is away, so that the circuits of this process alone decide."""
        # A closed breaker has gone offline on purpose, to send its last results. That is no trouble with the store.
        circuits = self._circuits
        return (circuits.offline or circuits.silent) and not circuits.closed

    def views(self) -> dict[str, CircuitView]:
        """Return the local views by client. Clients that the store has not answered for yet are missing."""
        circuits = list(self._by_client.values())
        return {circuit.client: circuit.view for circuit in circuits if circuit.view is not None}

    def state(self, client: str) -> CircuitState | None:
        """Return the state of a circuit by the local view, however old; None without one. No I/O."""
        circuit = self._by_client.get(client)
        return circuit.view.state if circuit is not None and circuit.view is not None else None

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
        replies = await self._await_store(self._sync_worker.submit(self._shared.namespace, read))
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
        return self._sync_worker.submit(self._shared.namespace, lambda store: store.transitions(cursor))

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
        actor, reason = actor[:_LONGEST_WORDS], reason[:_LONGEST_WORDS]
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
        return self._sync_worker.flush(self._shared.namespace, timeout)

    def close(self) -> None:
        """Send what is left and close the store, unless others in this process use it. Blocks for at most half a second if the store does not answer.

        Closing twice is harmless. Later calls are decided by this process alone.
        """
        self._shared.close()
