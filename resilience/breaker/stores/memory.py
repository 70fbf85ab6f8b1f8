"""Circuits in this process's memory: for one process, and for tests."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from resilience.breaker.circuit import step
from resilience.breaker.messages import StepReply, StepRequest, Transition
from resilience.breaker.state import FRESH, CircuitData
from resilience.breaker.stores.base import Store
from resilience.breaker.stores.namespaced import NamespacedStore, namespaces_of
from resilience.clock import Clock, SystemClock

LOG_LENGTH: Final = 10_000
"""How many transitions a log keeps."""


class MemoryStore:
    """The circuits in a dict. Several breakers of one process may share a store; processes cannot.

    Args:
        clock: the store's time.
    """

    shared: Final = False

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._circuits: dict[str, CircuitData] = {}
        self._log: deque[Transition] = deque(maxlen=LOG_LENGTH)
        # Counted apart from the log, which forgets its oldest entries: a cursor must stay unique.
        self._logged = 0
        self._lock = threading.Lock()

    def step(self, requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]:
        """Run each request through `circuit.step`."""
        with self._lock:
            # Read under the lock. A thread that waited for the lock would otherwise write an earlier
            # time than the one before it, and the circuit would take that for a clock that went back.
            now = round(1000 * self._clock.time())
            return [self._step(request, now) for request in requests]

    def _step(self, request: StepRequest, now: int) -> StepReply:
        before = self._circuits.get(request.client, FRESH)
        after, reply = step(before, now, request)
        # A look must leave no trace, not even the client's name in `names`. The
        # SQLite store has the same condition, and step.lua has its mode "look".
        if after != before and not request.read_only:
            self._circuits[request.client] = after
            for transition in reply.transitions:
                self._logged += 1
                self._log.append(replace(transition, cursor=str(self._logged)))
        return reply

    def transitions(self, after: str = "") -> list[Transition]:
        """Return the logged transitions after a cursor, oldest first. A cursor of another kind of store counts as none."""
        position = int(after) if after.isdigit() else 0
        with self._lock:
            return [transition for transition in self._log if int(transition.cursor) > position]

    def names(self) -> list[str]:
        """Return the clients whose circuits have ever changed, sorted."""
        with self._lock:
            return sorted(self._circuits)

    def forget(self, client: str) -> bool:
        """Delete the circuit of a client. Its logged transitions stay."""
        with self._lock:
            return self._circuits.pop(client, None) is not None

    def namespaces(self) -> list[str]:
        """Return the namespaces that have circuits here, sorted."""
        return namespaces_of(self.names())

    def in_namespace(self, namespace: str) -> Store:
        """Return this store with *namespace* in front of every client's name."""
        return NamespacedStore(self, namespace)

    def disconnect(self) -> None:
        """Do nothing: the child of a fork has its own copy."""

    def close(self) -> None:
        """Do nothing: another breaker may still use this store."""
