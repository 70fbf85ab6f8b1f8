"""Log lines of records. `EVENTS` is their schema: every kind of line, field by field.

A line begins with `ts level event stream schema`. Then come the ids of its call, the process, and the remaining fields. A field
is named like the SQL column of the same value, with the same unit. Times are RFC 3339 in UTC with microseconds. A field without
a value is left out. New fields may be added at any time; any other change needs a new `schema` number, and `history/log_import.py`
has to read the earlier ones too.

A line whose record has no row says so with `dropped_as` (`sampled` or `dropped`). Its `sequence` is the number of the record among
those of its process that were counted without a row.

| event | stream | level | one line for | table |
|---|---|---|---|---|
| `config` | operations | info | each process, before its first other line | `instances` |
| `call.start` | operations | debug | each call, at its start, if the log policy says so | |
| `call.end` | operations | info, warning if it recovered, error if it failed | each call, at its end | `calls` |
| `call.duration` | performance | as `call.end` | each call, if the log policy says so: duration, attempts, tokens | `calls` |
| `attempt.duration` | performance | info, warning if it failed | each attempt, except the only attempt of a call that succeeded | `errors` |
| `attempt.failed` | errors | warning, error if the caller got it | each failed attempt and each refusal | `errors` |
| `retry.scheduled` | operations | info | each wait before a retry on the same client | `errors` |
| `fallback.taken` | operations | warning | each fallback, once the next client has answered or failed | `fallbacks` |
| `breaker.state` | operations | warning if the circuit opens, else info | each transition of a circuit, by the process that caused it | `breaker_events` |
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final

from resilience.failure import ErrorCategory
from resilience.records.records import (
    Action,
    AttemptRecord,
    CallOutcome,
    CallRecord,
    ErrorRecord,
    FallbackRecord,
    PayloadRecord,
    Record,
    StartRecord,
    TransitionRecord,
)

Line = tuple[str, dict[str, Any]]
"""The name of a log stream, and the fields of a line for it."""
Loggable = Record | StartRecord | AttemptRecord
"""A record that may have log lines."""

SCHEMA: Final = 2
"""Version of the log lines. Schema 1 had other names for four fields, which `resilience history import` still reads."""
HEAD: Final = ("ts", "level", "event", "stream", "schema")
IDS: Final = ("request_id", "call_id", "trace_id", "span_id")
# A new time of a record must be added here: any other datetime reaches the log as str() writes it, without the Z.
TIMES: Final = ("occurred_at", "started_at")
PROCESS: Final = ("instance_id", "pid", "service")
# The first four of these tuples are the order of a line, which people read: change it in the docstring above as well.

_OPENS: Final = frozenset({"open", "forced_open"})
_STREAM: Final = ("streamed", "time_to_first_token")
_ASKED: Final = ("function", "client", "attempt", "category", "duration", *_STREAM, "provider", "model")
_TOKENS: Final = ("input_tokens", "output_tokens")
_CALL: Final = (
    "function",
    "client",
    "client_final",
    "outcome",
    "attempts",
    "retries",
    "fallbacks",
    "duration",
    *_STREAM,
)


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of line.

    Attributes:
        name: the `event` of the line.
        stream: the log stream it goes to.
        columns: its fields after head, ids and process, in this order.
    """

    name: str
    stream: str
    columns: tuple[str, ...]


def _all_fields(kind: type[Record]) -> tuple[str, ...]:
    """Return all fields of a record but for the ids, which stand at the beginning of every line."""
    return tuple(field.name for field in fields(kind) if field.name not in IDS)


CONFIG: Final = Event("config", "operations", ("host", "started_at", "version", "baml_py", "settings"))
CALL_START: Final = Event("call.start", "operations", ("function", "client", "started_at"))
# Events with `_all_fields` are those that `history import` makes rows from: their lines must have every field.
CALL_END: Final = Event("call.end", "operations", _all_fields(CallRecord))
CALL_DURATION: Final = Event("call.duration", "performance", (*_CALL, "recovery", *_TOKENS, "probe"))
ATTEMPT_DURATION: Final = Event("attempt.duration", "performance", (*_ASKED, *_TOKENS, "probe"))
ATTEMPT_FAILED: Final = Event("attempt.failed", "errors", _all_fields(ErrorRecord))
RETRY_SCHEDULED: Final = Event(
    "retry.scheduled",
    "operations",
    ("event_id", "function", "client", "attempt", "category", "backoff", "retry_after"),
)
FALLBACK_TAKEN: Final = Event("fallback.taken", "operations", _all_fields(FallbackRecord))
BREAKER_STATE: Final = Event("breaker.state", "operations", _all_fields(TransitionRecord))

EVENTS: Final = (
    CONFIG,
    CALL_START,
    CALL_END,
    CALL_DURATION,
    ATTEMPT_DURATION,
    ATTEMPT_FAILED,
    RETRY_SCHEDULED,
    FALLBACK_TAKEN,
    BREAKER_STATE,
)
"""Every kind of line, with its fields."""


def lines(
    record: Loggable,
    instance_id: str,
    pid: int,
    service: str = "",
    *,
    left_out: Collection[str] = (),
) -> Iterator[Line]:
    """Yield the log lines of *record*.

    Args:
        record: the record. It may have several lines, or none: content goes to no log.
        instance_id: the process that writes the lines.
        pid: its process id.
        service: its service name; left out if empty.
        left_out: the events that get no line.
    """
    process = {"instance_id": instance_id, "pid": pid, **({"service": service} if service else {})}
    for line_format in _FORMATS[type(record)]:
        if line_format.event.name not in left_out and line_format.applies(record):
            yield line_format.event.stream, line_format.line(record, process)


