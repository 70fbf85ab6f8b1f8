"""From records to rows of SQL and lines of a log, and back. A name means the same thing in all three."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from resilience.failure import ErrorCategory
from resilience.history import tables
from resilience.history.record import Action, CallOutcome, CallRecord, ErrorRecord, FallbackRecord

Record = ErrorRecord | FallbackRecord | CallRecord
"""Anything the history keeps."""
Line = tuple[str, dict[str, Any]]
"""A log stream and what goes into it."""
R = TypeVar("R", ErrorRecord, FallbackRecord, CallRecord)

SCHEMA: Final = 1
"""Version of the log lines; a change that is not merely a new field is a new one."""

TABLES: Final[Mapping[type[Record], sa.Table]] = {
    CallRecord: tables.calls,
    ErrorRecord: tables.errors,
    FallbackRecord: tables.fallbacks,
}

_NAMES: Final = {kind: tuple(field.name for field in fields(kind)) for kind in TABLES}
_WIDTHS: Final = {
    table.name: {
        column.name: column.type.length for column in table.columns if isinstance(column.type, sa.String)
    }
    for table in tables.metadata.sorted_tables
}
_ENUMS: Final[Mapping[str, tuple[type[StrEnum], StrEnum]]] = {
    "category": (ErrorCategory, ErrorCategory.UNKNOWN),
    "reason": (ErrorCategory, ErrorCategory.UNKNOWN),
    "action": (Action, Action.RAISE),
    "outcome": (CallOutcome, CallOutcome.FAILED),
}
_CLEAN: Final = frozenset({CallOutcome.OK, CallOutcome.CANCELLED})


def row(record: Record, instance_id: str) -> dict[str, Any]:
    """The row of *record*: plain values only, texts no longer than their columns."""
    values = {name: getattr(record, name) for name in _NAMES[type(record)]}
    values["instance_id"] = instance_id
    return fitted(TABLES[type(record)], values)


def fitted(table: sa.Table, values: dict[str, Any]) -> dict[str, Any]:
    """*values* with every text cut to its column, and without what no database keeps (NUL, half surrogates)."""
    widths = _WIDTHS[table.name]
    for name, value in values.items():
        if isinstance(value, str):
            values[name] = _text(value, widths[name])
    return values


def record(kind: type[R], found: Mapping[str, Any]) -> R:
    """The record a row of the database was made from. A word only newer code knows reads as `unknown`."""
    values = {name: found[name] for name in _NAMES[kind]}
    for name, (enum, otherwise) in _ENUMS.items():
        if name in values:
            values[name] = enum(values[name]) if values[name] in enum._value2member_map_ else otherwise
    return kind(**values)


def lines(record: Record, instance_id: str, pid: int) -> Iterator[Line]:
    """The log lines of *record*: `ts, level, event, stream, schema` first, then the names of its columns."""
    values = {name: _json(getattr(record, name)) for name in _NAMES[type(record)]}
    values |= {"instance_id": instance_id, "pid": pid}
    for stream, event in _EVENTS[type(record)]:
        head = {
            "ts": _json(_when(record)),
            "level": _level(record),
            "event": event,
            "stream": stream,
            "schema": SCHEMA,
        }
        yield stream, head | values


_EVENTS: Final = {
    CallRecord: (("operations", "call.end"), ("performance", "call.duration")),
    ErrorRecord: (("errors", "attempt.failed"),),
    FallbackRecord: (("operations", "fallback.taken"),),
}


def began(record: Record) -> datetime:
    """Where *record* stands on a timeline."""
    return record.started_at if isinstance(record, CallRecord) else record.occurred_at


def _when(record: Record) -> datetime:
    if isinstance(record, CallRecord):
        return record.started_at + timedelta(seconds=record.duration)
    return record.occurred_at


def _level(record: Record) -> str:
    if isinstance(record, CallRecord):
        if record.outcome in _CLEAN:
            return "info"
        return "warning" if record.client_final else "error"
    return "error" if isinstance(record, ErrorRecord) and record.action is Action.RAISE else "warning"


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return value


def _text(value: str, width: int | None) -> str:
    plain = str.__str__(value)[:width]  # an enum's own value: drivers do not agree on what an enum is
    if plain.isascii() and "\0" not in plain:
        return plain
    return plain.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
