"""The clock every room with time in it is given, so that tests can hold it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What we ask of time."""

    def monotonic(self) -> float:
        """Seconds that never go back; for durations and deadlines."""

    def time(self) -> float:
        """Seconds since the epoch, UTC; for stamps that people read."""

    async def sleep(self, seconds: float) -> None:
        """Let *seconds* pass for the running task."""


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def time(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running event loop."""
        await asyncio.sleep(seconds)
