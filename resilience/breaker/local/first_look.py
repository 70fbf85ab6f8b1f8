"""What the first look of a process at its namespace showed, for circuits that it uses later."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from resilience.breaker.messages import StepReply


class FirstLook:
    """The replies of the first look. Times are seconds of the monotonic clock.

    Attributes:
        at: when the replies were asked for; minus infinity before the look.
    """

    __slots__ = ("_replies", "at")

    def __init__(self) -> None:
        self.at = -math.inf
        self._replies: dict[str, StepReply] = {}

    def keep(self, replies: Mapping[str, StepReply], at: float) -> None:
        """Keep the replies by client, asked for at this time."""
        self.at, self._replies = at, dict(replies)

    def take(self, client: str, now: float) -> StepReply | None:
        """Take the reply about a client, with its durations as they are *now*; None if the store knew no such circuit."""
        reply = self._replies.pop(client, None)
        if reply is None:
            return None
        age_ms = round(1000 * (now - self.at))
        wait_ms, cooldown_ms = _left(reply.wait_ms, age_ms), _left(reply.cooldown_ms, age_ms)
        return replace(reply, wait_ms=wait_ms, cooldown_ms=cooldown_ms)


def _left(milliseconds: int, age_ms: int) -> int:
    """Return what is left of a duration; 0 and -1, which mean no end by time, stay."""
    return max(1, milliseconds - age_ms) if milliseconds > 0 else milliseconds
