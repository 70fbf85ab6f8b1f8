"""FallbackPolicy: order, categories, and clients for special failures."""

from __future__ import annotations

from typing import Any

import pytest

from resilience.failure import ErrorCategory
from resilience.fallback import FallbackPolicy


def test_the_calls_own_client_is_first_and_each_is_asked_once() -> None:
    """Candidates are the preferred client, then the policy's clients in order, each once."""
    policy = FallbackPolicy(clients=("A", "B", "C"))

    assert ("B", "A", "C") == policy.candidates("B", (), ())
    assert ("C",) == policy.candidates("B", (), ("B", "A"))
    assert ("X", "A", "B", "C") == policy.candidates("X", (), ())


def test_a_request_too_long_goes_to_context_clients_first() -> None:
    """After context_length the context_clients are asked first, then the clients that were not asked yet."""
    policy = FallbackPolicy(clients=("A", "B"), context_clients=("Long", "B"))
    seen = {ErrorCategory.SERVICE_UNAVAILABLE, ErrorCategory.CONTEXT_LENGTH}

    assert ("Long", "B") == policy.candidates("A", seen, ("A",))
    assert ("B",) == policy.candidates("A", seen, ("A", "Long"))
    assert ("B",) == FallbackPolicy(clients=("A", "B")).candidates("A", seen, ("A",))
    assert FallbackPolicy(clients=("A", "B")).allows(ErrorCategory.CONTEXT_LENGTH)
    assert policy.allows(ErrorCategory.CONTEXT_LENGTH)
    assert not FallbackPolicy().allows(ErrorCategory.CONTEXT_LENGTH)


def test_a_refused_request_goes_only_to_content_clients() -> None:
    """After content_policy only content_clients remain."""
    policy = FallbackPolicy(clients=("A", "B"), content_clients=("Open",))

    assert ("Open",) == policy.candidates("A", {ErrorCategory.CONTENT_POLICY}, ("A",))
    assert policy.allows(ErrorCategory.CONTENT_POLICY)
    assert not FallbackPolicy(clients=("B",)).allows(ErrorCategory.CONTENT_POLICY)


def test_the_default_categories_are_those_of_the_table() -> None:
    """The default `on` is the column allow_fallback of the table."""
    assert FallbackPolicy().on == {
        ErrorCategory.TIMEOUT,
        ErrorCategory.RATE_LIMIT,
        ErrorCategory.SERVICE_UNAVAILABLE,
        ErrorCategory.OVERLOADED,
        ErrorCategory.SERVER_ERROR,
        ErrorCategory.NETWORK,
        ErrorCategory.OUTPUT_INVALID,
        ErrorCategory.OUTPUT_TRUNCATED,
        ErrorCategory.NOT_FOUND,
        ErrorCategory.QUOTA_EXHAUSTED,
        ErrorCategory.CIRCUIT_OPEN,
        ErrorCategory.UNKNOWN,
    }


def test_authentication_may_be_opted_in() -> None:
    """`on` takes categories or their names."""
    policy = FallbackPolicy(clients=["B"], on={*FallbackPolicy().on, "authentication"})  # type: ignore[arg-type] # lists and names are welcome

    assert policy.allows(ErrorCategory.AUTHENTICATION)
    assert policy.clients == ("B",)


def test_every_named_client_is_listed_once() -> None:
    """`named` lists the clients that a generated client must have."""
    policy = FallbackPolicy(clients=("A", "B"), context_clients=("B", "L"), content_clients=("O",))

    assert policy.named() == ("A", "B", "L", "O")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("clients", "Primary"),
        ("clients", ("A", "A")),
        ("clients", ("",)),
        ("clients", (1,)),
        ("clients", None),
        ("context_clients", 3),
        ("content_clients", "B"),
        ("on", "timeout"),
        ("on", {"nonsense"}),
        ("on", None),
    ],
)
def test_a_wrong_value_names_field_and_value(field: str, value: Any) -> None:
    """Every invalid field is refused with its name and its value."""
    with pytest.raises(ValueError, match=rf"FallbackPolicy\.{field}=.*give a") as caught:
        FallbackPolicy(**{field: value})

    assert repr(value) in str(caught.value)
