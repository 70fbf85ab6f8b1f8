"""The window of a closed circuit: results in ten buckets, their sums, and the rules that the sums may violate."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

from resilience.breaker.messages import FAILURES, SLOW, Outcome, TransitionRule
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import Bucket

BUCKETS: Final = 10
"""How many buckets a window has. step.lua has the same number."""


@dataclass(frozen=True, slots=True)
class WindowCounts:
    """The sums of the live buckets. `streak` counts the failures since the last success."""

    successes: int = 0
    failures: int = 0
    slow: int = 0
    streak: int = 0

    @property
    def calls(self) -> int:
        """All calls that counted."""
        return self.successes + self.failures

    def violated_rule(self, policy: BreakerPolicy) -> TransitionRule | None:
        """Return the first rule that these counts violate, or None.

        The order: failures in a row, the share of failed calls, the share of slow calls.
        """
        if self.streak >= policy.consecutive_failures:
            return TransitionRule.CONSECUTIVE
        if not self.calls or self.calls < policy.min_calls:
            return None
        # Divided, not multiplied: 7 / 100 is exactly the float that a policy of 0.07 has, but
        # 0.07 * 100 is more than 7. A share that equals its threshold must open the circuit.
        if self.failures / self.calls >= policy.failure_rate:
            return TransitionRule.FAILURE_RATE
        if policy.slow_call_duration is not None and self.slow / self.calls >= policy.slow_call_rate:
            return TransitionRule.SLOW_RATE
        return None

    def plus(self, outcome: Outcome, count: int) -> WindowCounts:
        """Return these counts with *count* equal results added."""
        failed = outcome in FAILURES
        return WindowCounts(
            successes=self.successes + (0 if failed else count),
            failures=self.failures + (count if failed else 0),
            slow=self.slow + (count if outcome in SLOW else 0),
            streak=self.streak + count if failed else 0,
        )

    def first_violation(self, outcome: Outcome, count: int, policy: BreakerPolicy) -> int:
        """Return which of *count* equal results is the first to violate a rule, from 1; 0 if none does.

        The answer is that of counting one by one, found by halving. That is exact because within a run of equal results each share
        only rises or only falls. A falling share can violate its rule only with the result that makes the window large enough to be
        judged. Before that result and after it every share that matters rises, so in each part the violations come last.
        """
        judged = min(count, max(1, policy.min_calls - self.calls))
        if self.plus(outcome, judged).violated_rule(policy):
            span = range(1, judged + 1)
        elif self.plus(outcome, count).violated_rule(policy):
            span = range(judged + 1, count + 1)
        else:
            return 0
        return span[
            bisect_left(span, 1, key=lambda n: int(self.plus(outcome, n).violated_rule(policy) is not None))
        ]


def sum_buckets(buckets: tuple[Bucket, ...], now: int, policy: BreakerPolicy) -> WindowCounts:
    """Return the sums of the buckets that began less than a window before *now* (milliseconds of the store's clock)."""
    since = now - round(1000 * policy.window)
    successes = failures = slow = streak = 0
    for bucket in reversed(buckets):
        # The buckets are in order of time, so all that follow are older still.
        if bucket.start <= since:
            break
        # From new to old: the streak goes on into an older bucket only while no success has been seen.
        streak += 0 if successes else bucket.streak
        successes += bucket.successes
        failures += bucket.failures
        slow += bucket.slow
    return WindowCounts(successes, failures, slow, streak)


def add_to_buckets(
    buckets: tuple[Bucket, ...], now: int, outcome: Outcome, count: int, policy: BreakerPolicy
) -> tuple[Bucket, ...]:
    """Add *count* equal results to the newest bucket, or to a new one if a tenth of the window has passed since it began."""
    width = max(1, round(1000 * policy.window) // BUCKETS)
    if not buckets or buckets[-1].start + width <= now:
        # Nine old buckets and the new one: the data of a busy circuit does not grow.
        buckets = (*buckets[1 - BUCKETS :], Bucket(now))
    last = buckets[-1]
    sums = WindowCounts(last.successes, last.failures, last.slow, last.streak).plus(outcome, count)
    return (*buckets[:-1], Bucket(last.start, sums.successes, sums.failures, sums.slow, sums.streak))
