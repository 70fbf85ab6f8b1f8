"""What a circuit remembers: plain numbers and strings, one flat mapping, so that any store can keep it.

Times are milliseconds of the store's own clock. The mapping is the Redis hash of the shared design: absent fields have their
default, and a field that cannot be read is as good as absent, because a circuit that forgets is better than one that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class CircuitState(StrEnum):
    """Where a circuit stands. The last two are an operator's word, which the circuit itself never overrules."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A tenth of the window. `streak` counts the failures since the last success in this bucket."""

    start: int
    successes: int = 0
    failures: int = 0
    slow: int = 0
    streak: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """Leave for one probe. An expired lease holds no place, but its result still counts while it is remembered."""

    token: str
    expiry: int


@dataclass(slots=True)
class CircuitData:
    """The shared state of one client.

    Attributes:
        state: where the circuit stands.
        epoch: grows at every transition; results of an older epoch change nothing.
        until: when open lapses or an override ends; 0 for an override without end.
        blocked_until: the end of the cool-down, which stands beside the state.
        blocked_by: the failure category that asked for the cool-down.
        blocked_times: how many growing cool-downs have followed one another without a success.
        opens: how many openings have followed one another without a calm window.
        closed_at: when the circuit last closed.
        successes: probes that have succeeded in this half-open.
        leases: the probes that are out.
        buckets: the window, oldest first.
        reason: the failure category, or the operator's reason, behind the last transition.
        actor: the operator behind the last transition; empty when the circuit moved by itself.
        owed: what was missing from the retry budget's bucket, in the units of `budget.RETRY`,
        owed_at: at this time; 0 when nothing was missing.
        at: the store's time of the last change, by which a clock that went back is noticed.
    """

    state: CircuitState = CircuitState.CLOSED
    epoch: int = 0
    until: int = 0
    blocked_until: int = 0
    blocked_by: str = ""
    blocked_times: int = 0
    opens: int = 0
    closed_at: int = 0
    successes: int = 0
    leases: tuple[Lease, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    reason: str = ""
    actor: str = ""
    owed: int = 0
    owed_at: int = 0
    at: int = 0


FRESH: Final = CircuitData()
"""What an unknown circuit looks like. Never changed: the step works on copies."""


def to_mapping(document: CircuitData) -> dict[str, str]:
    """Write a document as the flat mapping a store keeps; fields at their default are left out."""
    return {
        field: write(value)
        for field, (name, write, _) in _FIELDS.items()
        if (value := getattr(document, name)) != getattr(FRESH, name)
    }


def from_mapping(mapping: Mapping[str, str]) -> CircuitData:
    """Read a document back; what is absent or cannot be read has its default."""
    document = CircuitData()
    for field, (name, _, read) in _FIELDS.items():
        if (text := mapping.get(field)) is not None:
            try:
                setattr(document, name, read(text))
            except (ValueError, TypeError, AttributeError):
                continue
    return document


def _write_leases(leases: tuple[Lease, ...]) -> str:
    return ";".join(f"{lease.token}={lease.expiry}" for lease in leases)


def _read_leases(text: str) -> tuple[Lease, ...]:
    pairs = (entry.rpartition("=") for entry in text.split(";") if entry)
    return tuple(Lease(token, int(expiry)) for token, _, expiry in pairs)


def _write_buckets(buckets: tuple[Bucket, ...]) -> str:
    return ";".join(f"{b.start},{b.successes},{b.failures},{b.slow},{b.streak}" for b in buckets)


def _read_buckets(text: str) -> tuple[Bucket, ...]:
    return tuple(Bucket(*map(int, entry.split(","))) for entry in text.split(";") if entry)


_FIELDS: Final[Mapping[str, tuple[str, Callable[[Any], str], Callable[[str], object]]]] = {
    "st": ("state", str, CircuitState),
    "ep": ("epoch", str, int),
    "ou": ("until", str, int),
    "bu": ("blocked_until", str, int),
    "bw": ("blocked_by", str, str),
    "bn": ("blocked_times", str, int),
    "oc": ("opens", str, int),
    "ca": ("closed_at", str, int),
    "hs": ("successes", str, int),
    "L": ("leases", _write_leases, _read_leases),
    "w": ("buckets", _write_buckets, _read_buckets),
    "why": ("reason", str, str),
    "who": ("actor", str, str),
    "rt": ("owed", str, int),
    "ra": ("owed_at", str, int),
    "at": ("at", str, int),
}
