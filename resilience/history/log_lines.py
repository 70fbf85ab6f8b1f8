"""Reading a log line as the record it was written from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from resilience.history.schema import rows
from resilience.history.schema.tables import UtcDateTime
from resilience.records import log_events
from resilience.records.records import CallRecord, ErrorRecord, FallbackRecord, Record, TransitionRecord

_KINDS: Final[Mapping[str, type[Record]]] = {
    log_events.CALL_END.name: CallRecord,
    log_events.ATTEMPT_FAILED.name: ErrorRecord,
    log_events.FALLBACK_TAKEN.name: FallbackRecord,
    log_events.BREAKER_STATE.name: TransitionRecord,
}
"""The events whose lines have all columns of a row."""
_FIRST_SCHEMA: Final = 1
_SINCE_RENAMED: Final = {
    "hop": "position",
    "endless": "indefinite",
    "unkept": "dropped_as",
    "tallied": "sequence",
}
"""Fields of schema 1 by the name they have now. Logs outlive an upgrade, so an import reads both."""


class RefusedError(ValueError):
    """A line that cannot be made a record."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as it was found in a log.

    Attributes:
        record: the record.
        instance_id: the process that told it.
        where: `file:line`.
        dropped_as: why it has no row (`sampled`, `dropped`); empty when its process was going to write one.
        sequence: its number among the records of its process that were counted without a row; 0 for none of them.
    """

    record: Record
    instance_id: str
    where: str
    dropped_as: str = ""
    sequence: int = 0


def entry(line: bytes, where: str) -> Entry | None:
    """The record of *line*; None for a line that never has a row of its own, or is blank.

    Raises:
        RefusedError: it is no log line of ours, or says what a column cannot hold.
    """
    if not line.strip():
        return None
    try:
        found = json.loads(line)
    except ValueError as exc:
        msg = "no whole JSON"
        raise RefusedError(msg) from exc
    if not isinstance(found, dict) or not isinstance(found.get("event"), str):
        msg = "no log line of this package"
        raise RefusedError(msg)
    schema = found.get("schema")
    if schema not in {_FIRST_SCHEMA, log_events.SCHEMA}:
        msg = f"schema {schema!r}, this version reads {_FIRST_SCHEMA} and {log_events.SCHEMA}"
        raise RefusedError(msg)
    if schema == _FIRST_SCHEMA:
        found = {_SINCE_RENAMED.get(name, name): value for name, value in found.items()}
    kind = _KINDS.get(found["event"])
    if kind is None:
        return None
    record = _record(kind, found)
    return Entry(
        record,
        _checked("instance_id", found.get("instance_id"), str),
        where,
        str(found.get("dropped_as", "")),
        _checked("sequence", found.get("sequence", 0), int),
    )


def _record(kind: type[Record], found: Mapping[str, Any]) -> Record:
    columns = rows.TABLES[kind].columns
    values: dict[str, Any] = {}
    for wanted in fields(kind):
        name = wanted.name
        value = found.get(name)
        if value is not None:
            values[name] = _checked(name, value, _python_type(columns[name]))
        elif wanted.default is not MISSING:
            values[name] = wanted.default
        elif columns[name].nullable:
            values[name] = None
        else:
            msg = f"it has no {name}"
            raise RefusedError(msg)
    made: Record = rows.record(kind, values)  # type: ignore[type-var]  # one of the kinds, not known which
    return made


def _python_type(column: sa.Column[Any]) -> type:
    if isinstance(column.type, sa.JSON):
        return dict
    return datetime if isinstance(column.type, UtcDateTime) else column.type.python_type


def _checked(name: str, value: Any, kind: type) -> Any:
    """*value* as a column of this kind takes it. SQLite would take anything."""
    made = value
    if kind is datetime and isinstance(value, str):
        made = _moment(value)
    if kind is float and type(value) is int:
        made = float(value)
    if type(made) is not kind:
        msg = f"{name}={str(value)[:40]!r} is no {kind.__name__}"
        raise RefusedError(msg)
    return made


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
