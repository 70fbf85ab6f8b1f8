"""The records that wait for the database, in order, with the places somebody waits for."""

from __future__ import annotations

from collections import deque
from itertools import islice

from resilience.history.writer.sampling import QueueUsage
from resilience.history.writer.wakeup import Wakeup
from resilience.records.records import Record


class FlushMarker:
    """A place in the queue. Its bell rings when everything before it is written, or cannot be for now."""

    __slots__ = ("bell", "written")

    def __init__(self) -> None:
        self.bell = Wakeup()
        self.written = False

    def reach(self, *, written: bool) -> None:
        """Tell whoever waits."""
        self.written = written
        self.bell.ring()


class WriteQueue:
    """Records and marks in the order they came.

    Args:
        gauge: is told what comes and goes.
    """

    def __init__(self, gauge: QueueUsage) -> None:
        self._items: deque[Record | FlushMarker] = deque()
        self._gauge = gauge

    def __bool__(self) -> bool:
        return bool(self._items)

    def append(self, item: Record | FlushMarker) -> None:
        """One more waits, or somebody for all that do."""
        self._items.append(item)
        if not isinstance(item, FlushMarker):
            self._gauge.came(item)

    def front(self, most: int) -> list[Record]:
        """The first records, up to the next mark."""
        front: list[Record] = []
        for item in islice(self._items, most):
            if isinstance(item, FlushMarker):
                break
            front.append(item)
        return front

    def forget(self, count: int) -> None:
        """The first *count* records are written, or given up."""
        for _ in range(count):
            item = self._items.popleft()
            if not isinstance(item, FlushMarker):
                self._gauge.went(item)

    def clear(self) -> int:
        """Give up all records; how many were there?"""
        records = [item for item in self._items if not isinstance(item, FlushMarker)]
        self._items.clear()
        for record in records:
            self._gauge.went(record)
        return len(records)

    def ring(self) -> None:
        """Tell those who wait for nothing more."""
        while self._items and isinstance(mark := self._items[0], FlushMarker):
            self._items.popleft()
            mark.reach(written=True)

    def fail(self) -> None:
        """Tell all who wait that it cannot be for now."""
        for item in self._items:
            if isinstance(item, FlushMarker):
                item.reach(written=False)
        self._items = deque(item for item in self._items if not isinstance(item, FlushMarker))
