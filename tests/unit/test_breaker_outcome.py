"""The verdict: what each kind of failure means for the circuit."""

from __future__ import annotations

from typing import Any

import pytest

from resilience.breaker import BreakerPolicy, Cooldown, Outcome, outcome_for
from resilience.failure import CATEGORY_RULES, ErrorCategory, Failure

COOLING = {ErrorCategory.RATE_LIMIT, ErrorCategory.AUTHENTICATION, ErrorCategory.QUOTA_EXHAUSTED}


def judge(
    category: ErrorCategory | None,
    *,
    seconds: float = 1.0,
    policy: BreakerPolicy | None = None,
    **failure: Any,
) -> tuple[Outcome, Cooldown | None]:
    failed = None
    if category is not None:
        given = {
            "recoverable": CATEGORY_RULES[category].recoverable,
            "counts_against_client": CATEGORY_RULES[category].counts_as_failure,
            "starts_cooldown": category in COOLING,
        }
        failed = Failure(category=category, **{**given, **failure})
    return outcome_for(failed, seconds=seconds, policy=policy or BreakerPolicy(), backoff=2.0)


def test_an_answer_is_a_success() -> None:
    """An attempt without a failure is a success, without a cool-down."""
    assert judge(None) == (Outcome.SUCCESS, None)


@pytest.mark.parametrize("category", list(ErrorCategory))
def test_each_category_counts_as_its_rules_say(category: ErrorCategory) -> None:
    """A category that counts is a failure. Every other one is ignored: a probe returns its lease, and nothing is counted."""
    assert judge(category)[0] is (
        Outcome.FAILURE if CATEGORY_RULES[category].counts_as_failure else Outcome.IGNORED
    )


@pytest.mark.parametrize("category", sorted(set(ErrorCategory) - COOLING))
def test_only_some_categories_start_a_cool_down(category: ErrorCategory) -> None:
    """A stated delay alone starts no cool-down: the failure must ask for one."""
    assert judge(category, retry_after=9.0)[1] is None


def test_slow_attempts_are_slow_outcomes() -> None:
    """An attempt longer than slow_call_duration is slow, whether it succeeds or fails; one exactly as long is not."""
    policy = BreakerPolicy(slow_call_duration=5.0)

    assert judge(None, seconds=5.1, policy=policy)[0] is Outcome.SLOW_SUCCESS
    assert judge(ErrorCategory.TIMEOUT, seconds=5.1, policy=policy)[0] is Outcome.SLOW_FAILURE
    assert judge(None, seconds=5.0, policy=policy)[0] is Outcome.SUCCESS
    assert judge(ErrorCategory.INVALID_REQUEST, seconds=99, policy=policy)[0] is Outcome.IGNORED


def test_a_rate_limit_cools_for_the_stated_delay() -> None:
    """The stated delay, capped by cooldown_max, for the whole fleet."""
    assert judge(ErrorCategory.RATE_LIMIT, retry_after=7.0) == (
        Outcome.IGNORED,
        Cooldown(seconds=7.0, max_seconds=300.0, reason="rate_limit"),
    )


def test_a_rate_limit_without_a_delay_cools_down_for_the_backoff() -> None:
    """Without a stated delay the retry's own wait is the cool-down."""
    assert judge(ErrorCategory.RATE_LIMIT)[1] == Cooldown(seconds=2.0, max_seconds=300.0, reason="rate_limit")


def test_a_conflict_classified_as_rate_limit_starts_no_cool_down() -> None:
    """409 and 425 behave like a rate limit without a cool-down: starts_cooldown decides."""
    assert judge(ErrorCategory.RATE_LIMIT, starts_cooldown=False) == (Outcome.IGNORED, None)


def test_an_overload_may_count_and_cool_down() -> None:
    """A failure that counts may start a cool-down as well."""
    outcome, cooldown = judge(ErrorCategory.OVERLOADED, starts_cooldown=True, retry_after=4.0)

    assert outcome is Outcome.FAILURE
    assert cooldown == Cooldown(seconds=4.0, max_seconds=300.0, reason="overloaded")


def test_a_refused_key_starts_a_short_doubling_cool_down() -> None:
    """An authentication failure cools down for 5 s, doubling to at most a minute, whatever delay was stated."""
    expected = Cooldown(seconds=5.0, max_seconds=60.0, doubling=True, reason="authentication")

    assert judge(ErrorCategory.AUTHENTICATION, retry_after=900.0) == (Outcome.IGNORED, expected)


def test_an_exhausted_quota_cools_down_until_its_reset() -> None:
    """A quota cools down until the stated reset, at most an hour; without one it doubles from five minutes."""
    stated = judge(ErrorCategory.QUOTA_EXHAUSTED, retry_after=1234.0)[1]
    unstated = judge(ErrorCategory.QUOTA_EXHAUSTED)[1]

    assert stated == Cooldown(seconds=1234.0, max_seconds=300.0, reason="quota_exhausted")
    assert unstated == Cooldown(seconds=300.0, max_seconds=300.0, doubling=True, reason="quota_exhausted")
