"""RetryPolicy: the mandated fields, the backoff curve, and bad input."""

from __future__ import annotations

import pickle
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.failure import ErrorCategory, Failure, RetryMode
from resilience.retry import DEFAULT_RETRY_CONFIG, RetryPolicy


def test_the_mandated_config_is_the_policy_seen_as_a_dict() -> None:
    """DEFAULT_RETRY_CONFIG equals asdict(RetryPolicy()) on its keys, and makes the default policy."""
    assert DEFAULT_RETRY_CONFIG == {
        "max_retries": 3,
        "initial_delay": 1.0,
        "max_delay": 60.0,
        "exponential_base": 2.0,
        "jitter": True,
    }
    assert {key: asdict(RetryPolicy())[key] for key in DEFAULT_RETRY_CONFIG} == DEFAULT_RETRY_CONFIG
    assert RetryPolicy(**DEFAULT_RETRY_CONFIG) == RetryPolicy()


def test_backoff_doubles_from_the_initial_delay_to_its_limit() -> None:
    """Without jitter the waits are 1, 2, 4, ... and never above max_delay; the first is not yet multiplied (BAML's is)."""
    policy = RetryPolicy(jitter=False, max_delay=10.0)

    assert [1.0, 2.0, 4.0, 8.0, 10.0, 10.0] == [policy.backoff(retry, 0.5) for retry in range(1, 7)]


@given(retry=st.integers(1, 200), initial=st.floats(0, 10), base=st.floats(1, 4))
def test_the_curve_is_exponential(retry: int, initial: float, base: float) -> None:
    """The longest wait is min(max_delay, initial_delay * exponential_base ** (retry - 1)), as the fields say."""
    policy = RetryPolicy(jitter=False, initial_delay=initial, max_delay=60.0, exponential_base=base)

    assert policy.backoff(retry, 0.5) == pytest.approx(min(60.0, initial * base ** (retry - 1)))


@given(retry=st.integers(1, 10_000), sample=st.floats(0, 1))
def test_full_jitter_draws_between_nothing_and_the_longest(retry: int, sample: float) -> None:
    """With jitter a wait is the sample times the longest, and no number of retries overflows."""
    policy = RetryPolicy(initial_delay=0.5, max_delay=30.0)
    longest = RetryPolicy(initial_delay=0.5, max_delay=30.0, jitter=False).backoff(retry, 0.0)

    assert longest <= 30.0
    assert policy.backoff(retry, sample) == pytest.approx(sample * longest)


@given(stated=st.floats(0.001, 1e6), sample=st.floats(0, 1))
def test_a_stated_wait_is_a_floor(stated: float, sample: float) -> None:
    """Jitter only ever lengthens a stated wait, by at most 10 % and one second."""
    wait = RetryPolicy().stated_wait(stated, sample)

    assert stated <= wait <= stated + min(0.1 * stated, 1.0) + 1e-9
    assert stated == RetryPolicy(jitter=False).stated_wait(stated, sample)


def test_x_should_retry_lifts_never_and_no_more() -> None:
    """False forbids every retry. True lifts `never` to `last_resort` and nothing else; a bill stays unpaid."""
    policy = RetryPolicy(retry_modes={ErrorCategory.TIMEOUT: RetryMode.ALWAYS})

    def mode(category: ErrorCategory, should_retry: bool | None) -> RetryMode:  # noqa: FBT001 - three values to try
        return policy.retry_mode_for(
            Failure(
                category=category, recoverable=True, counts_against_client=True, should_retry=should_retry
            )
        )

    assert RetryMode.LAST_RESORT is mode(ErrorCategory.INVALID_REQUEST, should_retry=True)
    assert RetryMode.LAST_RESORT is mode(ErrorCategory.RATE_LIMIT, should_retry=True)
    assert RetryMode.ONCE is mode(ErrorCategory.SERVER_ERROR, should_retry=True)
    assert RetryMode.NEVER is mode(ErrorCategory.QUOTA_EXHAUSTED, should_retry=True)
    assert RetryMode.NEVER is mode(ErrorCategory.TIMEOUT, should_retry=False)
    assert RetryMode.ALWAYS is mode(ErrorCategory.TIMEOUT, should_retry=None)
    assert RetryMode.LAST_RESORT is mode(ErrorCategory.RATE_LIMIT, should_retry=None)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("max_retries", -1, "from 0 to 1000"),
        ("max_retries", 1.5, "whole number"),
        ("max_retries", True, "whole number"),
        ("initial_delay", -0.1, ">= 0"),
        ("initial_delay", float("nan"), ">= 0"),
        ("max_delay", 0.5, ">= 1"),
        ("max_delay", float("inf"), ">= 1"),
        ("exponential_base", 0.9, ">= 1"),
        ("jitter", "yes", "True or False"),
        ("deadline", 0, "> 0"),
        ("attempt_timeout", -3, "> 0"),
        ("first_token_timeout", 0, "> 0"),
        ("stall_timeout", -1, "> 0"),
        ("stream_restart", "sometimes", "before_content"),
        ("max_retry_after", "60", ">= 0"),
        ("max_output_retries", -1, "from 0"),
        ("retry_modes", {"nonsense": "always"}, "rate_limit"),
        ("retry_modes", {"timeout": "perhaps"}, "last_resort"),
        ("retry_modes", "timeout", "mapping"),
    ],
)
def test_a_wrong_value_names_field_value_and_range(field: str, value: Any, allowed: str) -> None:
    """Every invalid field is refused with its name, its value and what is allowed."""
    with pytest.raises(ValueError, match=rf"RetryPolicy\.{field}=") as caught:
        RetryPolicy(**{field: value})

    assert repr(value) in str(caught.value)
    assert allowed in str(caught.value)


def test_policies_travel_to_other_processes() -> None:
    """A policy survives pickling, so that spawn can hand it over, and is hashable."""
    policy = RetryPolicy(deadline=5.0, retry_modes={ErrorCategory.NETWORK: RetryMode.NEVER})

    assert policy == pickle.loads(pickle.dumps(policy))  # noqa: S301 - our own bytes
    assert hash(policy) == hash(pickle.loads(pickle.dumps(policy)))  # noqa: S301 - our own bytes
