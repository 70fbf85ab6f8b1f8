"""The data of a circuit as stores keep it, and the arithmetic of its window."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.breaker.messages import Outcome
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import (
    _FIELDS,
    FRESH,
    LARGEST,
    Bucket,
    CircuitData,
    CircuitState,
    Lease,
    from_mapping,
    to_mapping,
)
from resilience.breaker.window import WindowCounts, add_to_buckets, sum_buckets

counts = st.integers(0, LARGEST)
tokens = st.text("0123456789abcdef", min_size=1, max_size=16)
circuits = st.builds(
    CircuitData,
    state=st.sampled_from(CircuitState),
    epoch=counts,
    state_until=counts,
    cooldown_until=counts,
    cooldown_reason=st.text(max_size=20),
    cooldown_count=counts,
    ramp_first=counts,
    ramp_at=counts,
    ramp_step=counts,
    ramp_used=counts,
    open_count=counts,
    closed_at=counts,
    successes=counts,
    leases=st.lists(st.builds(Lease, tokens, st.integers(-(2**40), LARGEST)), max_size=5).map(tuple),
    buckets=st.lists(st.builds(Bucket, counts, counts, counts, counts, counts), max_size=10).map(tuple),
    rejected=counts,
    rejected_functions=counts,
    rejected_requests=counts,
    born_at=counts,
    ordered_epoch=counts,
    reason=st.text(max_size=20),
    actor=st.text(max_size=20),
    budget_used=counts,
    budget_used_at=counts,
    at=counts,
)
COUNTING = [outcome for outcome in Outcome if outcome not in (Outcome.IGNORED, Outcome.REJECTED)]


@given(circuits)
def test_every_circuit_survives_its_mapping(data: CircuitData) -> None:
    """Written and read back, a circuit is itself; the mapping is flat text, as a Redis hash is."""
    mapping = to_mapping(data)

    assert all(isinstance(text, str) for pair in mapping.items() for text in pair)
    assert from_mapping(mapping) == data


def test_the_mapping_holds_only_what_differs() -> None:
    """An untouched circuit takes no room."""
    assert to_mapping(FRESH) == {}
    assert to_mapping(CircuitData(state=CircuitState.OPEN, epoch=7)) == {"state": "open", "epoch": "7"}


@given(st.dictionaries(st.sampled_from([*_FIELDS, "later"]), st.text() | st.none()))
def test_a_mapping_from_elsewhere_never_raises(mapping: dict[str, Any]) -> None:
    """Fields of a newer version, and such as cannot be read, are as good as absent."""
    assert isinstance(from_mapping(mapping), CircuitData)


def test_a_broken_field_costs_only_itself() -> None:
    """What can be read of a damaged circuit is kept."""
    data = from_mapping(
        {
            "state": "melted",
            "epoch": "x",
            "state_until": "12",
            "leases": "a",
            "buckets": "1,2;x",
            "reason": "timeout",
        }
    )

    assert data == CircuitData(state_until=12, reason="timeout")


@given(
    st.lists(st.tuples(st.sampled_from(COUNTING), st.integers(1, 6)), max_size=8),
    st.sampled_from(COUNTING),
    st.integers(1, 60),
    st.builds(
        BreakerPolicy,
        min_calls=st.integers(1, 12),
        consecutive_failures=st.integers(1, 12),
        failure_rate=st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0]),
        slow_call_duration=st.sampled_from([None, 1.0]),
        slow_call_rate=st.sampled_from([0.1, 0.5, 0.8, 1.0]),
    ),
)
def test_a_run_breaks_a_rule_where_single_results_would(
    before: list[tuple[Outcome, int]], outcome: Outcome, count: int, policy: BreakerPolicy
) -> None:
    """The first result of a run that breaks a rule is the one found by counting one by one."""
    known = WindowCounts()
    for earlier, times in before:
        known = known.plus(earlier, times)
    one_by_one = (k for k in range(1, count + 1) if known.plus(outcome, k).violated_rule(policy))

    assert known.first_violation(outcome, count, policy) == next(one_by_one, 0)


def test_no_calls_break_no_rule() -> None:
    """An empty window is healthy whatever the thresholds."""
    assert WindowCounts().violated_rule(BreakerPolicy(min_calls=1, failure_rate=0.01)) is None


@pytest.mark.parametrize(("later", "buckets"), [(0, 1), (999, 1), (1000, 2), (9000, 2)])
def test_a_bucket_takes_results_for_a_tenth_of_the_window(later: int, buckets: int) -> None:
    """Results within a tenth of the window share a bucket; later ones start another."""
    policy = BreakerPolicy(window=10.0)
    filled = add_to_buckets(
        add_to_buckets((), 5000, Outcome.SUCCESS, 1, policy), 5000 + later, Outcome.FAILURE, 2, policy
    )

    assert len(filled) == buckets
    assert sum_buckets(filled, 5000 + later, policy) == WindowCounts(1, 2, 0, 2)
