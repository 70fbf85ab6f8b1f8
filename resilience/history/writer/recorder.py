"""The recorder: records from any thread, written to the database and the logs by a background thread.

The path of a record: `Recorder.record` appends it to a deque and sets a wake-up signal. The thread waits until a batch is
complete or the flush interval is over, takes the deque, and hands it to the `Writer`, which writes log lines and rows.

`resilience.background` has the rules of the thread itself: its start, its locks, forks and exits. Specific to this one are:

- `record` takes no lock, since `deque.append` is atomic. It may therefore run in a signal handler that interrupts `record`.
- Everything a signal handler may reach is re-entrant or lock-free: the start of the thread, the wake-up signals, the drops.
- Its connection lock covers the `Writer`, including the database and the sinks.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, TypeVar

from resilience import notices
from resilience.background import BackgroundWorker, Task
from resilience.errors import HistoryError
from resilience.history import database_url
from resilience.history.durability import DURABILITIES, Durability
from resilience.history.retention.policy import Retention
from resilience.history.store.lazy_database import LazyDatabase
from resilience.history.store.process import Instance
from resilience.history.writer.batch_wait import BatchWait
from resilience.history.writer.exit_report import HANGING_AT_EXIT, Unwritten, exit_limit, report, wait_until
from resilience.history.writer.maintenance import Maintenance
from resilience.history.writer.queue import FlushMarker
from resilience.history.writer.sampling import QueueLimits, memory_size
from resilience.history.writer.sinks import AbandonedThreadError, Sink, SinkGroup
from resilience.history.writer.worker import Item, Writer
from resilience.lifecycle import Stage
from resilience.records.deferred import DeferredRecord
from resilience.records.records import NAMESPACE, AttemptRecord, ErrorRecord, Record, StartRecord

T = TypeVar("T")
_HANGING: Final = 5.0
"""Seconds until a sink that does not return is given up; `exit_report.HANGING_AT_EXIT` while the process ends."""
_FORK_WAIT: Final = 10.0
"""Seconds a fork waits until the thread has left the database. On a busy machine a first upgrade takes a few."""

_log = logging.getLogger("resilience")


class Recorder:
    """Writes records to the database and to *sinks* on a background thread.

    `record` never blocks and never raises. An error is in the logs about 10 ms later. Everything is in the logs and the database
    within `flush_interval` plus the wait for other writers; rows of clean calls with lines in a file within a second. While the
    database is away, up to `max_rows` records wait for it. From four fifths on, one in ten of the errors of known kinds and of the
    clean calls is kept; at the limit the newest records are dropped. Both are reported once a minute, and counted in `instances`,
    `rollups` and `error_groups` exactly. A clean exit loses nothing; the logs have what a killed process loses.

    Args:
        url: the database, as an SQLAlchemy URL; None keeps no rows and serves the sinks alone. An SQLite file is created
            and upgraded before the first row is written; the database of a server is upgraded by `resilience db upgrade`.
        sinks: destinations of log lines; their `write` is called on the writer thread.
        settings: returns the settings in effect for the first log line and `policies`; called on the writer thread.
        degraded: returns whether the store of circuits is away, for `instances`; called on the writer thread.
        flushed: called on the writer thread with the duration of each transaction in seconds; must not raise.
        idle: called on the writer thread after each cycle, without a lock; must not raise.
        max_rows: maximum number of records that wait for the database.
        max_bytes: approximate maximum memory that they hold.
        flush_interval: seconds a record may wait for others to share its transaction, above 0 up to 60.
        batch: number of records in a full transaction, 1 to 10 000.
        service: purpose of this process, for `instances`.
        namespace: the namespace of the deployment, for `instances`; each record has its own.
        durability: `full` waits for the disk at every commit; with `normal` a power cut may cost the last commits.
        retention: when rows are deleted; one of all processes that write to a database does it each hour.
        exit_timeout: seconds that `close` and the end of the process may take; 2 by default, and 5 until the database was
            written once.

    Raises:
        ConfigurationError: *url* cannot be used.
        ValueError: a number is out of range, or *durability* is unknown.
    """

    def __init__(
        self,
        url: str | None,
        *,
        sinks: Sequence[Sink] = (),
        settings: Callable[[], Mapping[str, Any]] | None = None,
        degraded: Callable[[], bool] | None = None,
        flushed: Callable[[float], None] | None = None,
        idle: Callable[[], None] = lambda: None,
        max_rows: int = 10_000,
        max_bytes: int = 32 * 1024 * 1024,
        flush_interval: float = 0.1,
        batch: int = 200,
        service: str = "",
        namespace: str = NAMESPACE,
        durability: Durability = "normal",
        retention: Retention = Retention(),  # noqa: B008 - frozen
        exit_timeout: float | None = None,
    ) -> None:
        if durability not in DURABILITIES:
            msg = f"Recorder.durability={durability!r}: give one of {', '.join(DURABILITIES)}"
            raise ValueError(msg)
        self._url = None if url is None else database_url.check(url)
        self._sinks = SinkGroup(sinks, settings)
        self._may_hang, self._folders = self._sinks.has_foreign, self._sinks.folders
        self._exit_timeout = exit_timeout
        self._degraded, self._flushed, self._idle = degraded, flushed, idle
        self._limits = QueueLimits(
            max_rows=max_rows, max_bytes=max_bytes, flush_interval=flush_interval, batch=batch
        )
        self._service, self._namespace, self._describe = service, namespace, settings
        self._retention, self._durability = retention, durability
        self._reset()
        self._worker = BackgroundWorker(
            self._task(), name="resilience-history", stage=Stage.HISTORY, fork_timeout=_FORK_WAIT
        )

    def _reset(self) -> None:
        self._queue: deque[Item] = deque()
        self._takeover_lock = threading.RLock()  # re-entrant: a signal handler may record
        self._bytes, self._batch_wait = 0, BatchWait()
        instance = Instance(service=self._service, namespace=self._namespace)
        database = None if self._url is None else LazyDatabase(self._url, self._durability, self._take_queue)
        self._writer = Writer(
            database, self._sinks, self._limits, instance, degraded=self._degraded, flushed=self._flushed
        )
        self._writer.about.describe = self._describe
        self._maintenance = None if database is None else Maintenance(database, self._retention, self._writer)

    def _task(self) -> Task:
        return Task(
            next_timeout=self._next_timeout,
            run_cycle=self._run_cycle,
            disconnect=lambda: self._writer.disconnect(),  # noqa: PLW0108 - looked up late: a forked child has its own
            close=self._close_writer,
            reject=Future.cancel,
            restart=self._restart,
            at_exit=self.close,
            at_signal=self._flush_at_signal,
            exit_limit=self.exit_limit,
            interrupt=lambda: self._writer.interrupt(),  # noqa: PLW0108 - as above
            leave_hanging=self._leave_hanging_sink,
        )

    def record(self, record: Record | DeferredRecord, sinks: SinkGroup | None = None) -> None:
        """Queue *record* for the database and the logs.

        Returns at once and never raises. The first call of a process starts the writer thread.

        Args:
            record: the record.
            sinks: destinations of its log lines, instead of the recorder's own.
        """
        waiting = len(self._queue)
        if waiting >= self._limits.max_rows or self._bytes >= self._limits.max_bytes or self._worker.closed:
            self._refuse(record, self._sinks if sinks is None else sinks)
            return
        self._bytes += memory_size(record)
        if sinks is None:
            self._push(record, waiting)
        else:
            self._push((sinks, record), waiting)
        if type(record) is ErrorRecord and (self._sinks if sinks is None else sinks):
            self._batch_wait.end_for_line()

    def announce(self, sinks: SinkGroup) -> None:
        """Learn of *sinks* that records will name: whether one may hang, their folders, and the settings behind them."""
        self._may_hang = self._may_hang or sinks.has_foreign
        self._folders = tuple(dict.fromkeys((*self._folders, *sinks.folders)))
        self._describe = self._writer.about.describe = sinks.settings or self._describe

    def log(
        self, record: StartRecord | AttemptRecord | DeferredRecord, sinks: SinkGroup | None = None
    ) -> None:
        """Queue a record that goes to the logs alone. It is left out, uncounted, while the queue is full.

        Args:
            record: the record.
            sinks: as in `record`.
        """
        waiting = len(self._queue)
        group = self._sinks if sinks is None else sinks
        if not group or self._worker.closed or waiting >= self._limits.max_rows:
            return
        self._push((group, record), waiting)

    def _push(self, item: Item, waiting: int) -> None:
        self._queue.append(item)
        worker = self._worker
        if worker.thread is None:
            # Where no thread can be started, the record waits for the next attempt or for the flush at exit.
            worker.start_thread()
        worker.wakeup.set()
        if waiting >= self._limits.batch:
            self._batch_wait.end()
        if waiting and self._may_hang:
            self._leave_hanging_sink(_HANGING)

    def submit(self, work: Callable[[Any], T], *, after: float = 0.0) -> Future[T]:
        """Run *work* with the database on the writer thread, in a transaction of its own. Returns at once.

        Args:
            work: called once with the connection; a failure is not retried.
            after: seconds to wait before it.

        Returns:
            A future with the result or a `HistoryError`; cancelled if the recorder is closed before.
        """
        if self._url is None and not self._worker.closed:
            future: Future[T] = Future()
            future.set_exception(HistoryError("no history is kept here"))
            return future
        future = self._worker.submit(work, due=time.monotonic() + after)
        if not self._worker.closed:
            self._worker.start_thread()
            self._worker.wake()  # only this signal: a job waits for a batch, as records do
        return future

    def flush(self, timeout: float = 2.0) -> bool:
        """Write everything recorded so far. Return whether that succeeded.

        Args:
            timeout: seconds to wait for the writer thread.
        """
        if self._worker.thread is None and not self._queue:
            return True
        marker = self._mark(FlushMarker())
        return marker.wait(timeout) and marker.written

    def _mark(self, marker: FlushMarker) -> FlushMarker:
        self._queue.append(marker)
        self._batch_wait.end()
        self._worker.run_now()
        return marker

    async def aflush(self, timeout: float = 2.0) -> bool:  # noqa: ASYNC109 - the wait happens on a thread, which no cancellation ends
        """Write everything recorded so far, like `flush`, without blocking the event loop."""
        return await asyncio.to_thread(self.flush, timeout)

    def close(self, timeout: float | None = None) -> None:
        """Write what is recorded, counters first, end the writer thread and close the database.

        What could not be written in time is reported. Later records are counted as dropped.

        Args:
            timeout: seconds to wait for the writer thread; the exit timeout if not given.
        """
        deadline = time.monotonic() + (self.exit_limit() if timeout is None else timeout)
        if self.is_own_thread():
            self._writer.close_by(deadline)  # the last cycle of this thread writes the rest
            self._worker.close(0.0)
            return
        self._write_in_time(deadline)
        self._batch_wait.end()
        self._worker.close(max(0.0, deadline - time.monotonic()))
        if self._writer.given_up is None:
            self._report_unwritten(self._writer.unwritten())  # the thread does not end

    def _close_writer(self) -> None:
        again = self._writer.given_up is not None
        self._writer.close()
        if not again and self._writer.given_up is not None:
            self._report_unwritten(self._writer.given_up)

    def is_own_thread(self) -> bool:
        """Return whether the caller is the writer thread."""
        return threading.current_thread() is self._worker.thread

    def wake(self) -> None:
        """Let the writer thread run a cycle. Takes no lock."""
        self._worker.wake()

    def exit_limit(self) -> float:
        """Return the seconds that `close` may take."""
        return exit_limit(self._exit_timeout, creating=self._url is not None and not self._writer.reached)

    def _flush_at_signal(self, timeout: float) -> None:
        if not self._write_in_time(time.monotonic() + timeout):
            self._report_unwritten(self._writer.unwritten())
        self._writer.close_by(None)

    def _write_in_time(self, deadline: float) -> bool:
        """Write everything recorded so far, counters before rows, until *deadline*. Return whether that succeeded."""
        if self._worker.closed or (self._worker.thread is None and not self._queue):
            return True
        self._writer.close_by(deadline)
        return wait_until(deadline, self._mark(FlushMarker(closing=True)), self._leave_hanging_sink)

    def _report_unwritten(self, unwritten: Unwritten) -> None:
        waiting = sum(not isinstance(item, FlushMarker) for item in list(self._queue))
        if self._url is not None:
            report(unwritten, waiting, self._url.shown, self._folders)

    @property
    def has_database(self) -> bool:
        """Whether rows are kept at all."""
        return self._url is not None

    @property
    def lag(self) -> float:
        """Seconds since the database last had every record that the writer thread took; 0 while it has."""
        return self._writer.lag

    @property
    def queue_depth(self) -> int:
        """Number of records that are not written yet."""
        return len(self._queue) + self._writer.depth

    @property
    def dropped(self) -> int:
        """Number of records of this process that were given up."""
        return self._writer.drops.dropped

    @property
    def sampled(self) -> int:
        """Number of records of this process that sampling left without a row. The counters include them."""
        return self._writer.drops.sampled

    @property
    def instance_id(self) -> str:
        """Id of this process in `instances`, `calls`, `errors` and `fallbacks`."""
        return self._writer.instance.instance_id

    # --- the writer thread --------------------------------------------------------------------------------------

    def _refuse(self, record: Record | DeferredRecord, sinks: SinkGroup) -> None:
        if self._worker.closed and self._writer.given_up is not None and sinks.folders:
            with (
                self._takeover_lock,
                suppress(Exception),
            ):  # a malformed record is lost alone; its caller goes on
                self._writer.take_late(sinks, record)
        elif self._worker.closed or self._url is None:
            self._writer.drops.add(1)
        else:
            self._writer.drops.count_refused(record)

    def _leave_hanging_sink(self, limit: float = HANGING_AT_EXIT) -> bool:
        """Give up a sink that has not returned for *limit* seconds, and go on with a new thread. Return whether it was so."""
        with self._takeover_lock:
            if hangs := self._writer.log_lines.leave_hanging_sink(limit):
                self._worker.replace_thread()
                if self._worker.start_thread() is not None:
                    self._worker.run_now()  # the process ends, and no thread can be started
                self._worker.wake()
                self._batch_wait.end()
            return hangs

    def _next_timeout(self) -> float | None:
        """Return the seconds until a cycle is due; None when there is nothing to do."""
        timeout = self._writer.next_timeout()
        return timeout if self._maintenance is None else self._maintenance.next_timeout(timeout)

    def _run_cycle(self, signalled: bool) -> None:  # noqa: FBT001 - the shape of Task.run_cycle
        waited = None
        if signalled:
            waited = self._batch_wait.wait(self._writer.longest_wait, lines_first=bool(self._folders))
        try:
            with self._worker.connection_lock:
                self._take_queue(waited=waited)
                self._writer.write_due(self._take_queue)
                completions = [job.run(self._writer.transact) for job in self._worker.take_jobs()]
        except AbandonedThreadError:
            return
        for complete in completions:
            complete()
        # Not in the last cycle, nor in a flush on the caller's thread: the end of a process must not wait for a deletion.
        if self._worker.closed or not self.is_own_thread():
            return
        self._idle()
        if self._maintenance is not None and self._maintenance.is_due:
            with self._worker.connection_lock:
                self._maintenance.step()

    def _take_queue(self, *, waited: float | None = 0.0) -> None:
        """Hand the queued records to the writer, also between two batches or two steps of an upgrade: for limits and log lines."""
        items = [self._queue.popleft() for _ in range(len(self._queue))]
        self._bytes = 0  # a bound, not a balance: what comes meanwhile is counted from the next cycle on
        self._writer.take(items, waited=waited)

    def _restart(self, paused: bool) -> None:  # noqa: FBT001 - the shape of Task.restart
        """Set up a forked child. What the parent still has to write stays with the parent.

        If the thread could not be paused, the child has inherited SQLite in the middle of a transaction: its memory says that
        this process holds locks on the file, and nothing can correct it. Then the child must not use the file at all.
        """
        self._writer.abandon()
        if not paused and self._url is not None and self._url.is_sqlite:
            what = (
                f"forked while the history at {self._url.shown} was being written for over {_FORK_WAIT:g} s"
            )
            remedy = "start workers with the 'spawn' method, or fork before the first call"
            notices.warn(_log, "history", f"{what}: this process keeps no history; {remedy}")
            self._url = None
        self._reset()