def config_line(process: Mapping[str, Any], settings: Mapping[str, Any], at: datetime) -> Line:
    """Return the first line of a process, with its identity and its settings.

    Args:
        process: the process, as in its row of `instances`.
        settings: versions of libraries, and the effective settings under `settings`.
        at: the present.
    """
    known = {**process, **settings, "started_at": _stamp(process["started_at"])}
    line = dict(zip(HEAD, (_stamp(at), "info", CONFIG.name, CONFIG.stream, SCHEMA), strict=True))
    line |= {name: known[name] for name in (*PROCESS, *CONFIG.columns) if known.get(name)}
    return CONFIG.stream, line


class _LineFormat:
    """How a kind of record becomes the line of an event.

    What does not depend on a single record is prepared once, because a line is formatted for every call: the constant head,
    and getters for the fields that this kind of record has.

    Args:
        kind: the kind of record.
        event: the event of the line.
        level: returns the level of a record's line.
        when: returns the time of a record's line.
        applies: returns whether a record has this line.
    """

    __slots__ = ("_columns", "_head", "_ids", "_level", "_when", "applies", "event")

    def __init__(
        self,
        kind: type[Loggable],
        event: Event,
        *,
        level: Callable[[Any], str],
        when: Callable[[Any], datetime] = attrgetter("occurred_at"),
        applies: Callable[[Any], bool] = lambda _: True,
    ) -> None:
        names = {field.name for field in fields(kind)}
        self.event = event
        self.applies = applies
        self._head = {"event": event.name, "stream": event.stream, "schema": SCHEMA}
        self._ids = _getter(name for name in IDS if name in names)
        # An event may serve two kinds of records: an attempt.duration has a category only if the attempt failed.
        self._columns = _getter(name for name in event.columns if name in names)
        self._level, self._when = level, when

    def line(self, record: Loggable, process: Mapping[str, Any]) -> dict[str, Any]:
        """Return the line of *record*, with the fields of *process* after its ids."""
        line: dict[str, Any] = {"ts": _stamp(self._when(record)), "level": self._level(record), **self._head}
        names, get = self._ids
        line |= {name: value for name, value in zip(names, get(record), strict=True) if value is not None}
        line |= process
        names, get = self._columns
        line |= {name: value for name, value in zip(names, get(record), strict=True) if value is not None}
        for name in TIMES:
            if name in line:
                line[name] = _stamp(line[name])
        return line


def _getter(names: Iterable[str]) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """Return *names* as a tuple, and a function that gets the values of all of them in one step."""
    fixed = tuple(names)
    if len(fixed) > 1:
        return fixed, attrgetter(*fixed)
    # attrgetter with a single name returns the bare value, not a tuple of one.
    return fixed, lambda record: tuple(getattr(record, name) for name in fixed)


def _end_of_call(record: CallRecord) -> datetime:
    # The record of a call has its start and its duration. Its lines are written at its end.
    return record.started_at + timedelta(seconds=record.duration)


def _call_level(record: CallRecord) -> str:
    if record.outcome in {CallOutcome.OK, CallOutcome.CANCELLED}:
        return "info"
    return "warning" if record.client_final else "error"


def _error_level(record: ErrorRecord) -> str:
    return "error" if record.action is Action.RAISE else "warning"


def _transition_level(record: TransitionRecord) -> str:
    return "warning" if record.to_state in _OPENS else "info"


def _debug(_: Loggable) -> str:
    return "debug"


def _info(_: Loggable) -> str:
    return "info"


def _warning(_: Loggable) -> str:
    return "warning"


def _was_sent(record: ErrorRecord) -> bool:
    return record.category is not ErrorCategory.CIRCUIT_OPEN


def _is_retried(record: ErrorRecord) -> bool:
    return record.action is Action.RETRY


_FORMATS: Final[Mapping[type[Loggable], tuple[_LineFormat, ...]]] = {
    StartRecord: (_LineFormat(StartRecord, CALL_START, level=_debug, when=attrgetter("started_at")),),
    CallRecord: (
        _LineFormat(CallRecord, CALL_END, level=_call_level, when=_end_of_call),
        _LineFormat(CallRecord, CALL_DURATION, level=_call_level, when=_end_of_call),
    ),
    AttemptRecord: (_LineFormat(AttemptRecord, ATTEMPT_DURATION, level=_info),),
    ErrorRecord: (
        _LineFormat(ErrorRecord, ATTEMPT_FAILED, level=_error_level),
        _LineFormat(ErrorRecord, ATTEMPT_DURATION, level=_warning, applies=_was_sent),
        _LineFormat(ErrorRecord, RETRY_SCHEDULED, level=_info, applies=_is_retried),
    ),
    FallbackRecord: (_LineFormat(FallbackRecord, FALLBACK_TAKEN, level=_warning),),
    TransitionRecord: (_LineFormat(TransitionRecord, BREAKER_STATE, level=_transition_level),),
    PayloadRecord: (),  # content goes to no log
}


def _stamp(value: datetime) -> str:
    # isoformat ends in +00:00, six characters; Z says the same and is what log viewers expect.
    utc = value if value.tzinfo is UTC else value.astimezone(UTC)
    return f"{utc.isoformat(timespec='microseconds')[:-6]}Z"
