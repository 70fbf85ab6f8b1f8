"""The text formats of Prometheus, read back by a strict parser; the names and labels of metrics there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.history_records import error
from support.prometheus_text import labels as parsed_labels
from support.prometheus_text import parse

from resilience.history import Action
from resilience.prometheus.encoding import encode
from resilience.prometheus.families import Family, Sample
from resilience.prometheus.histograms import histogram
from resilience.telemetry import labels, names
from resilience.telemetry.names import Kind, Metric

METRIC = Metric("resilience.things", Kind.COUNTER, "{thing}", "Things \\ with\nlines.")
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def text(families: Sequence[Family]) -> str:
    body, content_type = encode(families)
    assert "text/plain; version=0.0.4; charset=utf-8" == content_type
    return body.decode()


def test_a_text_without_samples_is_empty() -> None:
    """No families, and families without samples, make no line."""
    assert "" == text([])
    assert "" == text([Family(METRIC, ())])


def test_a_family_is_written_as_the_format_demands() -> None:
    """HELP and TYPE come before the samples; dots in names are underscores; backslashes and line ends are escaped."""
    family = Family(METRIC, (Sample({"error.type": "timeout", "client": "A"}, 3.0), Sample({}, 0.25)))

    assert (
        "# HELP resilience_things_total Things \\\\ with\\nlines.\n"
        "# TYPE resilience_things_total counter\n"
        'resilience_things_total{client="A",error_type="timeout"} 3.0\n'
        "resilience_things_total 0.25\n"
    ) == text([family])


def test_counts_of_the_history_are_a_histogram() -> None:
    """Buckets are cumulative, the last is the count, and bounds are texts that never change."""
    counts = {-40: (1, 0.001), 0: (2, 1.8), 40: (1, 1000.0)}
    parsed = parse(text([Family(names.CALL_DURATION, tuple(histogram({"client": "A"}, counts)))]))
    metric = parsed["resilience_call_duration_seconds"]
    buckets = {dict(key)["le"]: value for key, value in metric.values("_bucket").items()}

    assert "histogram" == metric.kind
    assert (1, 1, 3, 4) == (buckets["0.0078125"], buckets["0.707107"], buckets["1.0"], buckets["+Inf"])
    assert (4, 1001.801) == (*metric.values("_count").values(), *metric.values("_sum").values())
    assert 32 == len(buckets)


def test_openmetrics_is_written_where_the_scraper_accepts_it() -> None:
    """Counters keep the suffix `_total` on samples alone, the text ends in `# EOF`, and the library's parser accepts it."""
    families = [
        Family(METRIC, (Sample({"client": "A"}, 3),)),
        Family(
            names.CALL_DURATION,
            tuple(histogram({"client": "A"}, {0: (2, 1.5)})),
        ),
    ]
    body, content_type = encode(families, OPENMETRICS)
    parsed = {family.name: family for family in text_string_to_metric_families(body.decode())}  # type: ignore[no-untyped-call]

    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    assert {"resilience_things": "counter", "resilience_call_duration_seconds": "histogram"} == {
        name: family.type for name, family in parsed.items()
    }
    assert {
        ("resilience_things_total", 3.0),
        ("resilience_call_duration_seconds_sum", 1.5),
        ("resilience_call_duration_seconds_count", 2.0),
    } == {
        (sample.name, sample.value)
        for family in parsed.values()
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cc", "Cs"])),
        st.floats(allow_nan=False, allow_infinity=False),
        max_size=8,
    ),
)
def test_any_label_can_be_read_back(values: dict[str, float]) -> None:
    """Quotes, backslashes and all other characters of a client's name survive but for control characters, and so does every value."""
    family = Family(METRIC, tuple(Sample({"client": client}, value) for client, value in values.items()))
    parsed = parse(text([family]))

    assert {parsed_labels(client=client): value for client, value in values.items()} == (
        parsed[METRIC.prometheus].values() if values else {}
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
    """The names of the table are unique, in OpenTelemetry and in Prometheus."""
    assert len(names.METRICS) == len({metric.name for metric in names.METRICS})
    assert len(names.METRICS) == len({metric.prometheus for metric in names.METRICS})


@pytest.mark.parametrize(("attempt", "label"), [(1, "1"), (2, "2"), (3, "3+"), (40, "3+")])
def test_numbers_of_attempts_are_capped(attempt: int, label: str) -> None:
    """The third attempt and all later ones share one label."""
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
def test_the_result_of_a_retry(changes: dict[str, Any], result: str | None) -> None:
    """A failure schedules a retry, is denied one, has exhausted them, or was never to be retried."""
    assert result == labels.retry_result(error(**changes))


def test_an_operators_words_are_no_label() -> None:
    """A transition that an operator ordered has the reason `operator`, whatever the order's text says."""
    assert "operator" == labels.transition_reason("ada", "the provider said so on the phone")
    assert "timeout" == labels.transition_reason("", "timeout")


def test_the_failure_rate_of_no_calls_is_none() -> None:
    """A circuit without calls in its window has no failure rate."""
    assert labels.failure_rate(0, 0) is None
    assert math.isclose(0.25, labels.failure_rate(3, 1) or 0)


def test_a_label_that_utf8_cannot_hold_is_escaped() -> None:
    """Half a surrogate or a control character in a client's name costs no metrics, and obeys in no terminal: it is shown as an escape."""
    family = Family(METRIC, (Sample({"client": "a\udc80\x1b[2J"}, 1.0),))

    assert b'client="a\\\\udc80\\\\x1b[2J"' in encode([family])[0]
