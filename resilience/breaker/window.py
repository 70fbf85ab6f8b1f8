"""The window of a closed circuit: results in buckets a tenth of it long, what they add up to, and the rules they may break."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

from resilience.breaker.messages import FAILURES, SLOW, Outcome, TransitionRule
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import Bucket

BUCKETS: Final = 10


@dataclass(frozen=True, slots=True)
class WindowCounts:
    """What the live buckets add up to. `streak` counts the failures since the last success."""

    successes: int = 0
    failures: int = 0
    slow: int = 0
    streak: int = 0

    @property
    def calls(self) -> int:
        """All calls that counted."""
        return self.successes + self.failures

    def broken(self, policy: BreakerPolicy) -> TransitionRule | None:
        """The first rule these numbers break: failures in a row, then the share of failed calls, then that of slow ones."""
        if self.streak >= policy.consecutive_failures:
            return TransitionRule.CONSECUTIVE
        if not self.calls or self.calls < policy.min_calls:
            return None
        if self.failures / self.calls >= policy.failure_rate:
            return TransitionRule.FAILURE_RATE
        if policy.slow_call_duration is not None and self.slow / self.calls >= policy.slow_call_rate:
            return TransitionRule.SLOW_RATE
        return None

    def after(self, outcome: Outcome, count: int) -> WindowCounts:
        """These numbers and *count* equal results more."""
        failed = outcome in FAILURES
        return WindowCounts(
            successes=self.successes + (0 if failed else count),
            failures=self.failures + (count if failed else 0),
            slow=self.slow + (count if outcome in SLOW else 0),
            streak=self.streak + count if failed else 0,
        )

    def breaking(self, outcome: Outcome, count: int, policy: BreakerPolicy) -> int:
        """Which of *count* equal results is the first to break a rule, from 1; 0 if none does.

        Exactly the one that would, counted one by one, for within a run each share only rises or only falls: one that falls
        breaks its rule with the first result that makes the window large enough to judge, or never; before and behind that
        result everything only rises, so that halving finds the first.
        """
        judged = min(count, max(1, policy.min_calls - self.calls))
        if self.after(outcome, judged).broken(policy):
            span = range(1, judged + 1)
        elif self.after(outcome, count).broken(policy):
            span = range(judged + 1, count + 1)
        else:
            return 0
        return span[
            bisect_left(span, 1, key=lambda k: int(self.after(outcome, k).broken(policy) is not None))
        ]


def tally(buckets: tuple[Bucket, ...], now: int, policy: BreakerPolicy) -> WindowCounts:
    """Add up the buckets that began less than a window ago."""
    since = now - round(1000 * policy.window)
    successes = failures = slow = streak = 0
    for bucket in reversed(buckets):
        if bucket.start <= since:
            break
        streak += 0 if successes else bucket.streak
        successes += bucket.successes
        failures += bucket.failures
        slow += bucket.slow
    return WindowCounts(successes, failures, slow, streak)


def counted(
    buckets: tuple[Bucket, ...], now: int, outcome: Outcome, count: int, policy: BreakerPolicy
) -> tuple[Bucket, ...]:
    """Add *count* equal results to the newest bucket, or to a new one when a tenth of the window has passed."""
    width = max(1, round(1000 * policy.window) // BUCKETS)
    if not buckets or buckets[-1].start + width <= now:
        buckets = (*buckets[1 - BUCKETS :], Bucket(now))
    last = buckets[-1]
    sums = WindowCounts(last.successes, last.failures, last.slow, last.streak).after(outcome, count)
    return (*buckets[:-1], Bucket(last.start, sums.successes, sums.failures, sums.slow, sums.streak))
