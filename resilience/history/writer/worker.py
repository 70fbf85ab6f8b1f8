"""What the writer thread does with records: log lines at once, rows in batches, and retries while the database is in trouble."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from resilience.errors import HistoryError
from resilience.history.schema.db_errors import DatabaseErrorKind, describe_error, error_kind, error_reason
from resilience.history.store.database import Database, Instance, WriterStats
from resilience.history.writer.drops import DropCounter
from resilience.history.writer.queue import FlushMarker, WriteQueue
from resilience.history.writer.sampling import DropReason, QueueLimits, QueueUsage
from resilience.history.writer.sinks import Sink, Sinks
from resilience.records.deferred import DeferredRecord
from resilience.records.log_events import Line, Loggable
from resilience.records.records import AttemptRecord, PayloadRecord, Record, StartRecord

_RETRY_SECONDS: Final = 30.0
"""Seconds between two attempts to reach a database that is away."""
_SWITCH_INTERVAL: Final = 0.005
"""Seconds another thread may keep the interpreter before this one runs, see `sys.getswitchinterval`."""
_LOCK_WAIT_MIN: Final = 0.1
_LOCK_WAIT_MAX: Final = 5.0
"""First and longest wait, in seconds, for a database that other processes keep locked."""

_log = logging.getLogger("resilience")


class Writer:
    """The records on their way to the database. Only `drops`, `depth` and `lag` may be used by other threads.

    Args:
        database: the database; None keeps no rows and serves the sinks alone.
        sinks: destinations of log lines.
        limits: limits of the queue.
        instance: this process, as the history knows it.
        now: the monotonic clock, in seconds.
        settings: returns the settings in effect, for the first log line.
        degraded: returns whether the store of circuits is away.
        flushed: called with the duration of each transaction in seconds.

    Attributes:
        instance: this process, as the history knows it.
        drops: the records that have no row.
    """

    def __init__(
        self,
        database: Database | None,
        sinks: Sequence[Sink],
        limits: QueueLimits,
        instance: Instance,
        now: Callable[[], float] = time.monotonic,
        *,
        settings: Callable[[], Mapping[str, Any]] | None = None,
        degraded: Callable[[], bool] | None = None,
        flushed: Callable[[float], None] | None = None,
    ) -> None:
        self.instance = instance
        self.drops = DropCounter()
        self._degraded = degraded
        self._flushed = flushed
        self._behind_since: float | None = None
        self._now = now
        self._database = database
        self._sinks = Sinks(sinks, instance, settings)
        self._limits = limits
        self._usage = QueueUsage(limits)
        self._queue = WriteQueue(self._usage)
        self._due = 0.0
        self._retry_at = 0.0
        self._lock_wait = _LOCK_WAIT_MIN
        self._transaction_time = 0.0
        self._away = False

    @property
    def depth(self) -> int:
        """Number of records that wait for the database."""
        return self._usage.rows

    @property
    def lag(self) -> float:
        """Seconds since the database last had every record that was taken; 0 while it has."""
        since = self._behind_since
        return 0.0 if since is None else max(0.0, self._now() - since)

    @property
    def connected(self) -> bool:
        """Whether the database was there at the last attempt."""
        return self._database is not None and not self._away

    @property
    def batch_wait(self) -> float:
        """Seconds that a new record may wait for others, so that it is in the database within `flush_interval`.

        Subtracted are the transaction itself, the one before it, which the record may have had to wait for, and the time
        until a woken thread runs. At least half of the interval remains, or slow databases would get tiny batches.
        """
        interval = self._limits.flush_interval
        return max(interval / 2, interval - 2 * self._transaction_time - _SWITCH_INTERVAL)

    def take(
        self, items: Sequence[Loggable | DeferredRecord | FlushMarker], *, waited: float | None = None
    ) -> None:
        """Write the log lines of *items* at once, and queue the rows as far as there is room.

        Args:
            items: records and flush markers, in order.
            waited: seconds that the records have waited for others to share their transaction. They were taken early for
                their log lines, and their rows wait for the rest of `batch_wait`. None: the rows are due now.
        """
        if waited is None:
            self._due = 0.0
        elif not self._queue:
            self._due = self._now() + self.batch_wait - waited
        lines: list[Line] = []
        for item in items:
            if isinstance(item, FlushMarker):
                # A caller waits: one attempt now, even if the database was away.
                self._due = self._retry_at = 0.0
                self._queue.append(item)
                continue
            try:
                lines += self._take_record(item)
            except Exception as exc:  # noqa: BLE001 - a malformed record must not end the thread that writes the others
                self.drops.add(1)
                _log.warning("a record was dropped, it could not be made (%s)", type(exc).__name__)
        if lines:
            self._sinks.write(lines)
        self._queue.complete_markers()

    def _take_record(self, item: Loggable | DeferredRecord) -> Iterable[Line]:
        """Build and redact *item* if that is still to be done, queue it, and return its log lines.

        Raises:
            Exception: it cannot be built, or is no record.
        """
        record = item.build() if isinstance(item, DeferredRecord | PayloadRecord) else item
        if isinstance(record, StartRecord | AttemptRecord):
            return self._sinks.lines(record, {})  # these have no rows
        queued, extra = self._enqueue(record)
        return self._sinks.lines(queued, extra) if self._sinks else ()

    def next_timeout(self) -> float | None:
        """Return the seconds until something must be written; None when nothing waits."""
        if not self._queue and (self._database is None or not self.drops.counters):
            return None
        due = 0.0 if self.depth >= self._limits.batch else self._due
        return max(0.0, max(self._retry_at, due) - self._now())

    def write_due(self, between_batches: Callable[[], None] | None = None) -> None:
        """Write what is due, until nothing is left or the database refuses.

        Args:
            between_batches: called after each batch, without a transaction.
        """
        while self.next_timeout() == 0.0 and self._write(self._queue.first_records(self._limits.batch)):
            self._queue.complete_markers()
            if between_batches is not None:
                between_batches()
        self.drops.report(self._now())

    def transact(self, work: Callable[[sa.Connection], Any]) -> Any:
        """Run *work* in a transaction of its own, once.

        While the database is away it is refused at once, because the next attempt of the writer finds out whether it is back.

        Raises:
            HistoryError: the database cannot be used, or *work* failed.
        """
        if self._database is None or (self._away and self._now() < self._retry_at):
            msg = "the history cannot be used now"
            raise HistoryError(msg)
        try:
            return self._database.do(work)
        except Exception as exc:
            if error_kind(exc) is not DatabaseErrorKind.LOCKED:
                self._database.close()
            raise HistoryError(describe_error(exc, self._database.where)) from exc

    def close(self) -> None:
        """Give up what could not be written, report it, and close the database."""
        self.drops.add(self._queue.clear())
        self.drops.report(self._now(), last=True)
        self.disconnect()

    def disconnect(self) -> None:
        """Close the database; the next batch opens it again."""
        if self._database is not None:
            self._database.close()

    def abandon(self) -> None:
        """Forget the connection that a forked child inherited, without touching it: it is the parent's."""
        if self._database is not None:
            self._database.abandon()

    # --- the queue ----------------------------------------------------------------------------------------------

    def _enqueue(self, record: Record) -> tuple[Record, dict[str, Any]]:
        """Queue *record* if there is room. Return it with its sample rate, and the fields for its log line if it has no row."""
        if self._database is None:
            return record, {}
        admitted = self._usage.admit(record)
        if isinstance(admitted, DropReason):
            return record, self.drops.count_record(record, admitted)
        if self._behind_since is None:
            self._behind_since = self._now()
        self._queue.append(admitted)
        return admitted, {}

    # --- the database -------------------------------------------------------------------------------------------

    def _write(self, batch: list[Record]) -> bool:
        """Write *batch*, the front of the queue, in one transaction. Return whether to go on with the next."""
        assert self._database is not None  # noqa: S101 - without a database nothing is queued
        began = self._now()
        try:
            self._database.write(batch, self.instance, self._stats(len(batch)))
        except Exception as exc:  # noqa: BLE001 - `error_kind` sorts every kind of error; none may reach a caller
            return self._on_error(exc, batch)
        self._queue.remove(len(batch))
        if not self.depth:
            self._behind_since = None
        duration = self._now() - began
        # A slowly decaying maximum: one slow transaction makes the next records come earlier for a while.
        self._transaction_time = max(duration, 0.9 * self._transaction_time)
        if self._flushed is not None:
            self._flushed(duration)
        self.drops.counters.confirm()
        self._lock_wait = _LOCK_WAIT_MIN
        if self._away:
            self._away = False
            _log.info(
                "the history is being written again; %d records wait, %d were dropped",
                self.depth,
                self.drops.dropped,
            )
        return True

    def _stats(self, batch: int) -> WriterStats:
        """Return the state of the writer as it will be after a batch of *batch* records."""
        return WriterStats(
            dropped=self.drops.dropped,
            sampled=self.drops.sampled,
            depth=self.depth - batch,
            degraded=self._degraded is not None and self._degraded(),
            pending_counts=self.drops.counters.next(),
        )

    def _on_error(self, exc: Exception, batch: list[Record]) -> bool:
        """Decide what an error of the database means for *batch*. Return whether to go on with the next."""
        kind = error_kind(exc)
        if kind is DatabaseErrorKind.POISON and batch:
            return self._isolate_poison(exc, batch)
        if kind in {DatabaseErrorKind.POISON, DatabaseErrorKind.COUNTERS}:
            # Not the rows but the counts were refused. They would be refused with every batch, so they are given up.
            self.drops.counters.confirm()
            _log.warning(
                "counts of records without rows were dropped, the database cannot keep them: %s",
                error_reason(exc),
            )
            return True
        if kind is DatabaseErrorKind.LOCKED:
            # The same batch again, after a random wait: many processes that write to one file must not retry in step.
            self._retry_at = self._now() + self._lock_wait * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            self._lock_wait = min(2 * self._lock_wait, _LOCK_WAIT_MAX)
            return False
        self._on_away(exc, final=kind is DatabaseErrorKind.NEWER)
        return False

    def _isolate_poison(self, exc: Exception, batch: list[Record]) -> bool:
        """Halve *batch* until the record that the database cannot store is alone, and drop that one."""
        if len(batch) > 1:
            return self._write(batch[: len(batch) // 2])
        (record,) = batch
        self._queue.remove(1)
        self.drops.count_record(record, DropReason.DROPPED)
        self.drops.mark_reported(1)
        _log.warning(
            "a record was dropped, the database cannot keep it: %s (%s)",
            type(record).__name__,
            error_reason(exc),
        )
        return True

    def _on_away(self, exc: Exception, *, final: bool) -> None:
        """Close a database that cannot be reached, and try again later.

        Args:
            exc: the error.
            final: whether the database was upgraded beyond this version, so that this process must leave it alone.
        """
        assert self._database is not None  # noqa: S101 - as in _write
        self._database.close()
        self._retry_at = self._now() + _RETRY_SECONDS
        self._queue.fail_markers()
        if final:
            _log.warning("%s; until then this process keeps no history", exc)
            self._database = None
            self.drops.add(self._queue.clear())
        elif not self._away:
            self._away = True
            _log.warning(
                "%s; calls go on, up to %d records wait, and the database is tried again every %d s",
                describe_error(exc, self._database.where),
                self._limits.max_rows,
                _RETRY_SECONDS,
            )
