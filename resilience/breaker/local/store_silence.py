"""Whether the store owes a reply for too long, measured in time that this process really ran."""

from __future__ import annotations

from typing import Final

from resilience.breaker.local.round_trips import RoundTrips

_SECOND_LOOK: Final = 0.04
"""Seconds between two judgements of a silence. A process that was stopped or starved has a reply waiting in the kernel: the first
judgement after such a stall gives the sync thread this time to read it."""


class SilenceWatch:
    """The request that the sync thread waits for, and how long it has waited. Times are seconds of the monotonic clock.

    A request may need several round trips: to connect, to log in, to load a script. Silence is counted from the last sign of life.

    Attributes:
        began: when the request began; None without one.
        round_trips: how long the store usually takes to reply.
    """

    __slots__ = (
        "_heard_at",
        "_longest",
        "_stall_noted_until",
        "_stalled",
        "_suspected_at",
        "began",
        "round_trips",
    )

    def __init__(self) -> None:
        self.began: float | None = None
        self.round_trips = RoundTrips()
        self._heard_at = self._longest = self._stalled = 0.0
        self._stall_noted_until = float("-inf")
        self._suspected_at = float("inf")

    def begin(self, now: float) -> None:
        """Note that a request begins."""
        self.note_life(now)
        self.began, self._longest = now, 0.0

    def note_life(self, now: float) -> None:
        """Note that the store has completed a part of the request, such as a handshake. Called by the thread, without the lock."""
        # In this order: a caller that judges meanwhile must not see an old time without its stalls.
        self._longest, self._heard_at = self.round_trip(now), now
        self._stalled, self._suspected_at = 0.0, float("inf")

    def round_trip(self, now: float) -> float:
        """Return the longest time between two signs of life of this request, if its reply came *now*."""
        return max(self._longest, now - self._heard_at)

    def end(self) -> None:
        """Note that the thread waits for nothing."""
        self.began = None

    def note_stall(self, due: float, now: float) -> float:
        """Note that a wait which had to end at *due* ends *now*: in between this process did not run. Return the seconds of it."""
        # Several callers that wait see the same stall, so only time that no other has noted is added.
        stall = max(0.0, now - max(due, self._stall_noted_until))
        self._stalled += stall
        self._stall_noted_until = now
        return stall

    def is_overdue(self, now: float) -> bool:
        """Return whether the reply is overdue at a first look."""
        return self.began is not None and self.round_trips.is_silent(now - self._heard_at - self._stalled)

    def is_silent(self, now: float) -> bool:
        """Return whether the reply is overdue at a second look too."""
        if not self.is_overdue(now):
            return False
        self._suspected_at = min(self._suspected_at, now)
        return now - self._suspected_at >= _SECOND_LOOK
