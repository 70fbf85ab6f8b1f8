"""What the writer thread does with records: log lines at once, rows in batches, and retries while the database is in trouble."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from resilience import notices
from resilience.errors import HistoryError
from resilience.history.schema.error_kinds import DatabaseErrorKind
from resilience.history.store.lazy_database import LazyDatabase
from resilience.history.store.process import Instance, WriterStats
from resilience.history.writer.backoff import AWAY_WAIT, Retries
from resilience.history.writer.batch_wait import may_gather
from resilience.history.writer.drops import DropCounter
from resilience.history.writer.exit_report import Unwritten
from resilience.history.writer.log_presence import LogPresence
from resilience.history.writer.queue import FlushMarker, WriteQueue
from resilience.history.writer.row_schedule import RowSchedule
from resilience.history.writer.sampling import DropReason, QueueLimits, QueueUsage
from resilience.history.writer.self_report import SelfReport
from resilience.history.writer.sinks import LogLines, SinkGroup
from resilience.records.deferred import DeferredRecord
from resilience.records.log_events import Loggable
from resilience.records.records import AttemptRecord, PayloadRecord, Record, StartRecord

Item = Loggable | DeferredRecord | FlushMarker | tuple[SinkGroup, Loggable | DeferredRecord]
"""What callers hand to the writer thread."""

_log = logging.getLogger("resilience")


class Writer:
    """The records on their way to the database. Only `drops`, `depth` and `lag` may be used by other threads.

    Args:
        database: the database; None keeps no rows and serves the sinks alone.
        sinks: destinations of the log lines of records that name no other group.
        limits: limits of the queue.
        instance: this process, as the history knows it.
        now: the monotonic clock, in seconds.
        degraded: returns whether the store of circuits is away.
        flushed: called with the duration of each transaction in seconds.

    Attributes:
        instance: this process, as the history knows it.
        drops: the records that have no row.
        reached: whether the database was written at least once.
        trouble: why the last attempt failed; empty after one that succeeded.
        given_up: what had no row when the writer was closed; None before.
        log_lines: the log lines on their way to the sinks.
        about: what this process says of itself.
        presence: its files in the log folders; None without a database.
    """

    def __init__(
        self,
        database: LazyDatabase | None,
        sinks: SinkGroup,
        limits: QueueLimits,
        instance: Instance,
        now: Callable[[], float] = time.monotonic,
        *,
        degraded: Callable[[], bool] | None = None,
        flushed: Callable[[float], None] | None = None,
    ) -> None:
        self.instance = instance
        self.drops = DropCounter()
        self.about = SelfReport(self.drops, degraded)
        self._flushed = flushed
        self._behind_since: float | None = None
        self._now = now
        self._database = database
        self._default = sinks
        self.presence = None if database is None else LogPresence(instance, database.where)
        self.log_lines = LogLines(instance, self.presence)
        self._limits = limits
        self._usage = QueueUsage(limits)
        self._queue = WriteQueue(self._usage)
        self._rows = RowSchedule(limits.flush_interval)
        self._retries = Retries()
        self._away = False
        self._close_by = math.inf
        self._counts_first = False
        self._counted_ahead = 0
        self.reached = False
        self.trouble = ""
        self.given_up: Unwritten | None = None

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
    def is_complete(self) -> bool:
        """Whether all records that were taken are in the database, or dropped because the queue was full."""
        return self._database is not None and (self.given_up is None or not self.given_up.records)

    @property
    def batch_wait(self) -> float:
        """Seconds that a new record may wait for others, so that it is in the database within `flush_interval`."""
        return self._rows.batch_wait(self._now())

    @property
    def longest_wait(self) -> float:
        """Seconds to wait for a batch now: less than `batch_wait` if rows are due before."""
        timeout = self.next_timeout()
        return self.batch_wait if timeout is None else min(timeout, self.batch_wait)

    def take(self, items: Sequence[Item], *, waited: float | None = None) -> None:
        """Write the log lines of *items* at once, and queue the rows as far as there is room.

        Args:
            items: records and flush markers, in order; a record for other sinks than the default as a pair.
            waited: seconds that the records have waited for others to share their transaction. They were taken early for
                their log lines, and their rows wait for the rest of `batch_wait`. None: the rows are due now.
        """
        now, waiting = self._now(), bool(self._queue)
        gather, is_flush, in_files = list[bool](), False, True
        for item in items:
            if isinstance(item, FlushMarker):
                is_flush = True
                self._retries.now(hurry=item.closing)  # a caller waits
                self._queue.append(item)
                continue
            group, record = item if isinstance(item, tuple) else (self._default, item)
            try:
                gather.append(self._take_record(group, record))
                in_files &= bool(group.folders)
            except Exception as exc:  # noqa: BLE001 - a malformed record must not end the thread that writes the others
                self.drops.add(1)
                _log.warning("a record was dropped, it could not be made (%s)", type(exc).__name__)
        self._rows.take(now, waited=waited, gather=gather, waiting=waiting, in_files=in_files)
        if is_flush:
            self._rows.at_once()
        if not self.log_lines.write():
            self._rows.lines_lost()
        self._leave()  # before a marker of the end is completed: the process may be gone as soon as its wait is over
        self._queue.complete_markers()

    def take_late(self, group: SinkGroup, item: Record | DeferredRecord) -> None:
        """Write the log lines of a record that came after `close`, on its caller's thread, and count it as dropped."""
        self.drops.add(1)
        record = item.build() if isinstance(item, DeferredRecord | PayloadRecord) else item
        self._queue.last += 1
        self.log_lines.write_late(group, record, {"row_sequence": self._queue.last})

    def _take_record(self, group: SinkGroup, item: Loggable | DeferredRecord) -> bool:
        """Build and redact *item* if that is still to be done, queue it, and prepare its log lines for *group*.

        Returns:
            Whether it may wait for others: the row of a clean call, whose line is in a log file.

        Raises:
            Exception: it cannot be built, or is no record.
        """
        record = item.build() if isinstance(item, DeferredRecord | PayloadRecord) else item
        extra: dict[str, Any] = {}
        if not isinstance(record, StartRecord | AttemptRecord):  # these have no rows
            record, extra = self._enqueue(record)
        self.log_lines.add(group, record, extra)
        return bool(group.folders) and may_gather(record)

    def next_timeout(self) -> float | None:
        """Return the seconds until something must be written; None when nothing waits."""
        if not self._queue and (self._database is None or not self.drops.counters):
            return None
        due = 0.0 if self.depth >= self._limits.batch else self._rows.due
        return max(0.0, max(self._retries.at, due) - self._now())

    def write_due(self, between_batches: Callable[[], None] = lambda: None) -> None:
        """Write what is due, until nothing is left or the database refuses.

        Args:
            between_batches: called after each batch, without a transaction.
        """
        while self.next_timeout() == 0.0 and self._now() < self._close_by and self._write_next():
            self._queue.complete_markers()
            between_batches()
        self.drops.report(self._now())

    def close_by(self, deadline: float | None) -> None:
        """Count what is queued before its rows are written, and try nothing after *deadline*, by the monotonic clock.

        None ends that. May be called by any thread.
        """
        self._close_by = math.inf if deadline is None else deadline
        self._counts_first = deadline is not None

    def interrupt(self) -> None:
        """End the statement that runs on the writer thread. Called by another thread."""
        if self._database is not None:
            self._database.interrupt()

    def transact(self, work: Callable[[Any], Any]) -> Any:
        """Run *work* in a transaction of its own, once.

        While the database is away it is refused at once, because the next attempt of the writer finds out whether it is back.

        Raises:
            HistoryError: the database cannot be used, or *work* failed.
        """
        if self._database is None or (self._away and self._now() < self._retries.at):
            msg = "the history cannot be used now"
            raise HistoryError(msg)
        return self._database.transact(work)

    def close(self) -> None:
        """Give up what could not be written, report it, and close the database."""
        self._give_up_rows()
        self._leave()
        if self.given_up is not None:
            self.drops.mark_reported(self.given_up.records)  # the recorder reports it, with the remedy
        self.drops.report(self._now(), last=True)
        if self.presence is not None:
            self.presence.leave(complete=self.is_complete)
        self.disconnect()

    def disconnect(self) -> None:
        """Close the database; the next batch opens it again."""
        if self._database is not None:
            self._database.close()

    def abandon(self) -> None:
        """Forget the connection that a forked child inherited, without touching it: it is the parent's."""
        if self._database is not None:
            self._database.abandon()
        if self.presence is not None:
            self.presence.abandon()

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
        return admitted, {"row_sequence": self._queue.last}

    def unwritten(self) -> Unwritten:
        """Return what has no row yet."""
        is_counted = self._counted_ahead >= self._queue.last
        return Unwritten(records=self.depth, counted=is_counted, reason=self.trouble)

    def _give_up_rows(self) -> None:
        self.given_up = self.unwritten()
        self.drops.add(self._queue.clear())

    # --- the database -------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Write that this process ends, where there is time and its last batch has not said so. A failure is as a kill would be."""
        if not self._now() < self._close_by < math.inf or self.depth or not self.reached:
            return
        if self._database is not None and not self._away and not self.about.has_left:
            with suppress(Exception):
                self._database.leave(self.instance, self._stats(0, 0))
                self.about.written()

    def _write_next(self) -> bool:
        """Write the next batch; at the end of the process the counters of all records first. Return whether to go on."""
        if self._counts_first and max(self._counted_ahead, self._queue.before) < self._queue.last:
            return self._count_ahead()
        # Records that are counted already share no transaction with others: it counts all of its records or none.
        ahead = self._counted_ahead - self._queue.before
        limit = self._limits.batch
        return self._write(self._queue.first_records(min(limit, ahead) if ahead > 0 else limit))

    def _count_ahead(self) -> bool:
        """Count all queued records in one small transaction. Return whether to go on.

        What is counted stays so if the process is killed before the rows are written, and an import of its log lines adds
        the rows alone: the lines have the numbers of the records, and `instances` has the number of the last one counted.
        """
        assert self._database is not None  # noqa: S101 - as in _write
        records = self._queue.records()[max(0, self._counted_ahead - self._queue.before) :]
        try:
            self._database.count(records, self.instance, self._stats(0, self._queue.last))
        except Exception as exc:  # noqa: BLE001 - as in _write
            if self._database.kind_of(exc) in {DatabaseErrorKind.POISON, DatabaseErrorKind.COUNTERS}:
                # One record cannot be counted. The batches find it, and count the others with their rows.
                self._counts_first = False
                return True
            return self._on_error(exc, [])
        self._counted_ahead = self._queue.last
        self._on_success()
        return True

    def _write(self, batch: list[Record]) -> bool:
        """Write *batch*, the front of the queue, in one transaction. Return whether to go on with the next."""
        assert self._database is not None  # noqa: S101 - without a database nothing is queued
        began = self._now()
        try:
            stats = self._stats(len(batch), self._queue.before + len(batch))
            self._database.write(batch, self.instance, stats)
        except Exception as exc:  # noqa: BLE001 - `kind_of` sorts every kind of error; none may reach a caller
            return self._on_error(exc, batch)
        self._queue.remove(len(batch))
        if not self.depth:
            self._behind_since = None
        now = self._now()
        self._rows.written(began, now)
        if self._flushed is not None:
            self._flushed(now - began)
        self._on_success()
        return True

    def _on_success(self) -> None:
        self.about.written()
        self.reached, self.trouble = True, ""
        self._retries.reset()
        if self._away:
            self._away = False
            text = "the history is being written again; %d records wait, %d were dropped"
            _log.info(text, self.depth, self.drops.dropped)

    def _stats(self, batch: int, through: int) -> WriterStats:
        """Return the state of the writer as it will be after a batch of *batch* records, the last one with number *through*."""
        return self.about.stats(
            depth=self.depth - batch,
            before=max(self._counted_ahead, self._queue.before),
            through=through,
            is_counted=bool(batch) and through <= self._counted_ahead,
            leaving=self._close_by != math.inf,
        )

    def _on_error(self, exc: Exception, batch: list[Record]) -> bool:
        """Decide what an error of the database means for *batch*. Return whether to go on with the next."""
        assert self._database is not None  # noqa: S101 - as in _write
        kind, reason = self._database.kind_of(exc), self._database.reason_of(exc)
        self.trouble = str(exc) if isinstance(exc, HistoryError) else reason
        if kind is DatabaseErrorKind.POISON and batch:
            return self._isolate_poison(reason, batch)
        if kind in {DatabaseErrorKind.POISON, DatabaseErrorKind.COUNTERS}:
            # Not the rows but the counts were refused. They would be refused with every batch, so they are given up.
            self.drops.counters.confirm()
            text = "counts of records without rows were dropped, the database cannot keep them: %s"
            _log.warning(text, reason)
            return True
        if kind is DatabaseErrorKind.LOCKED:
            # The same batch again, after a random wait: many processes that write to one file must not retry in step.
            self._retries.after_lock(self._now())
            return False
        self._on_away(exc, final=kind is DatabaseErrorKind.NEWER)
        return False

    def _isolate_poison(self, reason: str, batch: list[Record]) -> bool:
        """Halve *batch* until the record that the database cannot store is alone, and drop that one."""
        if len(batch) > 1:
            return self._write(batch[: len(batch) // 2])
        (record,) = batch
        self.drops.count_poison(record, is_counted=self._queue.before < self._counted_ahead)
        self._queue.remove(1)
        text = "a record was dropped, the database cannot keep it: %s (%s)"
        _log.warning(text, type(record).__name__, reason)
        return True

    def _on_away(self, exc: Exception, *, final: bool) -> None:
        """Close a database that cannot be reached, and try again later.

        Args:
            exc: the error.
            final: whether the database was upgraded beyond this version, so that this process must leave it alone.
        """
        assert self._database is not None  # noqa: S101 - as in _write
        self._database.close()
        self._retries.after_outage(self._now())
        # A close waits for a database that was there before: it may be back within its time limit.
        self._queue.fail_markers(closing=final or not self.reached)
        if final:
            notices.warn(_log, "history", f"{exc}; until then this process keeps no history")
            self._database = None
            self._give_up_rows()
        elif not self._away:
            self._away = True
            why, most = self._database.describe(exc), self._limits.max_rows
            waits = f"calls go on, up to {most} records wait, and the database is tried again"
            notices.warn(_log, "history", f"{why}; {waits}, every {AWAY_WAIT[1]:g} s at least")
