"""Views that are renewed although no call waits for them: those of clean circuits that this process used a moment ago.

The first call that finds such a view old does not wait for its refresh. With it may go all calls that this process begins in that
moment, to a client that the fleet has found to be down since. So the sync thread renews the view before, for as long as it admits
calls without a wait (`LocalCircuit.clean_until`). A process that calls a client once a second makes 2.4 requests a second to Redis
then, and none once it has stopped calling.
"""

from __future__ import annotations

import heapq
import itertools
import math
from typing import Final

from resilience.breaker.local.circuit import LocalCircuit

_RENEWED_AFTER: Final = 2
"""After how many times `max_staleness` a view is renewed without a call. At once would double the requests of a process that calls
three times a second, whose results bring a view each time. At twice it costs such a process nothing."""


class Renewals:
    """The circuits to be renewed, by time. The caller holds the lock of `LocalCircuits`. Times are seconds of the monotonic clock."""

    __slots__ = ("_count", "_due", "_queue")

    def __init__(self) -> None:
        self._count = itertools.count()  # circuits have no order
        self._due: dict[LocalCircuit, float] = {}
        # An entry whose time is not that of its circuit is void: the view was renewed by the request of a call.
        self._queue: list[tuple[float, int, LocalCircuit]] = []

    @property
    def due(self) -> float:
        """When the next renewal is due; infinity without one."""
        while self._queue and self._due.get(self._queue[0][2]) != self._queue[0][0]:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else math.inf

    def add(self, circuit: LocalCircuit) -> None:
        """Add a circuit whose view has just come, if it is to be renewed."""
        due = _due(circuit)
        if due < math.inf:
            self._due[circuit] = due
            heapq.heappush(self._queue, (due, next(self._count), circuit))

    def has(self, circuit: LocalCircuit) -> bool:
        """Return whether the view of a circuit will be renewed without a call."""
        return circuit in self._due

    def take(self, now: float, requested: dict[LocalCircuit, None]) -> None:
        """Add the circuits whose views must be renewed *now* to those that are *requested*, and forget all of these."""
        for circuit in requested:
            self._due.pop(circuit, None)
        while self.due <= now:
            circuit = heapq.heappop(self._queue)[2]
            del self._due[circuit]
            if now < circuit.clean_until(
                circuit.policy
            ):  # else the thread comes late, and the next call waits for its view
                requested[circuit] = None


def _due(circuit: LocalCircuit) -> float:
    """Return when the view must be renewed without a call; infinity if only a call renews it."""
    view = circuit.view
    if view is None or not view.shared or not circuit.is_clean(view):
        return math.inf
    due = view.at + _RENEWED_AFTER * circuit.staleness(circuit.policy)
    return due if due < circuit.clean_until(circuit.policy) else math.inf
