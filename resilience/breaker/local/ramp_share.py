"""One process's share of a ramp: attempts that the store has admitted, and callers that wait for one. Pure.

While a ramp is on (`breaker/ramp.py`), a call of this process needs an attempt that the ramp admits. The store is asked once for all
callers that wait, and at most once a step after it has refused some. A reply that comes after its callers have gone leaves attempts
behind, which the next callers take: so a store that is far away costs a wait, and no attempt is lost.
"""

from __future__ import annotations

import math

from resilience.breaker.messages import StepReply


class RampShare:
    """The share of one circuit. The caller holds the lock of the `LocalCircuits`. Times are seconds of the monotonic clock.

    Attributes:
        is_on: whether calls need an attempt of the ramp.
        left: admitted attempts that no caller has taken.
        wanted: callers that wait for an attempt and for which the store has not been asked.
        asks_at: when the store may be asked again; in the past if nothing forbids it.
    """

    __slots__ = ("asks_at", "is_on", "left", "wanted")

    def __init__(self) -> None:
        self.is_on = False
        self.left = self.wanted = 0
        self.asks_at = -math.inf

    def begin(self) -> None:
        """Expect a ramp: this process has just started a cool-down, and the store may not have replied when it ends."""
        self.is_on, self.left, self.asks_at = True, 0, -math.inf

    def take(self) -> bool:
        """Take an attempt. Return whether one was left."""
        if not self.left:
            return False
        self.left -= 1
        return True

    def may_ask(self, now: float) -> bool:
        """Return whether a caller should ask the store for an attempt."""
        return self.is_on and not self.left and self.asks_at <= now

    def take_wanted(self) -> int:
        """Return for how many callers the store must be asked, and forget them."""
        wanted, self.wanted = self.wanted, 0
        return wanted

    def update(self, wanted: int, reply: StepReply, now: float) -> None:
        """Follow a reply.

        Args:
            wanted: attempts that the request asked for.
            reply: the reply.
            now: current time.
        """
        self.is_on = reply.ramp_ms != 0
        if not self.is_on or reply.cooldown_ms:
            self.left, self.asks_at = 0, -math.inf
            return
        self.left += reply.admitted
        if reply.admitted < wanted:
            self.asks_at = now + max(0, reply.ramp_ms) / 1000
