"""What the writer thread does: lines at once, rows in batches, and patience with a database in trouble."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from resilience.errors import HistoryError
from resilience.history.schema.db_errors import DatabaseErrorKind, complaint, reason, trouble
from resilience.history.store.database import Database, Instance, WriterStats
from resilience.history.writer.drops import DropCounter
from resilience.history.writer.queue import FlushMarker, WriteQueue
from resilience.history.writer.sampling import DropReason, QueueLimits, QueueUsage
from resilience.history.writer.sinks import Sink, Sinks
from resilience.records.deferred import DeferredRecord
from resilience.records.log_events import Line, Loggable
from resilience.records.records import AttemptRecord, PayloadRecord, Record, StartRecord

_PAUSE: Final = 30.0
"""Seconds between two tries of a database that is away."""
_TURN: Final = 0.005
"""Seconds another thread may keep the interpreter to itself, see `sys.getswitchinterval`."""
_LOCKED: Final = (0.1, 5.0)
"""First and longest wait, in seconds, for a database that others keep locked."""

_log = logging.getLogger("resilience")


@dataclass(slots=True, eq=False)
class Job:
    """Something else the writer thread is to do with the database, for a caller who wants its result or its error.

    Attributes:
        due: not before this instant of the monotonic clock.
        work: what, in a transaction of its own.
        future: where the result goes.
    """

    due: float
    work: Callable[[sa.Connection], Any]
    future: Future[Any]


class Writer:
    """The records on their way to the database. Only `losses` and `depth` are for other threads.

    Attributes:
        instance: this process, as the history knows it.
        losses: the records that have no row.
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
        self._degraded = degraded
        self._flushed = flushed
        self._behind_since: float | None = None
        self.losses = DropCounter()
        self._now = now
        self._database = database
        self._sinks = Sinks(sinks, instance, settings)
        self._limits = limits
        self._gauge = QueueUsage(limits)
        self._backlog = WriteQueue(self._gauge)
        self._due = 0.0
        self._retry_at = 0.0
        self._lock_wait = _LOCKED[0]
        self._took = 0.0
        self._away = False

    @property
    def depth(self) -> int:
        """How many records wait for the database."""
        return self._gauge.rows

    @property
    def lag(self) -> float:
        """Seconds since everything that was taken was in the database; 0 while it is."""
        since = self._behind_since
        return 0.0 if since is None else max(0.0, self._now() - since)

    @property
    def reaches(self) -> bool:
        """Was the database there at the last try?"""
        return self._database is not None and not self._away

    @property
    def patience(self) -> float:
        """Seconds a record that comes now may wait for others, so that it is in the database within `flush_interval`.

        A transaction takes its time, what came while the one before it ran has waited so long already, and a thread that
        is woken has to wait for its turn.
        """
        interval = self._limits.flush_interval
        return max(interval / 2, interval - 2 * self._took - _TURN)

    def take(
        self, items: Sequence[Loggable | DeferredRecord | FlushMarker], *, waited: float | None = None
    ) -> None:
        """Show *items* to the sinks at once, and keep them for the database as far as there is room.

        Those taken early, for the sake of the sinks, have *waited* so many seconds for others to share their transaction,
        and go on doing so; those of which it is not said are due now.
        """
        if waited is None:
            self._due = 0.0
        elif not self._backlog:
            self._due = self._now() + self.patience - waited
        lines: list[Line] = []
        for item in items:
            if isinstance(item, FlushMarker):
                self._due = self._retry_at = 0.0  # somebody waits: one try now
                self._backlog.append(item)
                continue
            try:
                lines += self._taken(item)
            except Exception as exc:  # noqa: BLE001 - a record made wrongly must not end the thread that keeps the others
                self.losses.drop(1)
                _log.warning("a record was dropped, it could not be made (%s)", type(exc).__name__)
        if lines:
            self._sinks.tell(lines)
        self._backlog.ring()

    def _taken(self, item: Loggable | DeferredRecord) -> Iterable[Line]:
        """Keep *item*, made and redacted if it is not yet; gives its lines.

        Raises:
            Exception: it cannot be made, or is no record.
        """
        record = item.build() if isinstance(item, DeferredRecord | PayloadRecord) else item
        if isinstance(record, StartRecord | AttemptRecord):
            return self._sinks.lines(record, {})
        kept, unkept = self._keep(record)
        return self._sinks.lines(kept, unkept) if self._sinks else ()

    def nap(self) -> float | None:
        """Seconds until something must be written; None when nothing waits."""
        if not self._backlog and (self._database is None or not self.losses.tally):
            return None
        due = 0.0 if self.depth >= self._limits.batch else self._due
        return max(0.0, max(self._retry_at, due) - self._now())

    def write(self, between: Callable[[], None] | None = None) -> None:
        """Write what is due, until nothing is left or the database refuses; *between* is done after each batch."""
        while self.nap() == 0.0 and self._store(self._backlog.front(self._limits.batch)):
            self._backlog.ring()
            if between is not None:
                between()
        self.losses.tell(self._now())

    def do(self, job: Job) -> Callable[[], None]:
        """Do a job, once; returns what tells its caller, to be called when no lock is held.

        While the database is away it is refused at once: the writer's own next try finds out whether it is back.
        """
        try:
            return partial(job.future.set_result, self._done(job.work))
        except Exception as exc:  # noqa: BLE001 - the one who asked gets it
            return partial(job.future.set_exception, exc)

    def _done(self, work: Callable[[sa.Connection], Any]) -> Any:
        if self._database is None or (self._away and self._now() < self._retry_at):
            msg = "the history cannot be used now"
            raise HistoryError(msg)
        try:
            return self._database.do(work)
        except Exception as exc:
            if trouble(exc) is not DatabaseErrorKind.LOCKED:
                self._database.close()
            raise HistoryError(complaint(exc, self._database.where)) from exc

    def close(self) -> None:
        """Give up what could not be written, say so, and close the database."""
        self.losses.drop(self._backlog.clear())
        self.losses.tell(self._now(), last=True)
        if self._database is not None:
            self._database.close()

    def park(self) -> None:
        """Close the database until the next batch."""
        if self._database is not None:
            self._database.close()

    def abandon(self) -> None:
        """Forget everything inherited over a fork."""
        if self._database is not None:
            self._database.abandon()

    # --- the backlog --------------------------------------------------------------------------------------------

    def _keep(self, record: Record) -> tuple[Record, dict[str, Any]]:
        """The record as it is kept, and what its line is to say when it is not."""
        if self._database is None:
            return record, {}
        admitted = self._gauge.admit(record)
        if isinstance(admitted, DropReason):
            return record, self.losses.lose(record, admitted)
        if self._behind_since is None:
            self._behind_since = self._now()
        self._backlog.append(admitted)
        return admitted, {}

    # --- the database -------------------------------------------------------------------------------------------

    def _store(self, batch: list[Record]) -> bool:
        """Write *batch*, which is the front of the backlog; is there any use in going on?"""
        assert self._database is not None  # noqa: S101 - without one nothing is kept in the backlog
        began = self._now()
        try:
            self._database.write(batch, self.instance, self._standing(len(batch)))
        except Exception as exc:  # noqa: BLE001 - whatever it is, a caller's work goes on; `trouble` knows each kind
            return self._refused(exc, batch)
        self._backlog.forget(len(batch))
        if not self.depth:
            self._behind_since = None
        took = self._now() - began
        self._took = max(took, 0.9 * self._took)  # the slow ones of late count
        if self._flushed is not None:
            self._flushed(took)
        self.losses.tally.told()
        self._lock_wait = _LOCKED[0]
        if self._away:
            self._away = False
            _log.info(
                "the history is being written again; %d records wait, %d were dropped",
                self.depth,
                self.losses.dropped,
            )
        return True

    def _standing(self, batch: int) -> WriterStats:
        losses = self.losses
        return WriterStats(
            dropped=losses.dropped,
            sampled=losses.sampled,
            depth=self.depth - batch,
            degraded=self._degraded is not None and self._degraded(),
            pending_counts=losses.tally.next(),
        )

    def _refused(self, exc: Exception, batch: list[Record]) -> bool:
        kind = trouble(exc)
        if kind is DatabaseErrorKind.POISON and batch:
            return self._poisoned(exc, batch)
        if kind in {DatabaseErrorKind.POISON, DatabaseErrorKind.COUNTERS}:
            self.losses.tally.told()
            _log.warning(
                "counts of records without rows were dropped, the database cannot keep them: %s", reason(exc)
            )
            return True
        if kind is DatabaseErrorKind.LOCKED:
            self._retry_at = self._now() + self._lock_wait * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            self._lock_wait = min(2 * self._lock_wait, _LOCKED[1])
            return False
        self._gone(exc, final=kind is DatabaseErrorKind.NEWER)
        return False

    def _poisoned(self, exc: Exception, batch: list[Record]) -> bool:
        """Halve *batch* until the bad record stands alone, and give that up."""
        if len(batch) > 1:
            return self._store(batch[: len(batch) // 2])
        (record,) = batch
        self._backlog.forget(1)
        self.losses.lose(record, DropReason.DROPPED)
        self.losses.said(1)
        _log.warning(
            "a record was dropped, the database cannot keep it: %s (%s)", type(record).__name__, reason(exc)
        )
        return True

    def _gone(self, exc: Exception, *, final: bool) -> None:
        assert self._database is not None  # noqa: S101 - as in _store
        self._database.close()
        self._retry_at = self._now() + _PAUSE
        self._backlog.fail()
        if final:
            _log.warning("%s; until then this process keeps no history", exc)
            self._database = None
            self.losses.drop(self._backlog.clear())
        elif not self._away:
            self._away = True
            _log.warning(
                "%s; calls go on, up to %d records wait, and the database is tried again every %d s",
                complaint(exc, self._database.where),
                self._limits.max_rows,
                _PAUSE,
            )
