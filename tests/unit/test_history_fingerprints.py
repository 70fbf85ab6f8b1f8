"""How a project tells its kinds of errors apart."""

from __future__ import annotations

from contextvars import ContextVar

import pytest

from resilience.failure import ErrorCategory, Failure
from resilience.history import Fingerprints, fingerprint

FAILURE = Failure(
    category=ErrorCategory.RATE_LIMIT,
    recoverable=True,
    counts_against_client=False,
    status=429,
    message="slow down",
)
DEFAULT = fingerprint(FAILURE, "F")


def test_without_a_rule_the_built_in_ones_name_it() -> None:
    """The name is that of `fingerprint`, and its version is theirs; a rule that says the same, or None, changes nothing."""
    for own in (None, ["{{ default }}"], "{{default}}", lambda *_: None, lambda *_: "{{ default }}"):
        assert Fingerprints(own).name(FAILURE, "F", "Primary") == (DEFAULT, "v1")


def test_parts_split_what_was_one_kind() -> None:
    """By client here; the version says that a project's own rule had a part in it."""
    names = Fingerprints(["{{ default }}", "{{ client }}"])
    one, again, other = (names.name(FAILURE, "F", client) for client in ("A", "A", "B"))

    assert one == again != other
    assert one[1] == "v1+own"
    assert len(one[0]) == 32
    assert DEFAULT not in {one[0], other[0]}


def test_places_stand_for_what_is_known() -> None:
    """Category, status and function may be parts, inside of other text too."""
    by_place = Fingerprints(["{{ category }}/{{ status }}/{{ function }}"]).name(FAILURE, "F", "A")

    assert by_place == Fingerprints(["rate_limit/429/F"]).name(FAILURE, "G", "B")
    assert by_place != Fingerprints(["rate_limit/429/G"]).name(FAILURE, "G", "B")


def test_a_function_sees_the_callers_context() -> None:
    """The tenant of the task that made the call may be a part."""
    tenant: ContextVar[str] = ContextVar("tenant")
    names = Fingerprints(lambda failure, function, client: ["{{ default }}", tenant.get()])
    found = []
    for name in ("a", "b", "a"):
        tenant.set(name)
        found.append(names.name(FAILURE, "F", "Primary"))

    assert found[0] == found[2] != found[1]


def test_a_function_that_fails_costs_a_warning_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """The built-in rules name the error, and the log says so once."""

    def fail(*_: object) -> str:
        raise KeyError

    names = Fingerprints(fail)
    assert [names.name(FAILURE, "F", "A") for _ in range(2)] == [(DEFAULT, "v1")] * 2
    assert [entry.getMessage() for entry in caplog.records] == [
        "the fingerprint function failed (KeyError); errors are grouped without it"
    ]


def test_a_wrong_place_is_refused_at_once() -> None:
    """Where it is written, with the places there are."""
    with pytest.raises(ValueError, match="'tenant' is no place; there are category, client, default"):
        Fingerprints(["{{ default }}", "{{ tenant }}"])
