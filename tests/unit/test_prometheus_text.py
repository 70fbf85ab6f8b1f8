"""The text of Prometheus, read back by a strict reader; and the names and labels of metrics there."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.history_records import error
from support.prometheus_text import labels as told
from support.prometheus_text import parse

from resilience.history import Action
from resilience.prometheus.text_format import Family, Sample, text
from resilience.telemetry import labels, names
from resilience.telemetry.names import Kind, Metric

METRIC = Metric("resilience.things", Kind.COUNTER, "{thing}", "Things \\ with\nlines.")


def test_an_empty_text_is_a_text() -> None:
    """Nothing to tell, or metrics without samples, make no line."""
    assert "" == text([])
    assert "" == text([Family(METRIC, ())])


def test_it_is_written_as_the_format_says() -> None:
    """HELP, TYPE, then the samples; a name's dots are underscores; a whole number has no point."""
    family = Family(METRIC, (Sample({"error.type": "timeout", "client": "A"}, 3.0), Sample({}, 0.25)))

    assert (
        "# HELP resilience_things_total Things \\\\ with\\nlines.\n"
        "# TYPE resilience_things_total counter\n"
        'resilience_things_total{error_type="timeout",client="A"} 3\n'
        "resilience_things_total 0.25\n"
    ) == text([family])


def test_sums_and_counts_alone_are_a_summary() -> None:
    """A histogram whose buckets nobody kept is what the format calls a summary."""
    family = Family(
        names.CALL_DURATION, (Sample({"client": "A"}, 1.5, "sum"), Sample({"client": "A"}, 2, "count"))
    )
    read = parse(text([family]))["resilience_call_duration_seconds"]

    assert ("summary", {told(client="A"): 1.5}, {told(client="A"): 2}) == (
        read.kind,
        read.values("_sum"),
        read.values("_count"),
    )


@given(
    st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False), max_size=8),
)
def test_any_label_can_be_read_back(values: dict[str, float]) -> None:
    """Quotes, backslashes, ends of lines and whatever else a client may be called come back as they were."""
    family = Family(METRIC, tuple(Sample({"client": client}, value) for client, value in values.items()))
    read = parse(text([family]))

    assert {told(client=client): value for client, value in values.items()} == (
        read[METRIC.prometheus].values() if values else {}
    )


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (names.CALLS, "resilience_calls_total"),
        (names.CALL_DURATION, "resilience_call_duration_seconds"),
        (names.BREAKER_STATE, "resilience_breaker_state"),
        (names.BREAKER_FAILURE_RATE, "resilience_breaker_failure_rate_ratio"),
        (names.TOKEN_USAGE, "gen_ai_client_token_usage"),
        (names.OPERATION_DURATION, "gen_ai_client_operation_duration_seconds"),
        (names.DROPPED, "resilience_history_dropped_total"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_names_follow_the_rules_of_opentelemetrys_exporter(metric: Metric, name: str) -> None:
    """Dots become underscores, seconds are spelled out, counters end in `_total`, gauges of unit 1 in `_ratio`."""
    assert name == metric.prometheus


def test_no_two_metrics_share_a_name() -> None:
    """Each metric of the table has a name of its own, in OpenTelemetry and in Prometheus."""
    assert len(names.METRICS) == len({metric.name for metric in names.METRICS})
    assert len(names.METRICS) == len({metric.prometheus for metric in names.METRICS})


@pytest.mark.parametrize(("attempt", "label"), [(1, "1"), (2, "2"), (3, "3+"), (40, "3+")])
def test_numbers_of_attempts_are_few(attempt: int, label: str) -> None:
    """From the third on they are one label."""
    assert label == labels.capped(attempt)


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({"action": Action.RETRY}, "scheduled"),
        ({"action": Action.FALLBACK, "denied": "budget"}, "budget_denied"),
        ({"action": Action.RAISE, "denied": "deadline"}, "deadline_denied"),
        ({"action": Action.RAISE, "attempt": 4}, "exhausted"),
        ({"action": Action.FALLBACK, "attempt": 1}, None),
        ({"action": Action.RAISE, "attempt": 2, "recoverable": False}, None),
    ],
)
def test_what_became_of_a_retry(changes: dict[str, Any], result: str | None) -> None:
    """Scheduled, denied by something, exhausted, or never in question."""
    assert result == labels.retry_result(error(**changes))


def test_an_operators_words_are_no_label() -> None:
    """A move by an operator has the reason `operator`, whatever was written there."""
    assert "operator" == labels.transition_reason("ada", "the provider said so on the phone")
    assert "timeout" == labels.transition_reason("", "timeout")


def test_the_failure_rate_of_no_calls_is_none() -> None:
    """Nothing divided by nothing is not told."""
    assert labels.failure_rate(0, 0) is None
    assert math.isclose(0.25, labels.failure_rate(3, 1) or 0)
