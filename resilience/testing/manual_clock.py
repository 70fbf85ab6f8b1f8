"""A clock that moves only when a test moves it."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

from resilience import validation

_EPOCH = 1_700_000_000.0


class ManualClock:
    """A `resilience.clock.Clock` for tests, moved by `advance` and, by default, by `sleep`.

    A sleep takes no real time: it moves the clock and lets the other tasks of the event loop run. With `auto=False` a
    sleeping task waits until `advance` has moved the clock far enough.

    Args:
        start: the first reading of `monotonic`, in seconds.
        epoch: the first reading of `time`, in seconds since 1970.
        auto: whether `sleep` moves the clock itself.

    Attributes:
        sleeps: the seconds of every sleep so far, in order.
    """

    def __init__(self, start: float = 0.0, *, epoch: float = _EPOCH, auto: bool = True) -> None:
        self._now = start
        self._epoch = epoch - start
        self._auto = auto
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        """Return the seconds of a clock that never goes back."""
        return self._now

    def time(self) -> float:
        """Return the seconds since 1970; they move together with `monotonic`."""
        return self._epoch + self._now

    def advance(self, seconds: float) -> None:
        """Move the clock and wake the tasks whose sleep is over. They run when the event loop runs next.

        Args:
            seconds: seconds to move the clock by.

        Raises:
            ValueError: *seconds* is negative.
        """
        validation.number("ManualClock", "seconds", seconds)
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, sleeper = heapq.heappop(self._sleepers)
            if not sleeper.done():
                sleeper.set_result(None)

    async def sleep(self, seconds: float) -> None:
        """Sleep on this clock. Zero or less only lets the other tasks run.

        Args:
            seconds: seconds on this clock.
        """
        self.sleeps.append(seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
        elif self._auto:
            self.advance(seconds)
            await asyncio.sleep(0)
        else:
            sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            # The number keeps sleepers of the same moment in order, and
            # keeps the heap from comparing futures, which it cannot.
            heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), sleeper))
            await sleeper

    def sleep_blocking(self, seconds: float) -> None:
        """Sleep on this clock without blocking the thread: the clock moves at once, whatever *auto* says.

        Args:
            seconds: seconds on this clock.
        """
        self.sleeps.append(seconds)
        if seconds > 0:
            self.advance(seconds)
