"""From records to rows of SQL and back. A name means the same thing in both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from resilience.failure import ErrorCategory
from resilience.history.schema import tables
from resilience.records.records import (
    Action,
    CallOutcome,
    CallRecord,
    ErrorRecord,
    FallbackRecord,
    PayloadRecord,
    Record,
    TransitionRecord,
)

R = TypeVar("R", ErrorRecord, FallbackRecord, CallRecord, TransitionRecord, PayloadRecord)

TABLES: Final[Mapping[type[Record], sa.Table]] = {
    CallRecord: tables.calls,
    ErrorRecord: tables.errors,
    FallbackRecord: tables.fallbacks,
    TransitionRecord: tables.breaker_events,
    PayloadRecord: tables.payloads,
}

NAMES: Final[Mapping[type[Record], tuple[str, ...]]] = {
    kind: tuple(field.name for field in fields(kind)) for kind in TABLES
}
"""The fields of each record, which are the columns of its table."""
_WIDTHS: Final = {
    table.name: {
        column.name: column.type.length for column in table.columns if isinstance(column.type, sa.String)
    }
    for table in tables.metadata.sorted_tables
}
_ENUMS: Final[Mapping[type[Record], Mapping[str, tuple[type[StrEnum], StrEnum]]]] = {
    CallRecord: {"outcome": (CallOutcome, CallOutcome.FAILED)},
    ErrorRecord: {
        "category": (ErrorCategory, ErrorCategory.UNKNOWN),
        "action": (Action, Action.RAISE),
    },
    FallbackRecord: {"reason": (ErrorCategory, ErrorCategory.UNKNOWN)},
}


def row(record: Record, instance_id: str) -> dict[str, Any]:
    """The row of *record*: plain values only, texts no longer than their columns."""
    table = TABLES[type(record)]
    values = {name: getattr(record, name) for name in NAMES[type(record)]}
    if "instance_id" in table.columns:
        values["instance_id"] = instance_id
    return fitted(table, values)


def fitted(table: sa.Table, values: dict[str, Any]) -> dict[str, Any]:
    """*values* with every text cut to its column, and without what no database keeps (NUL, half surrogates)."""
    widths = _WIDTHS[table.name]
    for name, value in values.items():
        if isinstance(value, str):
            values[name] = _text(value, widths[name])
    return values


def record(kind: type[R], found: Mapping[str, Any]) -> R:
    """The record a row of the database was made from. A word only newer code knows reads as `unknown`."""
    values = {name: found[name] for name in NAMES[kind]}
    for name, (enum, otherwise) in _ENUMS.get(kind, {}).items():
        values[name] = enum(values[name]) if values[name] in enum._value2member_map_ else otherwise
    return kind(**values)


def began(record: Record) -> datetime:
    """Where *record* stands on a timeline."""
    return record.started_at if isinstance(record, CallRecord) else record.occurred_at


def _text(value: str, width: int | None) -> str:
    plain = str.__str__(value)[:width]  # an enum's own value: drivers do not agree on what an enum is
    if plain.isascii() and "\0" not in plain:
        return plain
    return plain.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
