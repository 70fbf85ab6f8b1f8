"""The clock that everything with a sense of time is given, so that tests can control it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


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
        """Block the calling thread for *seconds*."""
        time.sleep(seconds)
