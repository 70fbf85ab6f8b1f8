"""What a circuit remembers: numbers and strings in one flat mapping, so that any store can keep it.

Times are milliseconds of the store's own clock. The mapping is what Redis keeps as a hash and the SQLite file as JSON. A field that is
absent has its default. So has a field that cannot be read: a circuit that forgets is better than one that fails.

The fields of `CircuitData` are also the names in the mapping and in `stores/step.lua`. To add, rename or remove one, change all three,
and the format version of each store if an old mapping would be misread (`stores/redis.py: _FORMAT`, `stores/sqlite.py: _VERSION`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

LONGEST_TEXT: Final = 4000
"""The most characters of a reason or an actor that are read; step.lua counts bytes. An operator's reason is shorter."""
LARGEST: Final = 2**52
"""The largest number that is read; as milliseconds since 1970 it is in the year 144 683. step.lua has the same number."""


class CircuitState(StrEnum):
    """The state of a circuit. The last two are an operator's orders, which no result overrules."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A tenth of the window.

    Attributes:
        start: when it began, in milliseconds.
        successes: results that succeeded.
        failures: results that failed.
        slow: slow results, of both kinds.
        streak: failures since the last success in this bucket.
    """

    # This is also the order of the numbers in the stored text, which `_read_buckets` and step.lua read by place.
    start: int
    successes: int = 0
    failures: int = 0
    slow: int = 0
    streak: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to one probe, until *expiry* (milliseconds).

    An expired lease has no place any more, but the result of its probe counts while the lease is remembered.
    """

    token: str
    expiry: int


@dataclass(slots=True)
class CircuitData:
    """The shared data of one client's circuit.

    Attributes:
        state: the state.
        epoch: grows with every transition; results of an older epoch change nothing.
        state_until: when the opening or the override ends; 0 for an override without end.
        cooldown_until: the end of the cool-down, which stands beside the state.
        cooldown_reason: the failure category that asked for the cool-down.
        cooldown_count: cool-downs for this reason in a row without a success.
        ramp_first: attempts in the first step of the ramp; 0 without a ramp.
        ramp_at: when the ramp began; 0 before its first attempt.
        ramp_step: the step of the ramp that `ramp_used` belongs to.
        ramp_used: attempts that the ramp has admitted in that step.
        open_count: openings in a row without a full closed window between them.
        closed_at: when the circuit last closed.
        successes: probes that have succeeded in this half-open.
        leases: the probes in flight, after the expired ones that are remembered.
        buckets: the window, oldest first.
        rejected: requests in a row that the provider refused as wrong.
        rejected_functions: the most different functions that one process has seen among them.
        rejected_requests: the most different requests that one process has seen among them.
        born_at: when the circuit made its first transition. Tells a circuit of an emptied store from an older copy, and never changes.
        ordered_epoch: the epoch of the last operator's order.
        reason: the failure category, or the operator's reason, of the last transition.
        actor: the operator of the last transition; empty if the circuit moved by itself.
        budget_used: what was missing from the bucket of the retry budget, in units of `retry_budget.UNITS_PER_RETRY`.
        budget_used_at: when that was so; 0 if nothing was missing.
        at: the store's time of the last change; a clock that went back is noticed by it.
    """

    # Not frozen, since a step changes its own copy field by field. That copy is shallow, so a value
    # here must never be changed in place: that is why leases and buckets are tuples of frozen values.
    state: CircuitState = CircuitState.CLOSED
    epoch: int = 0
    state_until: int = 0
    cooldown_until: int = 0
    cooldown_reason: str = ""
    cooldown_count: int = 0
    ramp_first: int = 0
    ramp_at: int = 0
    ramp_step: int = 0
    ramp_used: int = 0
    open_count: int = 0
    closed_at: int = 0
    successes: int = 0
    leases: tuple[Lease, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    rejected: int = 0
    rejected_functions: int = 0
    rejected_requests: int = 0
    born_at: int = 0
    ordered_epoch: int = 0
    reason: str = ""
    actor: str = ""
    budget_used: int = 0
    budget_used_at: int = 0
    at: int = 0


FRESH: Final = CircuitData()
"""The data of an unknown circuit. Never changed: a step works on copies."""


def move_times_back(data: CircuitData, milliseconds: int) -> None:
    """Move every time in *data* back, because the clock of its store went back that far.

    Every field that holds a time must be listed here and in step.lua's `adjust_clock`.
    """
    data.at -= milliseconds
    # 0 means "without end" in this one field. So a time that would become 0 or less stays 1: over, but not endless.
    data.state_until = max(1, data.state_until - milliseconds) if data.state_until else 0
    data.cooldown_until = max(0, data.cooldown_until - milliseconds)
    data.ramp_at = max(0, data.ramp_at - milliseconds)
    data.closed_at = max(0, data.closed_at - milliseconds)
    data.budget_used_at = max(0, data.budget_used_at - milliseconds)
    data.leases = tuple(replace(lease, expiry=lease.expiry - milliseconds) for lease in data.leases)
    data.buckets = tuple(replace(bucket, start=bucket.start - milliseconds) for bucket in data.buckets)


def to_mapping(data: CircuitData) -> dict[str, str]:
    """Return the flat mapping that a store keeps. Fields at their default are left out."""
    return {
        field: write(value)
        for field, (write, _) in _FIELDS.items()
        if (value := getattr(data, field)) != getattr(FRESH, field)
    }


def from_mapping(mapping: Mapping[str, str]) -> CircuitData:
    """Return the data that a store kept. A field that is absent or cannot be read has its default."""
    return read_mapping(mapping)[0]


def read_mapping(mapping: Mapping[str, str]) -> tuple[CircuitData, int]:
    """Return the data that a store kept, and how many of its fields could not be read."""
    data, unreadable = CircuitData(), 0
    for field, (_, read) in _FIELDS.items():
        if (text := mapping.get(field)) is not None:
            try:
                setattr(data, field, read(text))
            except (ValueError, TypeError, AttributeError, OverflowError):
                unreadable += 1
    return data, unreadable


def _whole(text: str) -> int:
    """Return the whole number of *text*.

    Raises:
        ValueError: it is none, or larger than any time or count. Lua has only doubles, so beyond that size a sum would not be exact: an
            epoch that no addition changes would keep the circuit closed for ever.
    """
    number = int(text)
    if abs(number) > LARGEST:
        raise ValueError(text)
    return number


def _count(text: str) -> int:
    """Return the number of *text* for a field that is never negative.

    Raises:
        ValueError: as `_whole`, or it is negative.
    """
    number = _whole(text)
    if number < 0:
        raise ValueError(text)
    return number


def _text(text: Any) -> str:
    """Return a text of a length that one reply can carry.

    Raises:
        ValueError: it is none, or longer than any that is written.
    """
    if not isinstance(text, str) or len(text) > LONGEST_TEXT:
        raise ValueError(type(text))
    return text


def _write_leases(leases: tuple[Lease, ...]) -> str:
    return ";".join(f"{lease.token}={lease.expiry}" for lease in leases)


def _read_leases(text: str) -> tuple[Lease, ...]:
    # Split at the last `=`, as the greedy pattern of step.lua does: a token may contain one, an expiry cannot.
    pairs = (entry.rpartition("=") for entry in text.split(";") if entry)
    return tuple(Lease(token, _whole(expiry)) for token, _, expiry in pairs)


def _write_buckets(buckets: tuple[Bucket, ...]) -> str:
    return ";".join(f"{b.start},{b.successes},{b.failures},{b.slow},{b.streak}" for b in buckets)


def _read_buckets(text: str) -> tuple[Bucket, ...]:
    return tuple(_read_bucket(*entry.split(",")) for entry in text.split(";") if entry)


def _read_bucket(start: str, successes: str, failures: str, slow: str, streak: str) -> Bucket:
    return Bucket(_whole(start), _count(successes), _count(failures), _count(slow), _count(streak))


_FIELDS: Final[Mapping[str, tuple[Callable[[Any], str], Callable[[str], object]]]] = {
    "state": (str, CircuitState),
    "epoch": (str, _count),
    "state_until": (str, _count),
    "cooldown_until": (str, _count),
    "cooldown_reason": (str, _text),
    "cooldown_count": (str, _count),
    "ramp_first": (str, _count),
    "ramp_at": (str, _count),
    "ramp_step": (str, _count),
    "ramp_used": (str, _count),
    "open_count": (str, _count),
    "closed_at": (str, _count),
    "successes": (str, _count),
    "leases": (_write_leases, _read_leases),
    "buckets": (_write_buckets, _read_buckets),
    "rejected": (str, _count),
    "rejected_functions": (str, _count),
    "rejected_requests": (str, _count),
    "born_at": (str, _count),
    "ordered_epoch": (str, _count),
    "reason": (str, _text),
    "actor": (str, _text),
    "budget_used": (str, _count),
    "budget_used_at": (str, _count),
    "at": (str, _count),
}
"""How each field is written and read. step.lua's FIELDS has the same names."""
