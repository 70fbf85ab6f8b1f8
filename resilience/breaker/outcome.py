"""What a finished attempt means for the circuit breaker: the outcome that counts and the cool-down that it starts."""

from __future__ import annotations

from typing import Final

from resilience.breaker.messages import Cooldown, Outcome
from resilience.breaker.policy import BreakerPolicy
from resilience.failure import ErrorCategory, Failure

AUTHENTICATION_COOLDOWN: Final = Cooldown(
    seconds=5.0, max_seconds=60.0, doubling=True, reason=ErrorCategory.AUTHENTICATION.value
)
"""For a refused key. It may just be rotating, so the client is asked again soon, and less often each time."""

QUOTA_COOLDOWN: Final = Cooldown(
    seconds=300.0, max_seconds=3600.0, doubling=True, reason=ErrorCategory.QUOTA_EXHAUSTED.value
)
"""For an exhausted quota whose reset the provider does not state."""


def outcome_for(
    failure: Failure | None, *, seconds: float, policy: BreakerPolicy, backoff: float
) -> tuple[Outcome, Cooldown | None]:
    """Return what an attempt means for its client's circuit.

    Args:
        failure: why it failed; None if it succeeded.
        seconds: seconds that the attempt took.
        policy: thresholds of the client's circuit.
        backoff: seconds that the retry would wait: the cool-down of a rate limit that states none.

    Returns:
        The outcome to pass to `Breaker.settle`, and the cool-down to pass with it, or None.
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
    return Cooldown(
        seconds=backoff if stated is None else stated,
        max_seconds=QUOTA_COOLDOWN.max_seconds if quota else policy.open_max,
        reason=failure.category.value,
    )
