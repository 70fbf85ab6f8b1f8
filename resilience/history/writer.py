"""What the writer thread does: lines at once, rows in batches, and patience with a database in trouble."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Sized
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from resilience.errors import HistoryError, ResilienceError
from resilience.history import rows
from resilience.history.bell import Bell
from resilience.history.database import Database, Instance, Trouble, trouble
from resilience.history.lines import Line
from resilience.history.lines import lines as lines_of
from resilience.history.record import PayloadRecord

_PAUSE: Final = 30.0
"""Seconds between two tries of a database that is away."""
_LOCKED: Final = (0.1, 5.0)
"""First and longest wait, in seconds, for a database that others keep locked."""
_MINUTE: Final = 60.0

_log = logging.getLogger("resilience")


class Sink(Protocol):
    """Where lines go besides the database, for example `resilience.logs.JsonLines`."""

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Take `(stream, line)` pairs; called on the writer thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may wait, and for how long; see `Recorder`."""

    max_rows: int
    max_bytes: int
    flush_interval: float
    batch: int


class Mark:
    """A place in the queue. Its bell rings when everything before it is written, or cannot be for now."""

    __slots__ = ("bell", "written")

    def __init__(self) -> None:
        self.bell = Bell()
        self.written = False

    def reach(self, *, written: bool) -> None:
        """Tell whoever waits."""
        self.written = written
        self.bell.ring()


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


def size(record: rows.Record) -> int:
    """About how many bytes a waiting record holds."""
    if isinstance(record, PayloadRecord):
        return 512 + sum(len(text) for text in (record.prompt, record.raw_output) if isinstance(text, Sized))
    return 512 + len(getattr(record, "message", ""))


