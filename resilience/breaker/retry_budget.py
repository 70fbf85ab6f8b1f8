"""The fleet's retry budget: a token bucket of retries, stored as what is missing from a full one.

Stored this way, an unused circuit has a full bucket that takes no space, and a new `retry_burst` applies from the first step after a
deploy. A retry is 60 000 units. So a refill of whole retries a minute is a whole number of units a millisecond, and nothing is rounded.
"""

from __future__ import annotations

import math
from typing import Final

from resilience.breaker.messages import StepRequest
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitData

UNITS_PER_RETRY: Final = 60_000
"""The units of one retry. step.lua has the same number."""
LARGEST_OVERDRAFT: Final = 100
"""Retries that a fleet may have made beyond an empty bucket: about as many as it has processes."""


def deposit(policy: BreakerPolicy) -> int:
    """Return the units that every attempt pays in; -1 if there is no budget."""
    # Not 0 for "no budget": a ratio of 0 is a budget too, which only the floor refills.
    return -1 if policy.retry_ratio is None else round(UNITS_PER_RETRY * policy.retry_ratio)


def largest_deficit(policy: BreakerPolicy) -> int:
    """Return the most units that are believed to be missing. More can only be damaged or planted, and would deny retries for long."""
    return UNITS_PER_RETRY * (policy.retry_burst + LARGEST_OVERDRAFT)


def refill(used: int, elapsed: int, policy: BreakerPolicy) -> int:
    """Return what is missing from the bucket after *elapsed* milliseconds, if *used* units were missing before."""
    return max(0, used - policy.retry_floor * max(0, elapsed))


def spend(used: int, attempts: int, retries: int, policy: BreakerPolicy) -> int:
    """Return what is missing from the bucket after ended attempts paid in and retries took out.

    A retry is an attempt too, and pays in when it ends. It takes out that much in advance, so that only first tries add tokens.

    Args:
        used: units that were missing before.
        attempts: attempts that have ended.
        retries: retries that were decided.
        policy: the thresholds.
    """
    units = deposit(policy)
    if units < 0:
        return used
    # Deposits first, as in step.lua: what they exceed a full bucket by is lost before the
    # retries take out. An overdraft has to be made up, so the result may be more than a full bucket.
    return max(0, used - attempts * units) + retries * (UNITS_PER_RETRY + units)


def tokens_left(used: int, policy: BreakerPolicy) -> float:
    """Return the retries in the bucket: below 0 if it is overdrawn, infinite if there is no budget."""
    return math.inf if policy.retry_ratio is None else policy.retry_burst - used / UNITS_PER_RETRY


def budget_used(data: CircuitData, now: int, policy: BreakerPolicy) -> int:
    """Return the units that are missing from a circuit's bucket at *now* (milliseconds of the store's clock)."""
    return refill(data.budget_used, now - data.budget_used_at, policy)


def update_budget(data: CircuitData, now: int, request: StepRequest, policy: BreakerPolicy) -> None:
    """Change the bucket of *data* by the attempts and retries of a request."""
    if (request.attempts or request.retries) and policy.retry_ratio is not None:
        data.budget_used = spend(budget_used(data, now, policy), request.attempts, request.retries, policy)
        # A full bucket has no date. So it equals one that was never used, and the store keeps neither.
        data.budget_used_at = now if data.budget_used else 0


class LocalRetryBudget:
    """Changes of one process to a circuit's bucket that the store does not know yet.

    Attributes:
        attempts: attempts that ended and count only here, because their results are not sent: ignored or late.
        retries: retries decided and not sent.
        unconfirmed: retries decided that the last reply does not contain.
    """

    __slots__ = ("attempts", "retries", "unconfirmed")

    def __init__(self) -> None:
        # `unconfirmed` also has the retries that are on their way to the store. `LocalCircuits`
        # subtracts them when the reply arrives: the tokens of that reply are without them already.
        self.attempts = self.retries = self.unconfirmed = 0

    def spend(self) -> None:
        """Record that a retry was decided."""
        self.retries += 1
        self.unconfirmed += 1

    def take_unsent(self) -> tuple[int, int]:
        """Return the attempts and retries to send, and forget them."""
        unsent = self.attempts, self.retries
        self.attempts = self.retries = 0
        return unsent

    def has_token(self, tokens: float, elapsed: float, policy: BreakerPolicy) -> bool:
        """Return whether a retry is left.

        Args:
            tokens: retries that were left by the last reply.
            elapsed: seconds since that reply.
            policy: the thresholds.
        """
        if policy.retry_ratio is None:
            return True
        # An estimate: retries that other processes decided since the reply are unknown here. Two processes
        # may therefore take the same last token. The specification in circuit.py allows that overdraft.
        refilled = min(policy.retry_burst, tokens + policy.retry_floor * elapsed / 60)
        return refilled - self.unconfirmed >= 1
