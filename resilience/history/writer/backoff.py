"""The waits between attempts to reach a database: short at first, doubled after each failure, with jitter."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

AWAY_WAIT: Final = (0.1, 2.0)
"""First and longest wait, in seconds, before a database that is away is tried again. A process that is killed meanwhile loses the
records in its memory, so the wait is short."""
_LOCK_WAIT: Final = (0.05, 1.0)
"""First and longest wait, in seconds, before a database that other processes keep locked is tried again."""
_CLOSING_WAIT: Final = 0.1
"""Longest wait between two attempts while the process ends, in seconds."""


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
        self._wait = min(self._first, self._longest)


class Retries:
    """When a database is tried again after a failure.

    Attributes:
        at: time of the monotonic clock before which it is not tried; 0 if nothing failed.
    """

    __slots__ = ("_away", "_lock", "at")

    def __init__(self) -> None:
        self.at = 0.0
        self._lock, self._away = Backoff(*_LOCK_WAIT), Backoff(*AWAY_WAIT)

    def after_lock(self, now: float) -> None:
        """Wait for another process to release its lock."""
        self.at = now + self._lock.next()

    def after_outage(self, now: float) -> None:
        """Wait for a database that cannot be reached."""
        self.at = now + self._away.next()

    def now(self, *, hurry: bool) -> None:
        """Try at once, and wait only briefly from now on if the process is in a *hurry* to end."""
        self.at = 0.0
        if hurry:
            self._lock.limit(_CLOSING_WAIT)
            self._away.limit(_CLOSING_WAIT)

    def reset(self) -> None:
        """Begin with the first waits again: an attempt has succeeded."""
        self._lock.reset()
        self._away.reset()
