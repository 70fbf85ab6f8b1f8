"""Errors can be pickled and grouped, and carry their answers."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from resilience.errors import (
    AllClientsFailedError,
    AnswerError,
    AttemptTimeoutError,
    CircuitOpenError,
    DeadlineExceededError,
    OutputTruncatedError,
    ResilienceError,
)


def every_kind(base: type[ResilienceError]) -> set[type[ResilienceError]]:
    return {base}.union(*(every_kind(kind) for kind in base.__subclasses__()))


class SdkError(Exception):
    """As those of openai: unpickling calls the constructor without the response."""

    def __init__(self, message: str, *, response: object) -> None:
        super().__init__(message)
        self.response = response


class TenantTimeoutError(AttemptTimeoutError):
    """A subclass as applications write them, with a constructor of its own."""

    def __init__(self, tenant: str) -> None:
        super().__init__("Primary", 1.5)
        self.tenant = tenant


_ARGUMENTS: dict[type[ResilienceError], tuple[Any, ...]] = {
    TenantTimeoutError: ("t",),
    AttemptTimeoutError: ("Primary", 1.5),
    DeadlineExceededError: ("F", 20.0),
    AnswerError: ("Primary", "half an ans"),
    ResilienceError: ("a message",),
}


def made(kind: type[ResilienceError]) -> ResilienceError:
    if kind is CircuitOpenError:
        return CircuitOpenError("Primary", reason="timeout", retry_after=2.5)
    if kind is AllClientsFailedError:
        errors = {"A": ValueError("x"), "B": CircuitOpenError("B", reason="timeout")}
        return AllClientsFailedError("F", errors, 3.0)
    return kind(*next(given for base, given in _ARGUMENTS.items() if issubclass(kind, base)))


@pytest.mark.parametrize(
    "error", [TenantTimeoutError("t"), CircuitOpenError("A", reason="timeout"), made(AllClientsFailedError)]
)
def test_errors_of_applications_travel_with_what_can(error: ResilienceError) -> None:
    """A constructor of another kind is not called again, and an attribute that cannot travel does not keep the error back."""
    error.tracer = lambda: None  # type: ignore[attr-defined] # as tracers do
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert str(error) == str(again)
    assert again.tracer is None
    assert copy.deepcopy(error).tracer is error.tracer  # type: ignore[attr-defined] # as above
    assert getattr(error, "tenant", None) == getattr(again, "tenant", None)


@pytest.mark.parametrize("trip", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])  # noqa: S301 - our own bytes
@pytest.mark.parametrize("kind", sorted(every_kind(ResilienceError), key=str))
def test_errors_travel_to_other_processes(kind: type[ResilienceError], trip: Any) -> None:
    """Every error survives pickling and copying with its text, its attributes and its notes."""
    error = made(kind)
    error.add_note("seen in the worker")
    again = trip(error)

    assert type(error) is type(again)
    assert str(error) == str(again)
    assert {key: repr(value) for key, value in vars(error).items()} == {
        key: repr(value) for key, value in vars(again).items()
    }


def test_what_cannot_travel_is_left_behind() -> None:
    """An error or a result that cannot be unpickled is replaced, so that it does not break the pool; copies keep it."""
    foreign = SdkError("status 400", response=object())
    group = AllClientsFailedError("F", {"A": foreign, "B": ValueError("x")})
    again = pickle.loads(pickle.dumps(group))  # noqa: S301 - our own bytes
    cut = pickle.loads(pickle.dumps(OutputTruncatedError("A", foreign)))  # noqa: S301 - our own bytes

    assert str(group) == str(again)
    assert "SdkError, which cannot be pickled" == str(again.by_client["A"])
    assert again.exceptions == tuple(again.by_client.values())
    assert (None, "A") == (cut.result, cut.client)
    assert foreign is copy.copy(group).by_client["A"] is copy.deepcopy(group).by_client["A"]


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
