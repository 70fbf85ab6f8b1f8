"""Errors can be pickled and grouped, and carry their answers."""

from __future__ import annotations

import pickle

import pytest

from resilience.errors import (
    AllClientsFailedError,
    AttemptTimeoutError,
    CircuitOpenError,
    ContentRefusedError,
    DeadlineExceededError,
    EmptyAnswerError,
    OutputTruncatedError,
    ResilienceError,
)


@pytest.mark.parametrize(
    "error",
    [
        CircuitOpenError("Primary", reason="timeout", retry_after=2.5),
        CircuitOpenError("Primary", reason="forced_open"),
        AttemptTimeoutError("Primary", 1.5),
        DeadlineExceededError("GenerateHypothesis", 20.0),
        OutputTruncatedError("Primary", "half an ans"),
        EmptyAnswerError("Primary", ""),
        ContentRefusedError("Primary"),
        AllClientsFailedError("F", {"A": ValueError("x"), "B": CircuitOpenError("B", reason="timeout")}, 3.0),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_travel_to_other_processes(error: ResilienceError) -> None:
    """Every error survives pickling with its attributes (BAML's own do not)."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert type(error) is type(again)
    assert str(error) == str(again)
    assert {key: repr(value) for key, value in vars(error).items()} == {
        key: repr(value) for key, value in vars(again).items()
    }


def test_a_refusal_names_client_reason_and_wait() -> None:
    """CircuitOpenError says which client, why and for how long."""
    refusal = CircuitOpenError("Primary", reason="service_unavailable", retry_after=2.04)

    assert str(refusal) == "client 'Primary' is not being asked (service_unavailable); ask again in 2.0 s"
    assert (refusal.client, refusal.reason, refusal.retry_after) == ("Primary", "service_unavailable", 2.04)


def test_a_group_keeps_one_cause_a_client_and_hides_their_texts() -> None:
    """AllClientsFailedError works with except*, keeps the order, and quotes no exception's text."""
    first, second = ValueError("the secret prompt"), CircuitOpenError("B", reason="timeout")
    group = AllClientsFailedError("F", {"A": first, "B": second}, 1.0)

    assert group.by_client == {"A": first, "B": second}
    assert group.last is second
    assert group.exceptions == (first, second)
    assert "secret" not in str(group)
    assert isinstance(group, ResilienceError)
    matched, rest = group.split(ValueError)
    assert matched is not None
    assert rest is not None
    assert (matched.exceptions, rest.exceptions) == ((first,), (second,))


def test_an_unusable_answer_is_kept_but_not_shown() -> None:
    """AnswerError carries BAML's result for callers who want it, and no part of it in its text."""
    error = OutputTruncatedError("Primary", {"statement": "the secret output"})

    assert error.result == {"statement": "the secret output"}
    assert "secret" not in str(error) + repr(error.args[0])
