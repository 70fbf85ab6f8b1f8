"""The records that wait for the database, in order, with the markers of callers that flush."""

from __future__ import annotations

from collections import deque
from itertools import islice

from resilience.background import Wakeup
from resilience.history.writer.sampling import QueueUsage
from resilience.records.records import Record


class FlushMarker:
    """A position in the queue that a flushing caller waits for.

    Args:
        closing: whether the process or the recorder ends, so that counters come before rows.

    Attributes:
        closing: as given.
        written: whether everything before the marker is in the database. Valid once `wait` has returned True.
    """

    __slots__ = ("_completed", "closing", "written")

    def __init__(self, *, closing: bool = False) -> None:
        self.closing = closing
        self.written = False
        self._completed = Wakeup()

    def complete(self, *, written: bool) -> None:
        """End the wait.

        Args:
            written: whether everything before the marker is in the database; False if that is impossible for now.
        """
        self.written = written
        self._completed.set()

    def wait(self, timeout: float) -> bool:
        """Wait until the marker is completed, at most *timeout* seconds. Return whether it was."""
        return self._completed.wait(timeout)


class WriteQueue:
    """Records and flush markers in the order they arrived. Used by the writer thread alone.

    Records are numbered in the order they arrive, from 1. They leave in that order too, so two numbers say which are here.

    Args:
        usage: counts what is in the queue.

    Attributes:
        last: number of the record that arrived last; 0 before the first.
    """

    def __init__(self, usage: QueueUsage) -> None:
        self.last = 0
        self._items: deque[Record | FlushMarker] = deque()
        self._usage = usage

    def __bool__(self) -> bool:
        return bool(self._items)

    def append(self, item: Record | FlushMarker) -> None:
        """Append a record or a marker."""
        self._items.append(item)
        # Only records count against the limits: a flush must be possible when the queue is full.
        if not isinstance(item, FlushMarker):
            self.last += 1
            self._usage.add(item)

    @property
    def before(self) -> int:
        """Number of the record that left the queue last; 0 before the first."""
        return self.last - self._usage.rows

    def records(self) -> list[Record]:
        """Return all records, in order."""
        return [item for item in self._items if not isinstance(item, FlushMarker)]

    def first_records(self, limit: int) -> list[Record]:
        """Return the records before the next marker, at most *limit*. They stay in the queue until `remove`."""
        records: list[Record] = []
        for item in islice(self._items, limit):
            if isinstance(item, FlushMarker):
                break
            records.append(item)
        return records

    def remove(self, count: int) -> None:
        """Remove the first *count* records, which were written or given up."""
        for _ in range(count):
            item = self._items.popleft()
            if not isinstance(item, FlushMarker):
                self._usage.remove(item)

    def clear(self) -> int:
        """Give up all records and markers. Return the number of records."""
        records = self.records()
        self._items.clear()
        for record in records:
            self._usage.remove(record)
        return len(records)

    def complete_markers(self) -> None:
        """Complete the markers at the front, whose records are all written."""
        while self._items and isinstance(marker := self._items[0], FlushMarker):
            self._items.popleft()
            marker.complete(written=True)

    def fail_markers(self, *, closing: bool) -> None:
        """Complete markers as not written, and remove them. The records stay.

        Args:
            closing: whether to fail those of a close as well, which waits for its time limit otherwise.
        """
        failed = [
            item for item in self._items if isinstance(item, FlushMarker) and (closing or not item.closing)
        ]
        for marker in failed:
            marker.complete(written=False)
        self._items = deque(item for item in self._items if item not in failed)
