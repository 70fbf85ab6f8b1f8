"""The counts of records without rows, in memory until the database has them.

See `counters.py` for how they are counted exactly once.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from resilience.records.records import Record

if TYPE_CHECKING:
    from resilience.history.store.counters import Counts


class CounterBuffer:
    """Counts of records without rows that are not in the database yet. Safe in any thread and any signal handler.

    Counts that are being written are set aside, so that a retry writes exactly the same ones: their sequence number is what tells the
    database whether it has them. Records that come meanwhile go into new counts.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a signal handler may record
        self._counts: Counts | None = None
        self._writing: Counts | None = None
        self._last = 0

    def __bool__(self) -> bool:
        return self._writing is not None or bool(self._counts)

    @property
    def before(self) -> int:
        """The sequence number of the record that was written last; 0 before the first."""
        counts = self._writing or self._counts
        return self._last if counts is None else counts.after

    def add(self, record: Record) -> int:
        """Count *record* and return its sequence number, 1 for the first of this process.

        Raises:
            Exception: as `Counts.add`.
        """
        with self._lock:
            if self._counts is None:
                self._counts = _counts_after(self._last)
            self._counts.add(record)
            self._last = self._counts.through = self._counts.through + 1
            return self._last

    def next(self) -> Counts | None:
        """Return the counts to write, the same ones until `confirm` is called; None if there are none."""
        # The writer calls this under its connection lock, one thread at a time, so `_writing` itself needs no lock.
        if self._writing is None:
            with self._lock:
                if self._counts:
                    self._writing, self._counts = self._counts, None
        return self._writing

    def confirm(self) -> None:
        """Forget the counts that `next` returned: they are in the database, or were given up."""
        self._writing = None


def _counts_after(number: int) -> Counts:
    # Here, because few processes have such a record, and the tables of the counters import SQLAlchemy, which a handler has done.
    from resilience.history.store.counters import Counts  # noqa: PLC0415

    return Counts(through=number, after=number)
