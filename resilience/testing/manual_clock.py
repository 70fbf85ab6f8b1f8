"""A clock that stands still until it is told to move."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

from resilience import validation

_EPOCH = 1_700_000_000.0


class ManualClock:
    """A `resilience.clock.Clock` whose time passes by `advance` and, unless told otherwise, by `sleep`.

    Asleep on this clock a test waits for nobody: `sleep` moves the time on at once and lets the other tasks of the
    event loop have a turn. With `auto=False` sleepers wait until `advance` has reached their moment.

    Args:
        start: the first reading of `monotonic`, in seconds.
        epoch: the first reading of `time`, in seconds since 1970.
        auto: let `sleep` move the time itself.

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
        """Seconds that never go back."""
        return self._now

    def time(self) -> float:
        """Seconds since the epoch, moving together with `monotonic`."""
        return self._epoch + self._now

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass and wake whose moment has come; they run when the event loop gets to them.

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
        """Let *seconds* pass for the running task; zero and less only give the others a turn."""
        self.sleeps.append(seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
        elif self._auto:
            self.advance(seconds)
            await asyncio.sleep(0)
        else:
            sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), sleeper))
            await sleeper
