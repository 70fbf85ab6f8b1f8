"""BreakerPolicy: its fields and defaults, and an error for every invalid value."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from resilience.breaker import BreakerPolicy
from resilience.failure import ErrorCategory, Failure

PROMISED = {
    "window": 60.0,
    "min_calls": 10,
    "failure_rate": 0.5,
    "consecutive_failures": 5,
    "slow_call_duration": None,
    "slow_call_rate": 0.8,
    "open_for": 10.0,
    "open_growth": 1.5,
    "open_max": 20.0,
    "cooldown_max": 300.0,
    "open_jitter": 0.1,
    "half_open_probes": 1,
    "successes_to_close": 1,
    "probe_lease": 60.0,
    "probe_beside": True,
    "max_staleness": 0.25,
    "enabled": True,
    "retry_ratio": 0.1,
    "retry_floor": 10,
    "retry_burst": 20,
}


def test_the_defaults_are_the_promised_ones() -> None:
    """Every field has its documented default, and `counts` leaves the choice to the failure's category."""
    policy = BreakerPolicy()

    assert {field.name: getattr(policy, field.name) for field in fields(policy)} == {
        **PROMISED,
        "counts": None,
    }


def test_a_policy_is_a_value() -> None:
    """Equal thresholds are equal policies, usable as keys, and cannot be changed."""
    policy = BreakerPolicy(counts=frozenset({ErrorCategory.TIMEOUT}))

    assert {policy: 1}[BreakerPolicy(counts=frozenset({ErrorCategory.TIMEOUT}))] == 1
    with pytest.raises(FrozenInstanceError):
        policy.window = 1.0  # type: ignore[misc]  # this is what must fail


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("window", 0),
        ("window", float("nan")),
        ("min_calls", 0),
        ("min_calls", 2.5),
        ("failure_rate", 0),
        ("failure_rate", 1.01),
        ("consecutive_failures", True),
        ("slow_call_duration", 0.0),
        ("slow_call_rate", -0.5),
        ("open_for", 0),
        ("open_growth", 0.5),
        ("open_max", 9.9),
        ("cooldown_max", 0),
        ("open_jitter", 1.0),
        ("half_open_probes", 0),
        ("successes_to_close", "1"),
        ("probe_lease", -1),
        ("max_staleness", -0.1),
        ("retry_ratio", -0.1),
        ("retry_ratio", 1.1),
        ("retry_ratio", float("inf")),
        ("retry_floor", 0.5),
        ("retry_floor", -1),
        ("retry_burst", 0),
        ("enabled", 1),
        ("counts", {"tiemout"}),
        ("counts", 3),
    ],
)
def test_a_wrong_value_is_named_with_its_field(field: str, value: Any) -> None:
    """A value out of range raises a ValueError that names the field and the value."""
    with pytest.raises(ValueError, match=rf"BreakerPolicy\.{field}=") as caught:
        BreakerPolicy(**{field: value})

    assert repr(value) in str(caught.value)


def test_counts_takes_plain_words() -> None:
    """Categories may be given as text, as they come from the environment."""
    policy = BreakerPolicy(counts={"timeout", "rate_limit"})  # type: ignore[arg-type]  # what a settings file gives

    assert policy.counts == frozenset({ErrorCategory.TIMEOUT, ErrorCategory.RATE_LIMIT})


def test_counts_overrides_the_table() -> None:
    """With `counts` the category decides; without it the failure does."""
    throttled = Failure(category=ErrorCategory.RATE_LIMIT, recoverable=True, counts_against_client=False)

    assert BreakerPolicy().counts_as_failure(throttled) is False
    assert BreakerPolicy(counts=frozenset({ErrorCategory.RATE_LIMIT})).counts_as_failure(throttled) is True


def test_a_long_opening_needs_no_second_field() -> None:
    """Where only open_for is set, and is longer than the default of open_max, openings do not grow."""
    policy = BreakerPolicy(open_for=45.0)

    assert (policy.open_max, policy.open_duration_ms(3, 0.5)) == (45.0, 45_000)
