"""Counting records into the tables of counters, each record exactly once.

A record with a row is counted in the transaction that inserts the row, and only if the row is new. So a batch may be sent again
after a commit whose result is unknown, and a log may be imported twice.

A record without a row (dropped because the queue was full, or sampled out) has no key that could protect it. It gets a sequence
number instead. Counts are written together with the number of the last record in them, which goes to `instances.counted_through`
in the same transaction. Counts whose number is not higher than the stored one are already in the database.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import sqlalchemy as sa

from resilience.history.store import error_groups
from resilience.history.store.batches import PoisonError
from resilience.history.store.error_groups import Groups
from resilience.history.store.error_rollups import ErrorRollups
from resilience.history.store.latencies import Latencies
from resilience.history.store.rollups import Rollups
from resilience.history.store.tenant_rollups import TenantRollups
from resilience.records.records import CallRecord, ErrorRecord, FallbackRecord, Record


@dataclass(slots=True)
class Counts:
    """What some records add to the counters.

    Attributes:
        through: the sequence number of the last record, for records without rows.
        after: the sequence number before the first one.
        rollups: counts by minute, client and function.
        groups: counts by kind of error.
        errors: counts of errors by what followed.
        latencies: durations by size.
        tenants: counts by tenant.
    """

    through: int = 0
    after: int = 0
    rollups: Rollups = field(default_factory=Rollups)
    groups: Groups = field(default_factory=Groups)
    errors: ErrorRollups = field(default_factory=ErrorRollups)
    latencies: Latencies = field(default_factory=Latencies)
    tenants: TenantRollups = field(default_factory=TenantRollups)

    def __bool__(self) -> bool:
        # Every other count comes with one of these two.
        return bool(self.rollups) or bool(self.errors)

    def add(self, record: Record) -> None:
        """Count *record*.

        Raises:
            Exception: it is not a record, or its time has no timezone. It may be counted in part then.
        """
        if isinstance(record, CallRecord):
            self.rollups.add(record)
            self.latencies.add(record)
            self.tenants.add(record)
        elif isinstance(record, ErrorRecord):
            self.rollups.add(record)
            self.groups.add(record)
            self.errors.add(record)
            self.latencies.add(record)
        elif isinstance(record, FallbackRecord):
            self.errors.add(record)

    def write(self, connection: sa.Connection) -> None:
        """Add the counts to those in the database, in the transaction of *connection*."""
        # The same order of tables in every process, for the same reason as the order of rows.
        self.rollups.write(connection)
        error_groups.write(connection, self.groups.rows())
        for counter in (self.errors, self.latencies, self.tenants):
            counter.write(connection)


def counted(records: Iterable[Record]) -> Counts:
    """Return what *records* add to the counters.

    Raises:
        PoisonError: one of them cannot be counted.
    """
    counts = Counts()
    for record in records:
        try:
            counts.add(record)
        except Exception as exc:
            raise PoisonError(str(exc)) from exc
    return counts
