"""What an examination finds: plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from resilience.config.settings import Settings
from resilience.redaction import redact_secrets


class Verdict(StrEnum):
    """How a thing is."""

    OK = "ok"
    WARN = "warn"
    """It works, and will one day surprise somebody."""
    FAIL = "fail"
    """It does not work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what was looked at.
        verdict: how it is.
        says: what was seen, with secrets masked: servers and drivers repeat what they were given.
        remedy: what mends it; empty when nothing needs mending.
    """

    subject: str
    verdict: Verdict
    says: str
    remedy: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "says", redact_secrets(self.says))


Examination = Callable[[Settings], Iterator[Finding]]
"""Looks at one part of a set-up."""


def ok(subject: str, says: str) -> Finding:
    """All is well."""
    return Finding(subject=subject, verdict=Verdict.OK, says=says)


def warn(subject: str, says: str, remedy: str) -> Finding:
    """It works for now."""
    return Finding(subject=subject, verdict=Verdict.WARN, says=says, remedy=remedy)


def fail(subject: str, says: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(subject=subject, verdict=Verdict.FAIL, says=says, remedy=remedy)
