"""One event loop on a thread of its own: streams of blocking clients run there, whatever thread reads them.

BAML's own blocking stream holds the interpreter lock while it waits for the network, so that no other thread runs and nothing
can abort it. The streams of a blocking client therefore run as async streams on this loop. The reader waits on a lock, which a
signal handler that raises can end (Ctrl-C, the soft time limit of Celery); what it waited for is then cancelled.

There is one loop for the process. Its thread is a daemon and starts with the first stream. At exit its streams are cancelled
first: a BAML request that still runs when the interpreter goes away ends the process with SIGABRT.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from resilience import lifecycle
from resilience.background import Latch
from resilience.errors import StreamLeftError

_T = TypeVar("_T")
_Work = Callable[[], Coroutine[Any, Any, _T]]
_LEAVE_SECONDS: Final = 1.0
"""Seconds that a reader waits for the end of what it leaves. BAML ends an aborted request within some 20 ms."""
_EXIT_SECONDS: Final = 10.0
"""Seconds that an exit waits for the end of streams that still run. It takes some 20 ms, on a starved machine much longer."""


class LoopThread:
    """Runs coroutines for threads that have no event loop, or must not block theirs."""

    def __init__(self) -> None:
        self._of_parents: list[asyncio.AbstractEventLoop] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        lifecycle.register(self, lifecycle.Stage.CALLS)

    def run(self, work: _Work[_T]) -> _T:
        """Run a coroutine and wait for it. Whatever interrupts the wait cancels the coroutine and is raised at once.

        Args:
            work: makes the coroutine; it sees the context variables of the caller.

        Raises:
            RuntimeError: called on the thread of the loop itself, which would wait for itself.
            StreamLeftError: the process is ending.
            Exception: what the coroutine raises.
        """
        if threading.current_thread() is self._thread:
            msg = "a blocking stream was read on the thread that runs it: read it on another thread"
            raise RuntimeError(msg)
        step, loop = _AwaitedCoroutine(work), self._running()
        try:
            loop.call_soon_threadsafe(step.start)
            step.done.wait()
        except BaseException:
            # In this order on the loop: a start that was interrupted half-way is followed by its cancellation.
            loop.call_soon_threadsafe(step.cancel)
            step.done.wait(_LEAVE_SECONDS)
            raise
        result: _T = step.outcome()
        return result

    def leave(self, work: _Work[object]) -> None:
        """Run a coroutine that ends something, and wait for it a moment. Its errors are ignored.

        Args:
            work: makes the coroutine.
        """
        loop = self._loop
        if loop is None:
            return
        step = _AwaitedCoroutine(work)
        with contextlib.suppress(RuntimeError):  # the loop has just been closed, and has ended everything
            loop.call_soon_threadsafe(step.start)
            # A generator may be collected on any thread, also on that of the loop, which cannot wait for itself.
            if threading.current_thread() is not self._thread:
                step.done.wait(_LEAVE_SECONDS)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            loop, thread = self._loop, self._thread
            if loop is not None and thread is not None and thread.is_alive():
                return loop
            lifecycle.ensure_exit_hook()
            # Not by the policy of the application: an event loop that a framework has patched may not run on a plain thread.
            loop = asyncio.SelectorEventLoop()
            thread = threading.Thread(target=_serve, args=(loop,), name="resilience-streams", daemon=True)
            # Before the start: a signal handler that raises while the thread starts must not leave it unknown.
            self._loop, self._thread = loop, thread
            thread.start()
            return loop

    def before_fork(self) -> None:
        """Do nothing: a child starts with a loop of its own."""

    def after_fork_in_parent(self) -> None:
        """Do nothing, as before the fork."""

    def after_fork_in_child(self) -> None:
        """Start without a loop: its thread stays with the parent.

        The parent's loop is kept and never touched again. To close it would unregister the parent's sockets, since both
        processes share them.
        """
        if self._loop is not None:
            self._of_parents.append(self._loop)
        self._lock = threading.Lock()
        self._loop = self._thread = None

    def exit_limit(self) -> float:
        """Return the seconds that `at_exit` may take. An exit that does not wait ends the process with SIGABRT."""
        return lifecycle.EXIT_TIMEOUT if self._loop is None else _EXIT_SECONDS

    def at_signal(self, timeout: float) -> None:
        """Do nothing: a stream has nothing to write, and goes on if the process does."""

    def at_exit(self, timeout: float) -> None:
        """Cancel the streams that still run, and end the thread, within *timeout* seconds."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        with contextlib.suppress(RuntimeError):  # closed already
            loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=_EXIT_SECONDS))
        loop.run_until_complete(asyncio.sleep(0))  # for the callbacks of the last task, which wake its reader
    finally:
        loop.close()


class _AwaitedCoroutine:
    """A coroutine that runs on the loop while a thread waits for it. All methods but `outcome` run on the loop."""

    __slots__ = ("_context", "_error", "_left", "_result", "_task", "_work", "done")

    def __init__(self, work: _Work[Any]) -> None:
        # The request id and the current span of the caller are found in the coroutine, too.
        self._context = contextvars.copy_context()
        self._work = work
        self._task: asyncio.Task[Any] | None = None
        self._left = False
        self._result: Any = None
        self._error: BaseException | None = None
        self.done = Latch()

    def start(self) -> None:
        if not self._left:
            # A task of its own context: what it sets does not reach the other streams of the loop.
            self._task = asyncio.get_running_loop().create_task(self._work(), context=self._context)
            self._task.add_done_callback(self._finish)

    def cancel(self) -> None:
        self._left = True
        if self._task is not None:
            self._task.cancel()
        elif not self.done.is_set():
            self.done.set()

    def _finish(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self._error = StreamLeftError("the process ends, which ended the stream")
        else:
            self._error = task.exception()
            self._result = None if self._error is not None else task.result()
        self.done.set()

    def outcome(self) -> Any:
        """Return what the coroutine returned, or raise what it raised."""
        error, self._error = self._error, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error  # its traceback holds this frame: a reference cycle
