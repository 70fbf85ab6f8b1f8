"""Keeping records without making anyone wait for it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from resilience import lifecycle, validation
from resilience.errors import HistoryError
from resilience.history.retention.job import RetentionJob
from resilience.history.retention.policy import Retention
from resilience.history.schema import urls
from resilience.history.schema.engine import DURABILITIES, Durability
from resilience.history.store.database import Database, Instance
from resilience.history.writer.queue import FlushMarker
from resilience.history.writer.sampling import QueueLimits, size
from resilience.history.writer.sinks import Sink
from resilience.history.writer.wakeup import Wakeup
from resilience.history.writer.worker import Job, Writer
from resilience.records.deferred import DeferredRecord
from resilience.records.log_events import Loggable
from resilience.records.records import AttemptRecord, ErrorRecord, Record, StartRecord

T = TypeVar("T")
_LINES_WITHIN: Final = 0.01
"""Seconds until an error is in the logs: they are what is left of a process that was killed."""
_FORK_WAIT: Final = 10.0
"""Seconds a fork waits for the writer thread to leave the database: on a busy machine a first upgrade takes a few."""

_log = logging.getLogger("resilience")


class Recorder:
    """Writes records to the database and to *sinks*, behind the callers' backs.

    The promise: `record` never blocks and never raises. An error is in the logs about 10 ms later; everything is in the
    logs and the database within `flush_interval` plus the wait for other writers. When the database is away, up to
    `max_rows` records wait for it. From four fifths on, of errors of kinds seen before and of clean calls one in ten is
    kept; at the end the newest are dropped. Both are counted in `instances`, said once a minute, and in `rollups` and
    `error_groups` exactly, each record once. A process that ends normally loses nothing; a killed one loses what the
    last `flush_interval` brought, which `resilience history import` has from the logs. A forked child starts anew.

    Args:
        url: the database, as SQLAlchemy spells it; None keeps no rows and serves the sinks alone. An SQLite file is created
            and upgraded before the first row is written; a server's database is upgraded by `resilience db upgrade`.
        sinks: what gets each record as lines: `write(lines)` is called on the writer thread.
        settings: gives what this process goes by, told in the first of its lines; asked on the writer thread.
        degraded: is the store of circuits away? Told in `instances`; asked on the writer thread.
        flushed: told how long each transaction took, seconds, on the writer thread; must not raise.
        max_rows: how many records may wait for the database.
        max_bytes: how much memory they may hold, about.
        flush_interval: how long a record may wait for others to share its transaction, seconds.
        batch: how many records make a transaction full.
        service: what this process is for, told in `instances`.
        durability: `full` waits for the disk at every commit; with `normal` a power cut may cost the last ones.
        retention: what is deleted when; one process of all that write to a database sees to it each hour.

    Raises:
        ConfigurationError: *url* cannot be used.
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        url: str | None,
        *,
        sinks: Sequence[Sink] = (),
        settings: Callable[[], Mapping[str, Any]] | None = None,
        degraded: Callable[[], bool] | None = None,
        flushed: Callable[[float], None] | None = None,
        max_rows: int = 10_000,
        max_bytes: int = 32 * 1024 * 1024,
        flush_interval: float = 0.1,
        batch: int = 200,
        service: str = "",
        durability: Durability = "normal",
        retention: Retention = Retention(),  # noqa: B008 - frozen
    ) -> None:
        validation.integer("Recorder", "max_rows", max_rows, low=1)
        validation.integer("Recorder", "max_bytes", max_bytes, low=1)
        validation.number("Recorder", "flush_interval", flush_interval, above=True, high=60.0)
        validation.integer("Recorder", "batch", batch, low=1, high=10_000)
        self._url = None if url is None else urls.parse(url)
        self._sinks = tuple(sinks)
        self._settings = settings
        self._degraded = degraded
        self._flushed = flushed
        self._limits = QueueLimits(
            max_rows=max_rows, max_bytes=max_bytes, flush_interval=flush_interval, batch=batch
        )
        if durability not in DURABILITIES:
            msg = f"Recorder.durability={durability!r}: give one of {', '.join(DURABILITIES)}"
            raise ValueError(msg)
        self._service = service
        self._durability: Durability = durability
        self._retention = retention
        self._closed = self._held = False
        self._begin()
        lifecycle.watch(self)

    def _begin(self) -> None:
        self._queue: deque[Loggable | DeferredRecord | FlushMarker] = deque()
        self._bytes = 0
        self._jobs: deque[Job] = deque()
        self._bell, self._hurry, self._now = Wakeup(), Wakeup(), Wakeup()
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()  # re-entrant: a signal handler may record
        self._at_work = threading.Lock()
        instance = Instance(service=self._service)
        database = None if self._url is None else Database(self._url, self._durability)
        self._housekeeping = (
            None if database is None else RetentionJob(database, self._retention, instance.instance_id)
        )
        self._writer = Writer(
            database,
            self._sinks,
            self._limits,
            instance,
            settings=self._settings,
            degraded=self._degraded,
            flushed=self._flushed,
        )

    def record(self, record: Record | DeferredRecord) -> None:
        """Keep *record*. Returns at once and never raises; the first call of a process starts the writer thread."""
        waiting = len(self._queue)
        if waiting >= self._limits.max_rows or self._bytes >= self._limits.max_bytes or self._closed:
            self._refuse(record)
            return
        self._bytes += size(record)
        self._push(record, waiting)
        if self._sinks and type(record) is ErrorRecord:
            self._hurry.ring()

    @property
    def logs(self) -> bool:
        """Does anybody read lines?"""
        return bool(self._sinks)

    def tell(self, record: StartRecord | AttemptRecord | DeferredRecord) -> None:
        """As `record`, for what the logs alone are told; it is left out where too much waits."""
        waiting = len(self._queue)
        if not self._sinks or self._closed or waiting >= self._limits.max_rows:
            return
        self._push(record, waiting)

    def _push(self, record: Loggable | DeferredRecord, waiting: int) -> None:
        self._queue.append(record)
        if self._thread is None:
            self._start()
        self._bell.ring()
        if waiting >= self._limits.batch:
            self._rouse()

    def ask(self, work: Callable[[sa.Connection], T], *, after: float = 0.0) -> Future[T]:
        """Do something else with the database on the writer thread, in a transaction of its own; returns at once.

        Args:
            work: what; it may come to nothing, and is not tried again.
            after: not before so many seconds.

        Returns:
            A future with the result or a `HistoryError`; cancelled when the recorder is closed before.
        """
        job = Job(time.monotonic() + after, work, Future())
        if self._closed:
            job.future.cancel()
        elif self._url is None:
            job.future.set_exception(HistoryError("no history is kept here"))
        else:
            self._jobs.append(job)
            if self._thread is None:
                self._start()
            self._bell.ring()  # not louder: a job waits for others' records, as records do
        return job.future

    def flush(self, timeout: float = 2.0) -> bool:
        """Write everything recorded so far; False when that did not succeed within *timeout* seconds."""
        if self._thread is None and not self._queue:
            return True
        mark = FlushMarker()
        self._queue.append(mark)
        if self._thread is None or not self._thread.is_alive():
            self._work()  # no thread can be started any more, late in a process's end
        self._rouse()
        return mark.bell.wait(timeout) and mark.written

    async def aflush(self, timeout: float = 2.0) -> bool:  # noqa: ASYNC109 - the wait happens on a thread, which no cancellation ends
        """As `flush`, without blocking the event loop."""
        return await asyncio.to_thread(self.flush, timeout)

    def close(self, timeout: float = 2.0) -> None:
        """Flush, end the writer thread and close the database; what comes later is counted as dropped."""
        deadline = time.monotonic() + timeout
        self.flush(timeout)
        self._closed = True
        self._rouse()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
        if thread is None or not thread.is_alive():
            with self._at_work:
                self._writer.close()
        while self._jobs:
            self._jobs.popleft().future.cancel()

    @property
    def keeps(self) -> bool:
        """Is there a database at all?"""
        return self._url is not None

    @property
    def lag(self) -> float:
        """Seconds since the database had everything the writer thread knows of; 0 while it has."""
        return self._writer.lag

    @property
    def queue_depth(self) -> int:
        """How many records are not written yet."""
        return len(self._queue) + self._writer.depth

    @property
    def dropped(self) -> int:
        """How many records of this process were given up."""
        return self._writer.losses.dropped

    @property
    def sampled(self) -> int:
        """How many records of this process have no row because one of ten stands for them; the counters have them all."""
        return self._writer.losses.sampled

    @property
    def instance_id(self) -> str:
        """The id of this process in `instances`, `calls`, `errors` and `fallbacks`."""
        return self._writer.instance.instance_id

    # --- the writer thread --------------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            lifecycle.flush_at_exit()
            self._thread = threading.Thread(target=self._run, name="resilience-history", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no more threads: the flush at the end does the work
                self._thread = None

    def _refuse(self, record: Record | DeferredRecord) -> None:
        if self._closed or self._url is None:
            self._writer.losses.drop(1)
        else:
            self._writer.losses.refuse(record)

    def _rouse(self) -> None:
        """Have everything written now: a batch is full, or somebody waits."""
        self._now.ring()
        self._hurry.ring()
        self._bell.ring()

    def _run(self) -> None:
        while not self._closed:
            came = self._bell.wait(self._nap())
            self._work(waited=self._gather() if came else None)
            if self._housekeeping is not None and self._writer.reaches:
                with self._at_work:
                    self._housekeeping.step()
        self._work()
        with self._at_work:
            self._writer.close()

    def _nap(self) -> float | None:
        """Seconds until something must be done; None when there is nothing to do."""
        now = time.monotonic()
        naps = [max(0.0, job.due - now) for job in tuple(self._jobs)]
        if (nap := self._writer.nap()) is not None:
            naps.append(nap)
        if self._housekeeping is not None and self._writer.reaches:
            naps.append(self._housekeeping.nap())
        return min(naps, default=None)

    def _gather(self) -> float | None:
        """Let a batch come together; when that was cut short for an error, which is to be in the logs soon, for how long."""
        left = self._writer.nap()
        patience = self._writer.patience if left is None else min(left, self._writer.patience)
        if not self._hurry.wait(patience) or not self._sinks:
            return None
        left = self._writer.nap()
        within = _LINES_WITHIN if left is None else min(left, _LINES_WITHIN)
        return None if self._now.wait(within) else within

    def _work(self, *, waited: float | None = None) -> None:
        with self._at_work:
            self._take(waited=waited)
            self._writer.write(self._take)
            told = [self._writer.do(job) for job in self._due()]
        for tell in told:
            tell()

    def _take(self, *, waited: float | None = 0.0) -> None:
        """Hand the queue to the writer, also between two batches: its room and its rules are for what is waiting there."""
        items = [self._queue.popleft() for _ in range(len(self._queue))]
        self._bytes = 0  # a bound, not an account: what came in between is counted from the next round on
        self._writer.take(items, waited=waited)

    def _due(self) -> list[Job]:
        """Take the jobs whose time has come."""
        now, jobs = time.monotonic(), [self._jobs.popleft() for _ in range(len(self._jobs))]
        self._jobs.extend(job for job in jobs if job.due > now)
        return [job for job in jobs if job.due <= now and job.future.set_running_or_notify_cancel()]

    # --- forks --------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Wait until the writer thread is not in the database, and close it: the next batch opens it again.

        SQLite remembers in the process's memory which locks it holds. A child that inherits such a memory believes for
        ever that somebody of its own has the file.
        """
        self._held = self._at_work.acquire(timeout=_FORK_WAIT)
        if self._held:
            self._writer.park()

    def after_fork_in_parent(self) -> None:
        """Let the writer thread go on."""
        if self._held:
            self._at_work.release()

    def after_fork_in_child(self) -> None:
        """Start anew; what the parent still has to write is the parent's."""
        self._writer.abandon()
        if not self._held and self._url is not None and urls.is_sqlite(self._url):
            _log.warning(
                "forked while the history at %s was being written for over %g s: this process keeps no history; "
                "start workers with the 'spawn' method, or fork before the first call",
                urls.shown(self._url),
                _FORK_WAIT,
            )
            self._url = None
        self._begin()
