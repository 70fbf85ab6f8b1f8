"""How long the history keeps what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from resilience import validation

_DAYS = ("errors", "calls", "payloads", "fallbacks", "breaker_events", "rollups", "minutes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How many days each kind of row is kept, and how large the embedded file may grow; None is for ever.

    Attributes:
        errors: failed attempts.
        calls: calls.
        payloads: the content of failed attempts, where the privacy level keeps it.
        fallbacks: steps from client to client.
        breaker_events: moves of circuits.
        rollups: counts; kinds of errors nobody has noted anything on, and processes, go with them.
        minutes: counts for each minute; older ones become counts for each hour.
        max_bytes: size of the SQLite file beyond which the oldest errors, calls, payloads and fallbacks go before their
            time; a PostgreSQL server has its own ways to say that it is full.

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
        """Each table that has an end, and the greatest age of its rows."""
        for name in _DAYS[:-1]:
            days: float | None = getattr(self, name)
            if days is not None:
                yield name, timedelta(days=min(days, _LONGEST))


_LONGEST = 300_000.0
"""Days: more than a datetime can be reckoned back."""
