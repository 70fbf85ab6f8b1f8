"""Rows from records and back. A field and its column have the same name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from resilience.failure import ErrorCategory
from resilience.history.schema import columns, tables
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

V = TypeVar("V")
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
"""The fields of each kind of record, which are columns of its table."""
_VALUES: Final[Mapping[type[Record], Callable[[Any], tuple[Any, ...]]]] = {
    kind: attrgetter(*names) for kind, names in NAMES.items()
}
# SQLite ignores the width of a text column. PostgreSQL refuses the whole batch if one text is too long.
_WIDTHS: Final = {
    table.name: tuple(
        (column.name, column.type.length) for column in table.columns if isinstance(column.type, sa.String)
    )
    for table in tables.metadata.sorted_tables
}
_OF_INSTANCES: Final = frozenset(kind for kind, table in TABLES.items() if "instance_id" in table.columns)
# Words that a newer version writes must not break an older reader: each enum has the member that unknown words read as.
_ENUMS: Final[Mapping[type[Record], Mapping[str, tuple[type[StrEnum], StrEnum]]]] = {
    CallRecord: {"outcome": (CallOutcome, CallOutcome.FAILED)},
    ErrorRecord: {
        "category": (ErrorCategory, ErrorCategory.UNKNOWN),
        "action": (Action, Action.RAISE),
    },
    FallbackRecord: {"reason": (ErrorCategory, ErrorCategory.UNKNOWN)},
}

_KINDS: Final[Mapping[type[Record], Mapping[str, str]]] = {
    kind: {field.name: str(field.type) for field in fields(kind)} for kind in TABLES
}
"""The annotation of each field, as text."""
_EMPTY: Final[Mapping[str, Any]] = {
    "str": "",
    "int": 0,
    "float": 0.0,
    "bool": False,
    "datetime": columns.UNREADABLE,
}
"""What NULL reads as in a field that always has a value: another program may have created the table again, without NOT NULL."""


def row(record: Record, instance_id: str) -> dict[str, Any]:
    """Return the row of *record*: plain values, with texts cut to the width of their columns.

    Args:
        record: the record.
        instance_id: the process that made it.
    """
    kind = type(record)
    values = dict(zip(NAMES[kind], _VALUES[kind](record), strict=True))
    if kind in _OF_INSTANCES:
        values["instance_id"] = instance_id
    return fitted(TABLES[kind], values)


def fitted(table: sa.Table, values: dict[str, Any]) -> dict[str, Any]:
    """Return *values* with every text made storable: cut to its column, without NUL and lone surrogates.

    Args:
        table: the table, for the widths of its columns.
        values: a row by column name; changed in place.
    """
    for name, width in _WIDTHS[table.name]:
        value = values.get(name)
        if isinstance(value, str):
            values[name] = _text(value, width)
    return values


def record(kind: type[R], stored: Mapping[str, Any]) -> R:
    """Return the record of a stored row. A word that only newer code knows reads as the one in `_ENUMS`.

    Args:
        kind: the kind of record.
        stored: the row by column name.
    """
    values = {name: _readable(stored[name], _KINDS[kind][name]) for name in NAMES[kind]}
    for name, (enum, fallback) in _ENUMS.get(kind, {}).items():
        values[name] = enum(values[name]) if values[name] in enum._value2member_map_ else fallback
    return kind(**values)


def value(kind: type[V], stored: Mapping[str, Any]) -> V:
    """Return the dataclass *kind* of a row, whose columns have the names of its fields.

    Views have no types of columns, so each value is read as its field has it.
    """
    return kind(
        **{field.name: _readable(stored[field.name], str(field.type)) for field in fields(kind)}  # type: ignore[arg-type]
    )


def _readable(value: Any, kind: str) -> Any:
    """Return a stored value as its field has it. SQLite keeps any value in any column, and another program may have written it.

    Args:
        value: the value.
        kind: the annotation of the field.
    """
    if value is None:
        return None if kind.endswith("None") else _EMPTY.get(kind)
    if kind.startswith("str"):
        return readable_text(value)
    if kind.startswith("int"):
        return value if isinstance(value, int) else 0
    if kind.startswith("float"):
        return value if isinstance(value, int | float) and math.isfinite(value) else 0.0
    return value


def readable_text(value: Any) -> str:
    """Return a stored text, also where a column of texts has bytes or a number."""
    if isinstance(value, str):
        return value
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def timestamp(record: Record) -> datetime:
    """Return the time of *record* on a timeline: the start of a call, the time of any other record."""
    return record.started_at if isinstance(record, CallRecord) else record.occurred_at


def _text(value: str, width: int | None) -> str:
    # str.__str__ gives the value of a StrEnum as a plain string: the drivers do not agree on what an enum is.
    plain = str.__str__(value)[:width]
    if plain.isascii() and "\0" not in plain:
        return plain
    # PostgreSQL stores no NUL, and neither driver encodes a lone surrogate. Both occur in what models return.
    return plain.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")


MISREAD: Final = (tables.errors.c.category == ErrorCategory.UNKNOWN.value) | sa.cast(
    tables.errors.c.detail, sa.Text()
).like('%"corrected"%')
"""Rows whose error no rule understood, or whose category behaviour corrected.

As text, because the databases ask for a key of JSON in different ways. `execution/call_recorder.py` writes the key.
"""
