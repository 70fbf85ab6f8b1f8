"""How long a store takes to reply, and the time limits that follow from it."""

from __future__ import annotations

from typing import Final

SILENCE_SECONDS: Final = 1.0
"""Seconds without a reply after which a store is away, unless its replies usually take longer than half of that."""
SILENCE_MAX: Final = 3.0
"""Longest such limit in seconds, however slow the store is."""
LOOK_SECONDS: Final = 1.0
"""Longest time in seconds that a call waits for the first reply about its client."""
_FALL: Final = (
    0.875  # share of the old estimate that stays after a quicker reply; a slower one counts at once
)


class RoundTrips:
    """An estimate of the round trip that rises at once and falls slowly.

    Attributes:
        seconds: the estimate; 0 before the first reply.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0

    def note(self, seconds: float) -> None:
        """Follow a reply that took *seconds*."""
        self.seconds = max(seconds, self.seconds * _FALL + seconds * (1 - _FALL))

    @property
    def wait(self) -> float:
        """Seconds that a call waits for a reply which it needs, such as the first one about its client.

        The sync thread may have sent another request just before, so two round trips are needed. The third is for its work.
        """
        return min(LOOK_SECONDS, 3 * self.seconds)

    def is_silent(self, seconds: float) -> bool:
        """Return whether a store that has not replied for *seconds* is away."""
        return seconds > min(SILENCE_MAX, max(SILENCE_SECONDS, 2 * self.seconds))