class Writer:
    """The records on their way to the database. Only `dropped` and `depth` are for other threads.

    Attributes:
        instance: this process, as the history knows it.
    """

    def __init__(
        self,
        database: Database | None,
        sinks: Sequence[Sink],
        limits: Limits,
        instance: Instance,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.instance = instance
        self._now = now
        self._database = database
        self._sinks = sinks
        self._limits = limits
        self._backlog: deque[rows.Record | Mark] = deque()
        self._rows = self._bytes = 0
        self._due = 0.0
        self._retry_at = 0.0
        self._lock_wait = _LOCKED[0]
        self._away = False
        self._sinks_failing: set[int] = set()
        self._drops = threading.RLock()  # re-entrant: a signal handler may record
        self._dropped = self._dropped_told = 0
        self._dropped_told_at = -_MINUTE

    @property
    def depth(self) -> int:
        """How many records wait for the database."""
        return self._rows

    @property
    def dropped(self) -> int:
        """How many records were given up."""
        return self._dropped

    def drop(self, count: int = 1) -> None:
        """Count records that were given up."""
        with self._drops:
            self._dropped += count

    def take(self, items: Sequence[rows.Record | Mark], *, early: bool = False) -> None:
        """Show *items* to the sinks at once, and keep them for the database as far as there is room.

        Those taken *early*, for the sake of the sinks, wait up to `flush_interval` for others to share their transaction.
        """
        items = [item.opened() if isinstance(item, PayloadRecord) else item for item in items]
        if self._sinks:
            self._tell_sinks([item for item in items if not isinstance(item, Mark)])
        if not early:
            self._due = 0.0
        elif not self._backlog:
            self._due = self._now() + self._limits.flush_interval
        for item in items:
            if isinstance(item, Mark):
                self._due = self._retry_at = 0.0  # somebody waits: one try now
                self._backlog.append(item)
            elif self._database is not None:
                self._keep(item)
        self._ring_marks()

    def nap(self) -> float | None:
        """Seconds until something must be written; None when nothing waits."""
        if not self._backlog:
            return None
        due = 0.0 if self._rows >= self._limits.batch else self._due
        return max(0.0, max(self._retry_at, due) - self._now())

    def write(self) -> None:
        """Write what is due, until nothing is left or the database refuses."""
        while self.nap() == 0.0 and self._store(self._front()):
            self._ring_marks()
        self._tell_dropped()

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
            if trouble(exc) is not Trouble.LOCKED:
                self._database.close()
            raise HistoryError(_complaint(exc, self._database.where)) from exc

    def close(self) -> None:
        """Give up what could not be written, say so, and close the database."""
        self._give_up()
        self._tell_dropped(last=True)
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

    def _keep(self, record: rows.Record) -> None:
        if self._rows >= self._limits.max_rows or self._bytes >= self._limits.max_bytes:
            self.drop()
            return
        self._rows += 1
        self._bytes += size(record)
        self._backlog.append(record)

    def _front(self) -> list[rows.Record]:
        front: list[rows.Record] = []
        for item in islice(self._backlog, self._limits.batch):
            if isinstance(item, Mark):
                break
            front.append(item)
        return front

    def _forget(self, count: int) -> None:
        for _ in range(count):
            item = self._backlog.popleft()
            if not isinstance(item, Mark):
                self._rows -= 1
                self._bytes -= size(item)

    def _give_up(self) -> None:
        self.drop(self._rows)
        self._backlog.clear()
        self._rows = self._bytes = 0

    def _ring_marks(self) -> None:
        while self._backlog and isinstance(mark := self._backlog[0], Mark):
            self._backlog.popleft()
            mark.reach(written=True)

    def _fail_marks(self) -> None:
        for item in self._backlog:
            if isinstance(item, Mark):
                item.reach(written=False)
        self._backlog = deque(item for item in self._backlog if not isinstance(item, Mark))

    # --- the database -------------------------------------------------------------------------------------------

    def _store(self, batch: list[rows.Record]) -> bool:
        """Write *batch*, which is the front of the backlog; is there any use in going on?"""
        assert self._database is not None  # noqa: S101 - without one nothing is kept in the backlog
        try:
            self._database.write(batch, self.instance, self._dropped)
        except Exception as exc:  # noqa: BLE001 - whatever it is, a caller's work goes on; `trouble` knows each kind
            return self._refused(exc, batch)
        self._forget(len(batch))
        self._lock_wait = _LOCKED[0]
        if self._away:
            self._away = False
            _log.info(
                "the history is being written again; %d records wait, %d were dropped",
                self._rows,
                self._dropped,
            )
        return True

    def _refused(self, exc: Exception, batch: list[rows.Record]) -> bool:
        kind = trouble(exc)
        if kind is Trouble.POISON and len(batch) > 1:
            return self._store(batch[: len(batch) // 2])
        if kind is Trouble.POISON:
            self._drop_poison(exc, batch[0])
            return True
        if kind is Trouble.LOCKED:
            self._retry_at = self._now() + self._lock_wait * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            self._lock_wait = min(2 * self._lock_wait, _LOCKED[1])
            return False
        self._gone(exc, final=kind is Trouble.NEWER)
        return False

    def _drop_poison(self, exc: Exception, record: rows.Record) -> None:
        self._forget(1)
        self.drop()
        self._dropped_told += 1
        _log.warning(
            "a record was dropped, the database cannot keep it: %s (%s)", type(record).__name__, _reason(exc)
        )

    def _gone(self, exc: Exception, *, final: bool) -> None:
        assert self._database is not None  # noqa: S101 - as in _store
        self._database.close()
        self._retry_at = self._now() + _PAUSE
        self._fail_marks()
        if final:
            _log.warning("%s; until then this process keeps no history", exc)
            self._database = None
            self._give_up()
        elif not self._away:
            self._away = True
            _log.warning(
                "%s; %s, or give RESILIENCE_DATABASE_URL another place; calls go on, up to %d records wait, and the database "
                "is tried again every %d s",
                _complaint(exc, self._database.where),
                _remedy(str(exc)),
                self._limits.max_rows,
                _PAUSE,
            )

    def _tell_dropped(self, *, last: bool = False) -> None:
        lost, now = self._dropped - self._dropped_told, self._now()
        if lost and (last or now - self._dropped_told_at >= _MINUTE):
            self._dropped_told, self._dropped_told_at = self._dropped, now
            _log.warning("the history dropped %d records that could not be written", lost)

    # --- the sinks ----------------------------------------------------------------------------------------------

    def _tell_sinks(self, records: Sequence[rows.Record]) -> None:
        told = [line for record in records for line in self._lines(record)]
        for sink in self._sinks:
            try:
                sink.write(told)
            except Exception as exc:  # noqa: BLE001 - a sink may be anybody's; its trouble is not the caller's
                if id(sink) not in self._sinks_failing:
                    _log.warning(
                        "log lines are being lost: %s failed (%s)", type(sink).__name__, type(exc).__name__
                    )
                self._sinks_failing.add(id(sink))
            else:
                self._sinks_failing.discard(id(sink))

    def _lines(self, record: rows.Record) -> list[Line]:
        try:
            return list(lines_of(record, self.instance.instance_id, self.instance.pid))
        except Exception as exc:  # noqa: BLE001 - a record made wrongly must not end the thread that keeps the others
            _log.warning("a record was not logged: %s (%s)", type(record).__name__, type(exc).__name__)
            return []


def _complaint(exc: Exception, where: str) -> str:
    return (
        str(exc)
        if isinstance(exc, ResilienceError)
        else f"the history at {where} cannot be written: {_reason(exc)}"
    )


def _reason(exc: Exception) -> str:
    """Why, without the statement and the values that SQLAlchemy adds, and the row that PostgreSQL adds on a second line."""
    return str(exc.orig).partition("\n")[0] if isinstance(exc, DBAPIError) else type(exc).__name__


_REMEDIES: Final = {
    "readonly": "make the file and its folder writable for this user",
    "unable to open": "make its folder, writable for this user",
    "Permission denied": "make the file and its folder writable for this user",
    "is full": "free space on its disk",
    "No space left": "free space on its disk",
    "not a database": "move that file away",
    "malformed": "move that file away and restore a copy",
}


def _remedy(reason: str) -> str:
    return next((remedy for words, remedy in _REMEDIES.items() if words in reason), "mend that")
