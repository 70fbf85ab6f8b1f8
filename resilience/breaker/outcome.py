"""What a finished attempt means for the circuit: the columns "hurts the circuit" and "wait" of the failure table. Pure."""

from __future__ import annotations

from typing import Final

from resilience.breaker.messages import Cooldown, Outcome
from resilience.breaker.policy import BreakerPolicy
from resilience.failure import ErrorCategory, Failure

AUTHENTICATION_COOLDOWN: Final = Cooldown(
    seconds=5.0, cap=60.0, growing=True, reason=ErrorCategory.AUTHENTICATION.value
)
"""A refused key: somebody may be rotating it, so ask again soon, but ever more rarely."""

QUOTA_COOLDOWN: Final = Cooldown(
    seconds=300.0, cap=3600.0, growing=True, reason=ErrorCategory.QUOTA_EXHAUSTED.value
)
"""An unpaid bill, when the provider does not say when it resets."""


def outcome_for(
    failure: Failure | None, *, seconds: float, policy: BreakerPolicy, backoff: float
) -> tuple[Outcome, Cooldown | None]:
    """Judge an attempt.

    Args:
        failure: what went wrong; None for an answer.
        seconds: how long the attempt took.
        policy: the thresholds of the client's circuit.
        backoff: the wait the retry would choose, in seconds: the cool-down of a rate limit that states none.

    Returns:
        The outcome to settle with, and the cool-down to ask for, if any.
    """
    slow = policy.slow(seconds)
    if failure is None:
        return (Outcome.SLOW_SUCCESS if slow else Outcome.SUCCESS), None
    if not policy.counts_as_failure(failure):
        return Outcome.IGNORED, _cooldown(failure, policy, backoff)
    return (Outcome.SLOW_FAILURE if slow else Outcome.FAILURE), _cooldown(failure, policy, backoff)


def _cooldown(failure: Failure, policy: BreakerPolicy, backoff: float) -> Cooldown | None:
    if not failure.cools_client:
        return None
    if failure.category is ErrorCategory.AUTHENTICATION:
        return AUTHENTICATION_COOLDOWN
    quota, stated = failure.category is ErrorCategory.QUOTA_EXHAUSTED, failure.retry_after
    if quota and stated is None:
        return QUOTA_COOLDOWN
    cap = QUOTA_COOLDOWN.cap if quota else policy.open_max
    return Cooldown(seconds=backoff if stated is None else stated, cap=cap, reason=failure.category.value)
