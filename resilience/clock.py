"""The clock that everything with a sense of time is given, so that tests can control it."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

__all__ = ["Clock", "SystemClock"]

SIGNAL_POLL: Final = 1.0
"""Seconds between two looks at signals while a thread waits. The kernel may deliver a signal to another thread than the main one, or
in the moment before that begins to wait. The main thread then goes on waiting, though Python runs signal handlers on it alone: they
run as soon as it executes code again."""


class Clock(Protocol):
    """Two readings of time, and sleep in both worlds. Durations use `monotonic`, which no change of the system time affects."""

    def monotonic(self) -> float:
        """Return seconds that never go back, for durations and deadlines."""

    def time(self) -> float:
        """Return seconds since the epoch, for time stamps."""

    async def sleep(self, seconds: float) -> None:
        """Suspend the running task for *seconds*."""

    def sleep_blocking(self, seconds: float) -> None:
        """Block the calling thread for *seconds*. A signal handler that raises ends the sleep."""


class SystemClock:
    """The clock of the machine."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    def time(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Suspend the running task for *seconds*, on the running event loop."""
        await asyncio.sleep(seconds)

    def sleep_blocking(self, seconds: float) -> None:
        """Block the calling thread for *seconds*, and look at signals each second."""
        while seconds > 0:
            time.sleep(min(SIGNAL_POLL, seconds))
            seconds -= SIGNAL_POLL
