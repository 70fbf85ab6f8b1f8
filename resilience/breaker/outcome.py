"""What a finished attempt means for the circuit breaker: the outcome that counts and the cool-down that it starts."""

from __future__ import annotations

import math
from typing import Final

from resilience.breaker.messages import Cooldown, Outcome
from resilience.breaker.policy import BreakerPolicy
from resilience.failure import ErrorCategory, Failure
from resilience.failure.request_fields import names_field
from resilience.failure.taxonomy import CooldownRules

_STATUSES: Final = range(400, 500)
"""The statuses by which a provider blames the request."""

_DEFAULT_COOLDOWN = CooldownRules()
"""For a failure that starts a cool-down although its category has none of its own."""


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
    # A failure that does not count may still start a cool-down. A rate limit,
    # for example, is no sign of a sick client, but the whole fleet has to wait.
    if not policy.counts_as_failure(failure):
        outcome = Outcome.REJECTED if refuses_request(failure) else Outcome.IGNORED
        return outcome, _cooldown(failure, policy, backoff)
    return (Outcome.SLOW_FAILURE if slow else Outcome.FAILURE), _cooldown(failure, policy, backoff)


def refuses_request(failure: Failure) -> bool:
    """Return whether a provider answered that the request itself is wrong, without naming one of its fields.

    Only such an answer may be corrected by behaviour. A code that names a field is about the request: it has read it.
    """
    by_provider = failure.status in _STATUSES
    return (
        by_provider
        and failure.category is ErrorCategory.INVALID_REQUEST
        and not names_field(failure.provider_code)
    )


def _cooldown(failure: Failure, policy: BreakerPolicy, backoff: float) -> Cooldown | None:
    """Return the cool-down that *failure* starts, by the row of its category; None without one."""
    if not failure.starts_cooldown:
        return None
    rules = failure.rules.cooldown or _DEFAULT_COOLDOWN
    stated = failure.retry_after if failure.rules.honors_retry_after else None
    length = backoff if rules.seconds is None else rules.seconds
    return Cooldown(
        seconds=length if stated is None else stated,
        max_seconds=min(policy.cooldown_max, math.inf if rules.max_seconds is None else rules.max_seconds),
        # A stated wait is the provider's own word, and grows only while it proves too short; a guess doubles.
        doubling=rules.doubling and stated is None,
        reason=failure.category.value,
    )
