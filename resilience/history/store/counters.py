"""What the counters are to be told, and the rule that they are told each record once.

A record with a row is counted in the transaction that inserts its row, and only if the row is new: then a batch may come
again after a commit whose end was not seen, and a log may be imported twice. A record without a row (there was no room for
it, or one of ten was kept) is counted here, numbered, and written with the number it leads to; `instances.counted_through` has the
number that was written last, in the same transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

import sqlalchemy as sa

from resilience.history.store import error_groups, rollups
from resilience.history.store.batches import PoisonError
from resilience.history.store.error_groups import Groups
from resilience.history.store.rollups import Rollups
from resilience.records.records import Record


@dataclass(slots=True)
class Counts:
    """What some records add to `rollups` and `error_groups`.

    Attributes:
        through: the number of the last record in it, for records without rows.
    """

    through: int = 0
    rollups: Rollups = field(default_factory=Rollups)
    groups: Groups = field(default_factory=Groups)

    def __bool__(self) -> bool:
        return bool(self.rollups) or bool(self.groups)

    def add(self, record: Record) -> None:
        """Count *record*.

        Raises:
            Exception: it is none, or its time has no timezone. What was counted of it then is not defined.
        """
        self.rollups.add(record)
        self.groups.add(record)

    def write(self, connection: sa.Connection) -> None:
        """Add it to the counters of the database, in the transaction of *connection*."""
        rollups.write(connection, self.rollups.rows())
        error_groups.write(connection, self.groups.rows())


def counted(records: Iterable[Record]) -> Counts:
    """What *records* add.

    Raises:
        PoisonError: one of them is of the wrong kind.
    """
    counts = Counts()
    for record in records:
        try:
            counts.add(record)
        except Exception as exc:
            raise PoisonError(str(exc)) from exc
    return counts


class CounterBuffer:
    """The records without rows that the database has not been told of. Safe from any thread and any signal handler."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a signal handler may record
        self._counts = Counts()
        self._told: Counts | None = None

    def __bool__(self) -> bool:
        return self._told is not None or bool(self._counts)

    def add(self, record: Record) -> int:
        """Count *record*; gives its number, 1 for the first of this process.

        Raises:
            Exception: as `Counts.add`.
        """
        with self._lock:
            self._counts.add(record)
            self._counts.through += 1
            return self._counts.through

    def next(self) -> Counts | None:
        """What to tell the database now: the same again until `told` was called; None when there is nothing."""
        if self._told is None:
            with self._lock:
                if self._counts:
                    self._told, self._counts = self._counts, Counts(self._counts.through)
        return self._told

    def told(self) -> None:
        """The database has it."""
        self._told = None
