"""The clock of a run, which can wait for an event: the timetable and the display go by it."""

from __future__ import annotations

import math
import threading
import time

from resilience.clock import SystemClock


class RunClock(SystemClock):
    """A clock that stops at a barrier until it is released.

    A phase that must show something does not end before it has: on a busy machine that may take longer than planned.

    Attributes:
        held: seconds that the clock has stood still.
    """

    def __init__(self) -> None:
        self.held = 0.0
        self._barrier = math.inf
        self._lock = threading.Lock()  # the simulator's thread reads the clock while the run releases it

    def monotonic(self) -> float:
        """Return the seconds of this clock: those of the system without the time it stood still."""
        with self._lock:
            return min(time.monotonic() - self.held, self._barrier)

    def stop_at(self, barrier: float) -> None:
        """Stand still from *barrier* on, in seconds of this clock, until `release`."""
        with self._lock:
            self._barrier = barrier

    def release(self) -> float:
        """Go on; return the seconds that the clock has stood still at the barrier."""
        with self._lock:
            overrun = max(0.0, time.monotonic() - self.held - self._barrier)
            self.held += overrun
            self._barrier = math.inf
            return overrun
