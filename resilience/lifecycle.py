"""Nothing is lost when a process ends, and nothing hangs when it forks.

`atexit` runs at a normal end, after an uncaught exception and after SIGINT. It does not run in children of
`multiprocessing` that were forked, which have finalizers of their own, nor after SIGTERM without a handler, `os._exit` or
SIGKILL: for SIGTERM there is `install_signal_flush`, which is never called for you, because signals belong to the program.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
import weakref
from types import FrameType
from typing import Any, Final, Protocol

_EXIT_TIMEOUT: Final = 2.0
"""Seconds the end of a process may wait for its history."""


class Flushed(Protocol):
    """What is flushed at the end and looked after around a fork."""

    def flush(self, timeout: float = ...) -> bool:
        """Write everything; was it written?"""

    def before_fork(self) -> None:
        """Let no thread be inside the database while the process is copied."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Start again with nothing of the parent's."""


_alive: weakref.WeakSet[Any] = weakref.WeakSet()
_registered_for: int | None = None


def watch(flushed: Flushed) -> None:
    """Look after *flushed* around forks, and at the end once `flush_at_exit` was called in its process."""
    _alive.add(flushed)


def flush_at_exit() -> None:
    """Flush everything when this process ends. Again after a fork: a child inherits neither kind of hook reliably."""
    global _registered_for  # noqa: PLW0603 - one hook for each process
    if _registered_for == os.getpid():
        return
    _registered_for = os.getpid()
    atexit.unregister(_flush_all)
    atexit.register(_flush_all)
    # Only where multiprocessing is loaded can this be one of its children, which clear its registry at their start.
    multiprocessing_util: Any = sys.modules.get("multiprocessing.util")
    if multiprocessing_util is not None:
        multiprocessing_util.Finalize(None, _flush_all, exitpriority=10)


def install_signal_flush(*signals: int, timeout: float | None = None) -> None:
    """Flush the history when one of *signals* (SIGTERM, if none is given) arrives, then do what it did before.

    The flush takes at most *timeout* seconds, two if none is given.

    For programs that leave SIGTERM at its default, which ends a process without running `atexit`. Web servers such as
    gunicorn and uvicorn turn it into a normal end and need no help. Call it on the main thread.

    Raises:
        ValueError: not on the main thread.
    """
    for number in signals or (signal.SIGTERM,):
        _chain(number, timeout)


def _chain(number: int, timeout: float | None) -> None:
    before = signal.getsignal(number)

    def handle(number: int, frame: FrameType | None) -> None:
        _flush_all(timeout)
        if callable(before):
            before(number, frame)
        elif before is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    signal.signal(number, handle)


def _flush_all(timeout: float | None = None) -> None:
    deadline = time.monotonic() + (_EXIT_TIMEOUT if timeout is None else timeout)
    for flushed in list(_alive):
        flushed.flush(max(0.0, deadline - time.monotonic()))


def _before_fork() -> None:
    for flushed in list(_alive):
        flushed.before_fork()


def _after_fork_in_parent() -> None:
    for flushed in list(_alive):
        flushed.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for flushed in list(_alive):
        flushed.after_fork_in_child()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
