"""Threads on which blocking functions run, so that their callers can leave them.

A thread of Python cannot be stopped from outside, and a signal handler runs only on the main thread, between two steps of it.
A blocking function that is called directly holds its caller until it returns. So it runs on a thread of this pool, while the
caller waits on a lock, which both a time limit and a signal handler that raises can end. A function that is left this way
keeps its thread until it returns.

The threads are daemons. At exit the pool aborts the BAML calls that still run, and waits for their end: one that is still running when
the interpreter goes away can end the process with SIGABRT. An aborted call returns at once.
"""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from resilience import lifecycle
from resilience.background import Latch, Wakeup
from resilience.greenlets import ThreadWait

_IDLE_SECONDS: Final = 10.0
"""Seconds after which an idle thread ends."""
_EXIT_SECONDS: Final = 0.5
"""Seconds that an exit waits for functions that were left."""
_ABORT_SECONDS: Final = 10.0
"""Seconds that an exit waits for the end of aborted calls. It takes some 20 ms, on a starved machine much longer."""

_log = logging.getLogger("resilience")


class BlockingCall:
    """A function that runs on a thread of the pool.

    Attributes:
        done: set when the function has returned or raised.
        result: what it returned.
        error: what it raised.
    """

    __slots__ = ("_forgotten", "_function", "done", "error", "result")

    def __init__(self, function: Callable[[], Any], done: Latch | ThreadWait | None = None) -> None:
        # The function sees the caller's context variables: the request id, the current span.
        self._function: Callable[[], Any] | None = partial(contextvars.copy_context().run, function)
        self._forgotten = False
        self.done = done or Latch()
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Call the function. Called once, on a thread of the pool."""
        try:
            self.result = self._function() if self._function is not None else None
        except BaseException as exc:  # noqa: BLE001 - raised again on the caller's thread
            self.error = exc
        finally:
            self._function = None  # what it holds is not kept while the thread waits for its next task
            self.done.set()
            if self._forgotten:
                self.result = self.error = None

    def forget(self) -> None:
        """Keep neither result nor error: their caller has gone, and they may be large."""
        self._forgotten = True
        if self.done.is_set():
            self.result = self.error = None


class CallThreads:
    """A pool without a limit: there are as many threads as there are calls in flight."""

    def __init__(self) -> None:
        self.after_fork_in_child()
        lifecycle.register(self, lifecycle.Stage.CALLS)

    def before_fork(self) -> None:
        """Do nothing: a child starts with a pool and a lock of its own."""

    def after_fork_in_parent(self) -> None:
        """Do nothing, as before the fork."""

    def after_fork_in_child(self) -> None:
        """Start empty: a forked child has none of its parent's threads."""
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._left: set[BlockingCall] = set()
        # How to abort each BAML call that runs. Changed by one operation of the interpreter at a time, without the lock.
        self._running: dict[BlockingCall, Callable[[], None]] = {}

    def start(self, function: Callable[[], Any], abort: Callable[[], None] | None = None) -> BlockingCall:
        """Run *function* on a thread of the pool; on the calling thread where no thread can be started.

        A process may end while a daemon thread or a greenlet waits for its call. A BAML call that still runs then can end it with
        SIGABRT, so the exit aborts it first.

        Args:
            function: makes the call.
            abort: ends a BAML call; None for other functions, which nothing can end.
        """
        task = BlockingCall(function)
        if abort is not None:
            self._running[task] = abort
        if (
            sys.is_finalizing()
        ):  # in a `__del__`: threads that wait never run again, and their lock may be held
            self.run(task)
            return task
        with self._lock:
            worker = self._idle.pop() if self._idle else None
            if worker is not None:
                # Under the lock: a worker that is no longer idle but has no task would wait for ever.
                worker.take(task)
        if worker is None:
            self._start_worker(task)
        return task

    def start_beside_greenlets(self, function: Callable[[], Any], abort: Callable[[], None]) -> BlockingCall:
        """Run *function* as `start` does, on a real thread of gevent's, in a process whose threads are greenlets."""
        lifecycle.ensure_exit_hook()
        done = ThreadWait()
        task = BlockingCall(function, done)
        self._running[task] = abort
        done.run(partial(self.run, task))
        return task

    def run(self, task: BlockingCall) -> None:
        """Run *task* on this thread."""
        task.run()
        self._running.pop(task, None)

    def _start_worker(self, task: BlockingCall) -> None:
        lifecycle.ensure_exit_hook()
        try:
            _Worker(self, task).start()
        except RuntimeError:
            # The process may start no more threads: a limit of its container, or the end of the interpreter. The client would
            # answer without this package, so it is asked on the caller's thread, which then cannot leave it.
            self.run(task)

    def leave(self, task: BlockingCall) -> None:
        """Stop waiting for *task*, and report how many functions do not return although they were left."""
        lifecycle.ensure_exit_hook()
        task.forget()
        with self._lock:
            self._left = {other for other in self._left if not other.done.is_set()}
            waiting = len(self._left)
            self._left.add(task)
        if waiting:
            _log.warning(
                "%d functions were left after a time limit or an interruption and still run", waiting
            )

    @property
    def left(self) -> int:
        """How many functions were left and have not returned yet."""
        with self._lock:
            return sum(not task.done.is_set() for task in self._left)

    def exit_limit(self) -> float:
        """Return the seconds that `at_exit` may take. An exit that does not wait for an aborted call ends with SIGABRT."""
        return _ABORT_SECONDS if self._running else lifecycle.EXIT_TIMEOUT

    def at_signal(self, timeout: float) -> None:
        """Do nothing: a call has nothing to write, and goes on if the process does."""

    def at_exit(self, timeout: float) -> None:
        """Abort the BAML calls that still run and wait for their end, at most *timeout* seconds; for left functions only a moment."""
        now = time.monotonic()
        with self._lock:
            waits = [(task, now + min(timeout, _EXIT_SECONDS)) for task in self._left]
        for task, abort in list(self._running.items()):
            abort()
            waits.append((task, now + timeout))
        for task, deadline in waits:
            task.done.wait(max(0.0, deadline - time.monotonic()))

    def park(self, worker: _Worker) -> None:
        """Keep *worker* for the next call."""
        with self._lock:
            self._idle.append(worker)

    def retire(self, worker: _Worker) -> bool:
        """Return whether an idle *worker* may end: False if it was given a task in this moment."""
        with self._lock:
            if worker in self._idle:
                self._idle.remove(worker)
                return True
            return False


class _Worker:
    """One thread of the pool: runs one task after the other, and ends when it is idle for a while."""

    def __init__(self, pool: CallThreads, task: BlockingCall) -> None:
        self._pool = pool
        self._task: BlockingCall | None = task
        self._wake = Wakeup()

    def start(self) -> None:
        threading.Thread(target=self._run, name="resilience-call", daemon=True).start()

    def take(self, task: BlockingCall) -> None:
        self._task = task
        self._wake.set()

    def _run(self) -> None:
        while True:
            # A wait uses up its wake before the task is read, and `take` sets the task first: no task is overlooked, and a
            # late wake for a task that is done already costs one more look.
            task, self._task = self._task, None
            if task is not None:
                self._pool.run(task)
                del task
                self._pool.park(self)
            if not self._wake.wait(_IDLE_SECONDS) and self._pool.retire(self):
                return
