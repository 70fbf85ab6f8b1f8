"""From records to lines of a log. A field is named like the column that keeps it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from resilience.history.record import (
    Action,
    CallOutcome,
    CallRecord,
    ErrorRecord,
    FallbackRecord,
    PayloadRecord,
    TransitionRecord,
)
from resilience.history.rows import NAMES, Record

Line = tuple[str, dict[str, Any]]
"""A log stream and what goes into it."""

SCHEMA: Final = 1
"""Version of the log lines; a change that is not merely a new field is a new one."""

_CLEAN: Final = frozenset({CallOutcome.OK, CallOutcome.CANCELLED})


def lines(record: Record, instance_id: str, pid: int) -> Iterator[Line]:
    """The log lines of *record*: `ts, level, event, stream, schema` first, then the names of its columns."""
    values = {name: _json(getattr(record, name)) for name in NAMES[type(record)]}
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


_EVENTS: Final[Mapping[type[Record], tuple[tuple[str, str], ...]]] = {
    CallRecord: (("operations", "call.end"), ("performance", "call.duration")),
    ErrorRecord: (("errors", "attempt.failed"),),
    FallbackRecord: (("operations", "fallback.taken"),),
    TransitionRecord: (("operations", "breaker.state"),),
    PayloadRecord: (),  # content has no place in a log
}


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
