"""A bell that wakes one waiting thread."""

from __future__ import annotations

import threading
from contextlib import suppress


class Wakeup:
    """As `threading.Event` with one waiter, but safe to ring from a signal handler and from `__del__`.

    An Event takes a lock in Python code: a handler that interrupts its own thread there and sets the event again waits for
    itself, for ever. Here ringing is one call into C, and costs a tenth.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake the waiter, or let its next wait return at once. Never blocks."""
        if self._lock.locked():
            with suppress(RuntimeError):  # another thread rang in between
                self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it rings, at most *timeout* seconds; did it?"""
        return self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
