"""The labelled corpus of real provider errors, and the share that classification must keep."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.classification import Case, corpus, evidence, main, score
from resilience.failure import classify, classify_evidence

CASES = corpus()
SCORE = score(CASES)


def test_undebated_cases_keep_their_floor() -> None:
    """At least 97 of 100 cases with an undisputed label have the category of their label."""
    assert SCORE.undebated.percent == 100.0
    assert SCORE.undebated.of == 112


def test_billing_is_never_taken_for_throttling() -> None:
    """An unpaid bill and a rate limit are never confused, debated or not."""
    assert SCORE.billing.percent == 100.0
    assert SCORE.billing.of == 49


def test_stated_delays_are_exact() -> None:
    """Every stated wait is read to half a second, and none is read where none is stated."""
    assert SCORE.delays.percent == 100.0


def test_overall_floor() -> None:
    """With the debated labels 97 of 100 categories agree, and 97 of 100 undebated cases agree on `recoverable`."""
    assert SCORE.overall.percent >= 97.0
    assert SCORE.recoverable_undebated.percent == 100.0


def test_text_alone_says_nearly_as_much() -> None:
    """Where only the text of an exception is left, 94 of 100 cases keep their category."""
    texts = [(case, case["body"] or case["transport_text"]) for case in CASES]
    same = [
        classify_evidence(evidence(case)).category is classify(Exception(text)).category
        for case, text in texts
        if text
    ]

    assert sum(same) / len(same) >= 0.94


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_failures_are_presentable(case: Case) -> None:
    """Every message is one short line, every wait positive, every status real."""
    failure = classify_evidence(evidence(case))

    assert 0 < len(failure.message) <= 300
    assert failure.message.isprintable()
    assert failure.retry_after is None or failure.retry_after > 0
    assert failure.status == case["status"]


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_benchmark_prints(arguments: list[str], capsys: Any) -> None:
    """The benchmark prints its figures and every miss by name, for people and as JSON."""
    main(arguments)
    printed = capsys.readouterr().out

    assert "undebated" in printed
    assert all(miss.split(" ")[0].rstrip(":") in printed for miss in SCORE.misses)
