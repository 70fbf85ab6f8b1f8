"""Exact counts by minute, client and function: the denominators of all rates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from resilience.failure import ErrorCategory
from resilience.history.schema import rows, upserts
from resilience.history.schema.tables import ROLLED, rollups
from resilience.records.records import CallOutcome, CallRecord, ErrorRecord, Record

MINUTE: Final = 60
HOUR: Final = 3600
OTHERS: Final = "(others)"
"""Client and function of calls that are counted together once memory for counts is full. The sum stays exact."""

_MOST: Final = 10_000
_KEYS: Final = ("bucket_at", "grain", "client", "function")
_NONE: Final = dict.fromkeys(ROLLED, 0) | {"duration_sum": 0.0, "duration_max": 0.0}

_Key = tuple[datetime, int, str, str]


class Rollups:
    """Counts that are to be added to `rollups`.

    Their memory is limited, however long the database is away. Beyond *most* rows, minutes are added up to hours; beyond *most* hours,
    further clients and functions are counted together.

    Args:
        most: number of rows to hold in memory.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._rows: dict[_Key, dict[str, Any]] = {}
        self._most = most

    def __bool__(self) -> bool:
        return bool(self._rows)

    def add(self, record: Record) -> None:
        """Count *record* if it is a call or an error.

        Raises:
            ValueError: its time has no timezone.
            OverflowError: its duration is too long for a timedelta.
        """
        if isinstance(record, CallRecord):
            self._call(record)
        # A refusal by a circuit sent no request, so it is neither an attempt nor an error of the client.
        elif isinstance(record, ErrorRecord) and record.category is not ErrorCategory.CIRCUIT_OPEN:
            # By the end of the attempt. A call is counted at its own end, which may be minutes later.
            row = self._at(record.occurred_at, record.client, record.function)
            row["errors"] += 1
            row["attempts"] += 1

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows to add, sorted by key: two processes that update rows in different orders would deadlock."""
        return [self._rows[key] for key in sorted(self._rows)]

    def _call(self, call: CallRecord) -> None:
        ended = call.started_at + timedelta(seconds=call.duration)
        row = self._at(ended, call.client, call.function)
        row["input_tokens"] += call.input_tokens or 0
        row["output_tokens"] += call.output_tokens or 0
        if call.client_final is not None:
            # Failed attempts are counted by their errors. The successful one has no record of its own.
            self._at(ended, call.client_final, call.function)["attempts"] += 1
        if call.probe:  # beside a call: an attempt that costs tokens, but not what the application asked for
            return
        row["calls"] += 1
        row["retried_calls"] += call.retries > 0
        row["fallback_calls"] += call.fallbacks > 0
        column = _OUTCOMES.get(call.outcome)
        if column is not None:
            row[column] += 1
        row["duration_sum"] += call.duration
        row["duration_max"] = max(row["duration_max"], call.duration)

    def _at(self, when: datetime, client: str, function: str) -> dict[str, Any]:
        if when.tzinfo is None:
            msg = f"{when!r} has no timezone: give datetime.now(UTC)"
            raise ValueError(msg)
        # Minutes are UTC. A local minute would exist twice when clocks are set back.
        key = (when.astimezone(UTC).replace(second=0, microsecond=0), MINUTE, client, function)
        return self._rows.get(key) or self._new(key)

    def _new(self, key: _Key) -> dict[str, Any]:
        # First coarser times, then coarser names: the sums stay exact, and only their breakdown is lost.
        if len(self._rows) >= self._most:
            self._coarsen()
            if len(self._rows) >= self._most:
                key = (key[0].replace(minute=0), HOUR, OTHERS, OTHERS)
        return self._rows.setdefault(key, _row(key))

    def _coarsen(self) -> None:
        minutes, self._rows = self._rows, {}
        for (when, _, client, function), row in minutes.items():
            key = (when.replace(minute=0), HOUR, client, function)
            total = self._rows.setdefault(key, _row(key))
            for name in (*ROLLED, "duration_sum"):
                total[name] += row[name]
            total["duration_max"] = max(total["duration_max"], row["duration_max"])


_OUTCOMES: Final = {
    CallOutcome.FAILED: "failed_calls",
    CallOutcome.CANCELLED: "cancelled_calls",
    CallOutcome.REJECTED: "rejected_calls",
    CallOutcome.RECOVERED_RETRY: "recovered_retry",
    CallOutcome.RECOVERED_FALLBACK: "recovered_fallback",
}


def _row(key: _Key) -> dict[str, Any]:
    return rows.fitted(rollups, dict(zip(_KEYS, key, strict=True)) | _NONE)


def write(connection: sa.Connection, new: Sequence[dict[str, Any]]) -> None:
    """Add rows to the stored ones."""
    if new:
        connection.execute(adding(connection.dialect.name), new)


@cache
def adding(dialect: str) -> sa.Executable:
    """Return the upsert that adds a row to the one of the same key."""
    return added(dialect, upserts.insert(dialect, rollups))


def added(dialect: str, statement: upserts.Insert) -> sa.Executable:
    """Return *statement* as an upsert that adds its rows to the stored ones."""
    longest = upserts.greatest(dialect, rollups.c.duration_max, statement.excluded["duration_max"])
    return upserts.upsert(
        statement, upserts.adding(statement, (*ROLLED, "duration_sum")) | {"duration_max": longest}
    )
