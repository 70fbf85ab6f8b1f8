"""Fingerprints by a project's own rules."""

from __future__ import annotations

from contextvars import ContextVar

import pytest

from resilience import BAMLErrorHandler
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


def test_without_a_rule_the_built_in_rules_apply() -> None:
    """The fingerprint is that of `fingerprint()`; a rule that returns the default, or None, changes nothing."""
    for own in (None, ["{{ default }}"], "{{default}}", lambda *_: None, lambda *_: "{{ default }}"):
        assert Fingerprints(own).name(FAILURE, "F", "Primary") == (DEFAULT, "v1")


def test_parts_split_one_kind_into_several() -> None:
    """Here by client; the version shows that a project's own rule took part."""
    names = Fingerprints(["{{ default }}", "{{ client }}"])
    one, again, other = (names.name(FAILURE, "F", client) for client in ("A", "A", "B"))

    assert one == again != other
    assert one[1] == "v1+own"
    assert len(one[0]) == 32
    assert DEFAULT not in {one[0], other[0]}


def test_placeholders_are_filled_in() -> None:
    """Category, status and function may be parts, also inside other text."""
    filled = Fingerprints(["{{ category }}/{{ status }}/{{ function }}"]).name(FAILURE, "F", "A")

    assert filled == Fingerprints(["rate_limit/429/F"]).name(FAILURE, "G", "B")
    assert filled != Fingerprints(["rate_limit/429/G"]).name(FAILURE, "G", "B")


def test_a_function_sees_the_callers_context() -> None:
    """The tenant of the task that made the call may be a part."""
    tenant: ContextVar[str] = ContextVar("tenant")
    names = Fingerprints(lambda failure, function, client: ["{{ default }}", tenant.get()])
    found = []
    for name in ("a", "b", "a"):
        tenant.set(name)
        found.append(names.name(FAILURE, "F", "Primary"))

    assert found[0] == found[2] != found[1]


def test_a_function_that_fails_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """The built-in rules apply instead, and the handler logs one warning, however often the function fails."""

    def fail(*_: object) -> str:
        raise KeyError

    names = BAMLErrorHandler(fingerprint=fail)._fingerprints
    assert [names.name(FAILURE, "F", "A") for _ in range(2)] == [(DEFAULT, "v1")] * 2
    assert [entry.getMessage() for entry in caplog.records] == [
        "the fingerprint function failed (KeyError); errors are grouped without it"
    ]


def test_an_unknown_placeholder_is_refused_at_once() -> None:
    """The constructor raises, and the error lists the placeholders that exist."""
    with pytest.raises(
        ValueError, match="unknown placeholder 'tenant', allowed are category, client, default"
    ):
        Fingerprints(["{{ default }}", "{{ tenant }}"])
