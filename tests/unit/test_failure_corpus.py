"""The labelled corpus of real provider errors, and the floor the classification must keep."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.classification import Case, corpus, evidence, main, score
from resilience.failure import classify, classify_evidence

CASES = corpus()
SCORE = score(CASES)


def test_undebated_cases_keep_their_floor() -> None:
    """Every case whose label nobody would dispute is sorted rightly; the house promises 97 of 100."""
    assert SCORE.undebated.percent == 100.0
    assert SCORE.undebated.of == 112


def test_billing_is_never_taken_for_throttling() -> None:
    """An unpaid bill and a busy minute are told apart in every case, debated or not."""
    assert SCORE.billing.percent == 100.0
    assert SCORE.billing.of == 49


def test_stated_delays_are_exact() -> None:
    """Every stated delay is read to half a second, and none is read where none is stated."""
    assert SCORE.delays.percent == 100.0


def test_overall_floor() -> None:
    """With the debated labels counted too, 97 of 100 agree, and so do the undebated ones on what may succeed later."""
    assert SCORE.overall.percent >= 97.0
    assert SCORE.recoverable_undebated.percent == 100.0


def test_text_alone_says_nearly_as_much() -> None:
    """A client that keeps only an exception's text loses little: 94 of 100 are judged as with status and headers."""
    texts = [(case, case["body"] or case["transport_text"]) for case in CASES]
    same = [
        classify_evidence(evidence(case)).category is classify(Exception(text)).category
        for case, text in texts
        if text
    ]

    assert sum(same) / len(same) >= 0.94


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_failures_are_presentable(case: Case) -> None:
    """Whatever came, the message is one short line, the delay positive, the status real."""
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
