"""The waits between attempts to reach a database: short at first, doubled after each failure, with jitter."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """The wait after each failure. The jitter keeps processes that share a database from trying in step.

    Args:
        first: wait after the first failure, in seconds.
        longest: upper limit of the wait, in seconds.
        sample: returns random numbers from 0 to 1.
    """

    __slots__ = ("_first", "_longest", "_sample", "_wait")

    def __init__(self, first: float, longest: float, sample: Callable[[], float] = random.random) -> None:
        self._first, self._longest, self._sample = first, longest, sample
        self._wait = first

    def next(self) -> float:
        """Return the seconds to wait now: half of the current wait or more. The next one is twice as long."""
        wait, self._wait = self._wait, min(2 * self._wait, self._longest)
        return wait * (0.5 + self._sample() / 2)

    def limit(self, longest: float) -> None:
        """Set a lower limit of the wait."""
        self._longest = min(self._longest, longest)
        self._wait = min(self._wait, self._longest)

    def reset(self) -> None:
        """Begin with the first wait again: an attempt has succeeded."""
        self._wait = self._first
