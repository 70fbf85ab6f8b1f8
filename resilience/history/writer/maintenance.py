"""The work that a writer thread does for all processes when it has nothing to write: deleting old rows, importing log lines."""

from __future__ import annotations

import math
import time

from resilience.history.retention.job import RetentionJob
from resilience.history.retention.policy import Retention
from resilience.history.store.lazy_database import LazyDatabase
from resilience.history.writer.log_recovery import LogRecovery
from resilience.history.writer.worker import Writer


class Maintenance:
    """The maintenance of one writer. Used by the writer thread alone.

    Args:
        database: the database of the writer.
        retention: when rows are deleted.
        writer: the writer.
    """

    def __init__(self, database: LazyDatabase, retention: Retention, writer: Writer) -> None:
        self._writer = writer
        self._retention = RetentionJob(database.load, retention, writer.instance.instance_id)
        self._recovery = LogRecovery(
            database.load, database.where, writer.presence, writer.instance.namespace
        )
        self._next = -math.inf

    @property
    def is_due(self) -> bool:
        """Whether `step` may have something to do, as `next_timeout` said last. Asked after each cycle, so it must cost nothing."""
        return time.monotonic() >= self._next

    def next_timeout(self, timeout: float | None) -> float | None:
        """Return the seconds until `step` has something to do, or *timeout* if that is sooner; None for neither."""
        if not self._writer.connected:
            return timeout
        due = [self._retention.seconds_until_due(), math.inf if timeout is None else timeout]
        # The lines of others only after rows of its own, for which the database was created or upgraded.
        if self._writer.reached and (recovery := self._recovery.seconds_until_due()) is not None:
            due.append(recovery)
        self._next = time.monotonic() + min(due)
        return min(due)

    def step(self) -> None:
        """Do one piece of each job that is due. Never raises."""
        if not self._writer.connected:
            return
        self._retention.step()
        if self._writer.reached:
            self._recovery.step()
