"""The fleet's retry budget: a bucket of retries, kept as what is missing from it.

Kept so, an untouched circuit has a full bucket that takes no room, and another `retry_burst` holds from its deploy on. A retry is
60 000 units, so that a refill of whole retries a minute is a whole number of units a millisecond and nothing is ever rounded off.
"""

from __future__ import annotations

import math
from typing import Final

from resilience.breaker.policy import BreakerPolicy

RETRY: Final = 60_000
"""The units of one retry."""


def deposit(policy: BreakerPolicy) -> int:
    """The units every attempt pays in; -1 when there is no budget."""
    return -1 if policy.retry_ratio is None else round(RETRY * policy.retry_ratio)


def refilled(owed: int, milliseconds: int, policy: BreakerPolicy) -> int:
    """What is missing after a while."""
    return max(0, owed - policy.retry_floor * max(0, milliseconds))


def drawn(owed: int, tries: int, retries: int, policy: BreakerPolicy) -> int:
    """What is missing after so many attempts that ended and retries that were decided.

    A retry is an attempt as well and will pay in when it ends; it takes that out beforehand, so that only first tries earn anything.
    """
    each = deposit(policy)
    return owed if each < 0 else max(0, owed - tries * each) + retries * (RETRY + each)


def left(owed: int, policy: BreakerPolicy) -> float:
    """The retries in the bucket; below 0 when several processes took the same ones, infinite when there is no budget."""
    return math.inf if policy.retry_ratio is None else policy.retry_burst - owed / RETRY


class LocalRetryBudget:
    """What one process has drawn from a circuit's bucket and paid in since it was last told.

    Attributes:
        tries: attempts that count only here: their results are not told, or too late.
        retries: decided and not told.
        spent: decided and not in the view.
    """

    __slots__ = ("retries", "spent", "tries")

    def __init__(self) -> None:
        self.tries = self.retries = self.spent = 0

    def spend(self) -> None:
        """Note that a retry was decided."""
        self.retries += 1
        self.spent += 1

    def empty(self) -> tuple[int, int]:
        """Take what there is to tell: attempts and retries."""
        told = self.tries, self.retries
        self.tries = self.retries = 0
        return told

    def holds(self, tokens: float, since: float, policy: BreakerPolicy) -> bool:
        """Is there a retry left, when there were *tokens* so many seconds ago?"""
        if policy.retry_ratio is None:
            return True
        return min(policy.retry_burst, tokens + policy.retry_floor * since / 60) - self.spent >= 1
