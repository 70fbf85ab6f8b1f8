"""The background worker: one daemon thread, its wake-up signal, its jobs, and its rules for forks and exits.

Two objects have one: `StoreSyncWorker` (circuits) and `Recorder` (history). What their threads do is different and lives
with them. How such a thread starts, waits, pauses for a fork and ends is the same, and is written once, here.

- **Start on demand.** No thread runs before there is work. A program that imports this package, or is about to fork its
  workers, has no thread of ours.
- **One connection lock.** The thread holds `connection_lock` while it uses its connection (a store, a database), and at no
  other time. A fork waits for this lock: see `BackgroundWorker.before_fork`.
- **No lock is held while foreign code runs.** Results of jobs are handed over after the connection lock was released,
  because the callbacks of a future may submit a job to the other worker, whose thread may wait for one of our locks.
- **Order of locks.** The connection lock comes first, then the lock that the owner shares with its callers (`fork_locks`).
  The state lock comes last: nothing else is acquired while it is held.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from resilience import lifecycle
from resilience.clock import SIGNAL_POLL

NOW: Final = float("-inf")
"""The due time of a job that need not wait."""
_GRACE: Final = 0.5
"""Seconds that a thread may take to end after it was interrupted."""
_HANGING_AFTER: Final = 1.0
"""Seconds that a fork waits for a lock before it looks for foreign code that hangs."""


class Wakeup:
    """A signal with one waiter, like `threading.Event`, but safe to set in a signal handler and in `__del__`.

    `Event.set` takes a lock in Python code. A signal handler that interrupts its own thread there, and sets the event again,
    waits for itself for ever. Here the signal is a lock whose release is one call into C, at a tenth of the cost.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wake the waiter, or let its next wait return at once. Never blocks."""
        if self._lock.locked():
            with suppress(RuntimeError):  # another thread has set it in between
                self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the signal and reset it. Return whether it arrived.

        Args:
            timeout: seconds to wait; None waits without limit.
        """
        return self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout))


class Latch:
    """A wait for something that happens once, as `threading.Event`, which a signal handler that raises cannot break.

    An Event takes a lock in Python code. An exception of a signal handler between two lines of that code leaves the lock taken:
    the thread that sets the Event would block for ever, and so would every later wait, whatever its time limit. Here each
    step is one operation of the interpreter, which is done or not done.
    """

    __slots__ = ("_is_set", "_lock")

    def __init__(self) -> None:
        self._is_set = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """End all waits. Called once."""
        self._is_set = True
        self._lock.release()

    def is_set(self) -> bool:
        """Return whether it has happened."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait. Return whether it has happened.

        Args:
            timeout: seconds to wait at most; None without a limit.
        """
        remaining = float("inf") if timeout is None else max(0.0, timeout)
        while not self._is_set:
            if self._lock.acquire(timeout=min(SIGNAL_POLL, remaining)):
                self._lock.release()  # for the next one that waits
            remaining -= SIGNAL_POLL
            if remaining <= 0:
                break
        return self._is_set


