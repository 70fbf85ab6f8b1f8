"""The retention policy: how long each kind of row is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from resilience import validation

_DAYS = ("errors", "calls", "payloads", "fallbacks", "breaker_events", "rollups", "minutes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How many days each kind of row is kept, and how large an SQLite file may become. None means without limit.

    Attributes:
        errors: days to keep failed attempts.
        calls: days to keep calls.
        payloads: days to keep prompts and answers of failed attempts.
        fallbacks: days to keep fallbacks.
        breaker_events: days to keep transitions of circuits.
        rollups: days to keep counts, kinds of errors without a note, and processes.
        minutes: days to keep counts by minute; older ones are added up to hours.
        max_bytes: bytes that an SQLite file may hold; beyond them the oldest errors, calls, payloads and fallbacks are deleted before
            their time. A PostgreSQL database has no such limit here.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """

    errors: float | None = 30.0
    calls: float | None = 30.0
    payloads: float | None = 7.0
    fallbacks: float | None = 180.0
    breaker_events: float | None = 180.0
    rollups: float | None = 400.0
    minutes: float | None = 14.0
    max_bytes: int | None = 1_000_000_000

    def __post_init__(self) -> None:
        for name in _DAYS:
            validation.optional_number("Retention", name, getattr(self, name))
        if self.max_bytes is not None:
            validation.integer("Retention", "max_bytes", self.max_bytes, low=1_000_000)

    def ages(self) -> Iterator[tuple[str, timedelta]]:
        """Yield each kind of row that is not kept without limit, and the greatest age of its rows."""
        # Without `minutes`, the last: those rows are not deleted but added up to hours.
        for name in _DAYS[:-1]:
            days: float | None = getattr(self, name)
            if days is not None:
                yield name, timedelta(days=min(days, _LONGEST))


_LONGEST = 300_000.0
"""Days. A longer age would lead out of the calendar, and no history is older."""
