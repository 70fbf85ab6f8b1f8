"""Whether the store owes a reply for too long, measured in time that this process really ran."""

from __future__ import annotations

from typing import Final

from resilience.breaker.local.round_trips import RoundTrips

_SECOND_LOOK: Final = 0.04
"""Seconds between two judgements of a silence. A process that was stopped or starved has a reply waiting in the kernel: the first
judgement after such a stall gives the sync thread this time to read it."""


class SilenceWatch:
    """The request that the sync thread waits for, and how long it has waited. Times are seconds of the monotonic clock.

    Attributes:
        began: when the request began; None without one.
        round_trips: how long the store usually takes to reply.
    """

    __slots__ = ("_stall_noted_until", "_stalled", "_suspected_at", "began", "round_trips")

    def __init__(self) -> None:
        self.began: float | None = None
        self.round_trips = RoundTrips()
        self._stalled = 0.0
        self._stall_noted_until = float("-inf")
        self._suspected_at = float("inf")

    def begin(self, now: float) -> None:
        """Note that a request begins."""
        self.began, self._stalled, self._suspected_at = now, 0.0, float("inf")

    def end(self) -> None:
        """Note that the thread waits for nothing."""
        self.began = None

    def note_stall(self, due: float, now: float) -> None:
        """Note that a wait which had to end at *due* ends *now*: in between this process did not run."""
        # Several callers that wait see the same stall, so only time that no other has noted is added.
        stall = now - max(due, self._stall_noted_until)
        if stall > 0:
            self._stalled += stall
        self._stall_noted_until = now

    def is_overdue(self, now: float) -> bool:
        """Return whether the reply is overdue at a first look."""
        began = self.began
        return began is not None and self.round_trips.is_silent(now - began - self._stalled)

    def is_silent(self, now: float) -> bool:
        """Return whether the reply is overdue at a second look too."""
        if not self.is_overdue(now):
            return False
        self._suspected_at = min(self._suspected_at, now)
        return now - self._suspected_at >= _SECOND_LOOK