@dataclass(slots=True, eq=False)
class Job:
    """A piece of work that a caller has submitted, and the future that its result goes to.

    Attributes:
        work: called with the connection.
        future: carries the result or the error of *work*.
        due: earliest time of the monotonic clock, in seconds.
    """

    work: Callable[[Any], Any]
    future: Future[Any]
    due: float

    def run(self, execute: Callable[[Callable[[Any], Any]], Any]) -> Callable[[], None]:
        """Run the work through *execute*. Return a function that completes the future; call it when no lock is held."""
        try:
            return partial(self.future.set_result, execute(self.work))
        except Exception as exc:  # noqa: BLE001 - it belongs to the caller who submitted the job
            return partial(self.future.set_exception, exc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the owner of a worker contributes.

    Attributes:
        next_timeout: returns the seconds until the next cycle is due; None if only a wake-up makes one due.
        run_cycle: does what is pending, on the thread. Its argument says whether a wake-up, not the timeout, ended the wait.
        disconnect: closes the connection before a fork; the next cycle opens it again. Holds the connection lock.
        close: releases everything, after the last cycle. Holds the connection lock. May be called twice.
        reject: completes the future of a job that will never run.
        restart: sets up a forked child; its argument says whether the thread was paused at the fork.
        at_exit: writes what is pending, within the given seconds, and ends the thread, when the process ends.
        at_signal: writes what is pending within the given seconds, when a signal arrives; the process may go on.
        exit_limit: returns the seconds that `at_exit` may take.
        interrupt: ends what the thread waits for, called by another thread. It fails on the thread.
        leave_hanging: gives up foreign code that keeps the thread, if any does; a new thread does its work then.
        fork_locks: returns further locks to hold during a fork.
    """

    next_timeout: Callable[[], float | None]
    run_cycle: Callable[[bool], None]
    disconnect: Callable[[], None]
    close: Callable[[], None]
    reject: Callable[[Future[Any]], object]
    restart: Callable[[bool], None]
    at_exit: Callable[[float], object]
    at_signal: Callable[[float], object] = lambda _: None
    exit_limit: Callable[[], float] = lambda: lifecycle.EXIT_TIMEOUT
    interrupt: Callable[[], None] = lambda: None
    leave_hanging: Callable[[], bool] = lambda: False
    fork_locks: Callable[[], Sequence[threading.Lock]] = tuple


class BackgroundWorker:
    """One daemon thread that runs the cycles of a task.

    Args:
        task: what the thread does.
        name: name of the thread.
        stage: place in the order of forks and exits.
        fork_timeout: seconds that a fork waits for each lock.

    Attributes:
        thread: the thread, once it was started; it may have ended.
        wakeup: ends the wait of the thread.
        closed: whether `close` was called; stays so in forked children.
        connection_lock: held by the thread while it uses its connection.
    """

    def __init__(self, task: Task, *, name: str, stage: lifecycle.Stage, fork_timeout: float) -> None:
        self.closed = False
        self._task = task
        self._name = name
        self._fork_timeout = fork_timeout
        self._reset()
        lifecycle.register(self, stage)

    def _reset(self) -> None:
        self.thread: threading.Thread | None = None
        self.wakeup = Wakeup()
        self.connection_lock = threading.Lock()
        # Re-entrant, because a signal handler may record, and so start the thread, while its own thread is doing just that.
        self._state_lock = threading.RLock()
        self._jobs: list[Job] = []
        self._held: dict[int, list[threading.Lock]] = {}

    # -- for callers ------------------------------------------------------------------------------------------------------------

    def start_thread(self) -> RuntimeError | None:
        """Start the thread if there is none. Return the error when no thread can be started.

        That happens at the limit of threads and late in the end of the interpreter. The owner decides what follows. The
        next call tries again.
        """
        if self.thread is not None:
            return None
        lifecycle.ensure_exit_hook()
        thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
        with self._state_lock:
            if self.thread is not None:
                return None
            # Assigned before the start: a signal handler that interrupts the start must not start a second thread.
            self.thread = thread
            try:
                thread.start()
            except RuntimeError as exc:
                self.thread = None
                return exc
        return None

    def wake(self) -> None:
        """Let the thread look at once for what is due."""
        self.wakeup.set()

    def run_now(self) -> None:
        """Run a cycle without delay: on the thread, or on the caller's where no thread runs any more."""
        if self.thread is None or not self.thread.is_alive():
            self._task.run_cycle(False)  # noqa: FBT003 - no wake-up ended a wait
        self.wakeup.set()

    def submit(self, work: Callable[[Any], Any], *, due: float = NOW) -> Future[Any]:
        """Queue *work* for the thread. Neither starts nor wakes it.

        Args:
            work: called once with the connection.
            due: earliest time of the monotonic clock, in seconds.

        Returns:
            A future with the result or the error of *work*. After `close` it is rejected at once.
        """
        job = Job(work, Future(), due)
        with self._state_lock:
            if not self.closed:
                self._jobs.append(job)
                return job.future
        self._task.reject(job.future)
        return job.future

    def close(self, timeout: float) -> None:
        """End the thread after a last cycle, and release its connection. May be called twice, and on the thread itself.

        Args:
            timeout: seconds to wait for the thread. One that hangs longer is left behind with its connection.
        """
        with self._state_lock:
            self.closed = True
            thread = self.thread
        self.wakeup.set()
        if thread is threading.current_thread():
            return  # the thread does the rest when the cycle that called us is over
        if thread is not None and not self._joined(thread, timeout):
            # It must not be frozen inside a transaction, whose locks would last until the process is gone.
            self._task.interrupt()
            self._joined(thread, _GRACE)
        if thread is None or not thread.is_alive():
            with self.connection_lock:
                self._task.close()
        self._reject_jobs()

    def _joined(self, thread: threading.Thread, timeout: float) -> bool:
        thread.join(timeout)
        return not thread.is_alive()

    def replace_thread(self) -> None:
        """Leave a thread behind that hangs in foreign code. The next `start_thread` starts another one.

        That thread may hold the connection lock, so the lock is replaced with it. It must end without touching anything when
        the foreign code returns.
        """
        with self._state_lock:
            self.thread = None
            self.connection_lock, self.wakeup = threading.Lock(), Wakeup()

    # -- the thread -------------------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self.closed:
            signalled = self.wakeup.wait(self._next_timeout())
            if not self.closed:
                self._task.run_cycle(signalled)
        if self.thread is not threading.current_thread():
            return  # another one was started in its place
        self._task.run_cycle(False)  # noqa: FBT003 - the last cycle waits for nothing
        with self.connection_lock:
            self._task.close()
        self._reject_jobs()

    def _next_timeout(self) -> float | None:
        timeout = self._task.next_timeout()
        if not self._jobs:  # one that is submitted now wakes the thread
            return timeout
        with self._state_lock:
            due = min((job.due for job in self._jobs), default=None)
        if due is None:
            return timeout
        until_job = max(0.0, due - time.monotonic())
        return until_job if timeout is None else min(timeout, until_job)

    def take_jobs(self) -> list[Job]:
        """Take the jobs that are due and not cancelled. Called by the task, in its cycle."""
        if not self._jobs:
            return []
        now = time.monotonic()
        with self._state_lock:
            jobs = self._jobs
            self._jobs = [job for job in jobs if job.due > now]
        return [job for job in jobs if job.due <= now and job.future.set_running_or_notify_cancel()]

    def _reject_jobs(self) -> None:
        with self._state_lock:
            jobs, self._jobs = self._jobs, []
        for job in jobs:
            self._task.reject(job.future)

    # -- forks and exits --------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Pause the thread outside its connection, and close the connection.

        The thread itself is not copied by a fork, but everything it was doing is: a half-written request, a transaction, an
        open file. SQLite keeps in memory which locks the process holds on a file. The locks themselves do not survive a fork,
        but a child that inherits this memory believes for ever that it has them. Therefore the fork waits until the thread has
        left the connection, and closes it. The lock keeps the thread from opening it again before the fork is over.

        A store that hangs must not make the program hang at a fork: after `fork_timeout` seconds the fork goes on without the
        lock, and the child learns that its parent was not paused. What was acquired is noted by thread, because two threads
        may fork at once.
        """
        held = self._held[threading.get_ident()] = []
        if not self._acquire(held, min(_HANGING_AFTER, self._fork_timeout)):
            self._task.leave_hanging()
            self._acquire(held, self._fork_timeout)
        if held:
            with suppress(Exception):
                self._task.disconnect()
        held += [lock for lock in self._task.fork_locks() if lock.acquire(timeout=self._fork_timeout)]

    def _acquire(self, held: list[threading.Lock], timeout: float) -> bool:
        lock = self.connection_lock  # may be replaced meanwhile, see `replace_thread`
        if not lock.acquire(timeout=timeout):
            return False
        held.append(lock)
        return True

    def after_fork_in_parent(self) -> None:
        """Release what `before_fork` acquired."""
        for lock in reversed(self._held.pop(threading.get_ident(), [])):
            lock.release()

    def after_fork_in_child(self) -> None:
        """Start again: the thread, its pending jobs and its locks stay with the parent.

        All locks are replaced. The state lock is not acquired before a fork, so another thread may have held it.
        """
        paused = self.connection_lock in self._held.get(threading.get_ident(), [])
        self._reset()
        self._task.restart(paused)

    def exit_limit(self) -> float:
        """Return the seconds that `at_exit` may take."""
        return self._task.exit_limit()

    def at_exit(self, timeout: float) -> None:
        """Write what is pending and end the thread, within *timeout* seconds."""
        self._task.at_exit(timeout)

    def at_signal(self, timeout: float) -> None:
        """Write what is pending, within *timeout* seconds."""
        self._task.at_signal(timeout)
