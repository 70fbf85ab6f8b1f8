"""The values that every check of the doctor yields, and two comparisons that several checks make."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from resilience.config.settings import Settings
from resilience.redaction import redact_secrets

_CLOCK_TOLERANCE: Final = 5.0
"""Seconds between two clocks from which on a person who compares time stamps would be misled."""


class CheckVerdict(StrEnum):
    """The result of one check."""

    OK = "ok"
    """It works."""
    WARN = "warn"
    """It works, but not in every situation that a deployment meets."""
    FAIL = "fail"
    """It does not work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        subject: the part of the set-up that was checked, such as `circuits`.
        verdict: whether it works.
        message: what was found. Secrets are masked, because servers and drivers repeat the URL they were given.
        remedy: what to do; empty when the verdict is ok.
    """

    subject: str
    verdict: CheckVerdict
    message: str
    remedy: str = ""

    def __post_init__(self) -> None:
        # Masked here and not in the checks, so that no check can forget it.
        object.__setattr__(self, "message", redact_secrets(self.message))


Check = Callable[[Settings], Iterator[Finding]]
"""A function that checks one part of a set-up."""


def ok(subject: str, message: str) -> Finding:
    """Return a finding that needs no remedy."""
    return Finding(subject=subject, verdict=CheckVerdict.OK, message=message)


def warn(subject: str, message: str, remedy: str) -> Finding:
    """Return a finding about something that works, but not in every situation."""
    return Finding(subject=subject, verdict=CheckVerdict.WARN, message=message, remedy=remedy)


def fail(subject: str, message: str, remedy: str) -> Finding:
    """Return a finding about something that does not work."""
    return Finding(subject=subject, verdict=CheckVerdict.FAIL, message=message, remedy=remedy)


def compare_clocks(subject: str, other: str, skew: float) -> Finding:
    """Return whether another machine's clock agrees with ours.

    Circuits use only the clock of their store. So a difference misleads people who compare time stamps, not the circuits.

    Args:
        subject: the subject of the finding.
        other: the machine that was asked, such as "the database".
        skew: seconds that its clock is ahead of ours; negative if it is behind.
    """
    message = f"{other} is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this machine"
    if abs(skew) <= _CLOCK_TOLERANCE:
        return ok(subject, message)
    remedy = "synchronise both with NTP; circuits are not affected, time stamps in the history are"
    return warn(subject, message, remedy)


def nearest_existing(folder: Path) -> Path:
    """Return *folder*, or the nearest folder above it that exists.

    Args:
        folder: a path on this machine; the root always exists.
    """
    return next(path for path in (folder, *folder.parents) if path.exists())


def write_error(folder: Path) -> str:
    """Return why no file can be made in *folder*, or an empty text if one can.

    A folder that does not exist is created at the first write, so the nearest existing one above it is tried. Trying is the
    only reliable answer: permission bits say nothing about read-only mounts, quotas and full disks.

    Args:
        folder: the folder to write in. Nothing is left in it.
    """
    existing = nearest_existing(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".resilience-doctor-"):
            return ""
    except OSError as exc:
        return f"{existing}: {exc.strerror}"
