"""From records to lines of a log. `EVENTS` is the schema: every line there is, field by field.

A line begins with `ts level event stream schema`, then come the ids of the call it belongs to, then the process, then the rest.
A field is named like the column that keeps it in SQL, with the same unit (seconds) and the same words; times are RFC 3339 in
UTC with microseconds. A field that is None is left out. New fields may come at any time; any other change is a new `schema`.
A line whose record has no row says so with `dropped_as` (`sampled` or `dropped`). Its `sequence` is the number of the record among
those of its process that were counted without a row.

| event | stream | level | one line for | table |
|---|---|---|---|---|
| `config` | operations | info | each process, before its first other line | `instances` |
| `call.start` | operations | debug | each call, when it begins | |
| `call.end` | operations | info, warning when it was mended, error when it failed | each call, when it is over | `calls` |
| `call.duration` | performance | as `call.end` | each call: how long, how many attempts, how many tokens | `calls` |
| `attempt.duration` | performance | info, warning when it failed | each attempt, but the only one of a call that went well | `errors` |
| `attempt.failed` | errors | warning, error when the caller got it | each failed attempt and each refusal | `errors` |
| `retry.scheduled` | operations | info | each wait before the same client is asked again | `errors` |
| `fallback.taken` | operations | warning | each step to another client, when that has answered or failed | `fallbacks` |
| `breaker.state` | operations | warning when it opens, else info | each move of a circuit, by the process that caused it | `breaker_events` |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final

from resilience.failure import ErrorCategory
from resilience.history.schema.rows import NAMES, Record
from resilience.records.records import (
    Action,
    AttemptRecord,
    CallOutcome,
    CallRecord,
    ErrorRecord,
    FallbackRecord,
    PayloadRecord,
    StartRecord,
    TransitionRecord,
)

Line = tuple[str, dict[str, Any]]
"""A log stream and what goes into it."""
Loggable = Record | StartRecord | AttemptRecord
"""Whatever may have lines."""

SCHEMA: Final = 2
"""Version of the log lines. Schema 1 had other names for four fields, which `resilience history import` still reads."""
HEAD: Final = ("ts", "level", "event", "stream", "schema")
IDS: Final = ("request_id", "call_id", "trace_id", "span_id")
TIMES: Final = ("occurred_at", "started_at")
PROCESS: Final = ("instance_id", "pid", "service")

_OPENS: Final = frozenset({"open", "forced_open"})
_ASKED: Final = ("function", "client", "attempt", "category", "duration", "provider", "model")
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
)


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of line.

    Attributes:
        name: the line's `event`.
        stream: where it goes.
        columns: its fields after head, ids and process, in their order.
    """

    name: str
    stream: str
    columns: tuple[str, ...]


def _rest(kind: type[Record]) -> tuple[str, ...]:
    return tuple(name for name in NAMES[kind] if name not in IDS)


CONFIG: Final = Event("config", "operations", ("host", "started_at", "version", "baml_py", "settings"))
CALL_START: Final = Event("call.start", "operations", ("function", "client", "started_at"))
CALL_END: Final = Event("call.end", "operations", _rest(CallRecord))
CALL_DURATION: Final = Event("call.duration", "performance", (*_CALL, "recovery", *_TOKENS))
ATTEMPT_DURATION: Final = Event("attempt.duration", "performance", (*_ASKED, *_TOKENS))
ATTEMPT_FAILED: Final = Event("attempt.failed", "errors", _rest(ErrorRecord))
RETRY_SCHEDULED: Final = Event(
    "retry.scheduled",
    "operations",
    ("event_id", "function", "client", "attempt", "category", "backoff", "retry_after"),
)
FALLBACK_TAKEN: Final = Event("fallback.taken", "operations", _rest(FallbackRecord))
BREAKER_STATE: Final = Event("breaker.state", "operations", _rest(TransitionRecord))

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


def lines(record: Loggable, instance_id: str, pid: int, service: str = "") -> Iterator[Line]:
    """The log lines of *record*, which the process *instance_id* tells."""
    process = {"instance_id": instance_id, "pid": pid, **({"service": service} if service else {})}
    for shape in _SHAPES[type(record)]:
        if shape.told(record):
            yield shape.event.stream, shape.line(record, process)


def opening(process: Mapping[str, Any], settings: Mapping[str, Any]) -> Line:
    """The first line of a process: who it is (a row of `instances`), and what it goes by."""
    known = {**process, **settings, "started_at": _stamp(process["started_at"])}
    line = dict(
        zip(HEAD, (_stamp(datetime.now(UTC)), "info", CONFIG.name, CONFIG.stream, SCHEMA), strict=True)
    )
    line |= {name: known[name] for name in (*PROCESS, *CONFIG.columns) if known.get(name)}
    return CONFIG.stream, line


class _Shape:
    """How a record becomes the line of an event."""

    __slots__ = ("_columns", "_head", "_ids", "_level", "_when", "event", "told")

    def __init__(
        self,
        kind: type[Loggable],
        event: Event,
        *,
        level: Callable[[Any], str],
        when: Callable[[Any], datetime] = attrgetter("occurred_at"),
        told: Callable[[Any], bool] = lambda _: True,
    ) -> None:
        has = {field.name for field in fields(kind)}
        self.event = event
        self.told = told
        self._head = {"event": event.name, "stream": event.stream, "schema": SCHEMA}
        self._ids = _getter(name for name in IDS if name in has)
        self._columns = _getter(name for name in event.columns if name in has)
        self._level, self._when = level, when

    def line(self, record: Loggable, process: Mapping[str, Any]) -> dict[str, Any]:
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
    """Names, and what gets the values of all of them at once; one name alone would come without a tuple."""
    wanted = tuple(names)
    if len(wanted) > 1:
        return wanted, attrgetter(*wanted)
    return wanted, lambda record: tuple(getattr(record, name) for name in wanted)


def _ended(record: CallRecord) -> datetime:
    return record.started_at + timedelta(seconds=record.duration)


def _call_level(record: CallRecord) -> str:
    if record.outcome in {CallOutcome.OK, CallOutcome.CANCELLED}:
        return "info"
    return "warning" if record.client_final else "error"


def _error_level(record: ErrorRecord) -> str:
    return "error" if record.action is Action.RAISE else "warning"


def _move_level(record: TransitionRecord) -> str:
    return "warning" if record.to_state in _OPENS else "info"


def _debug(_: Loggable) -> str:
    return "debug"


def _info(_: Loggable) -> str:
    return "info"


def _warning(_: Loggable) -> str:
    return "warning"


def _was_asked(record: ErrorRecord) -> bool:
    return record.category is not ErrorCategory.CIRCUIT_OPEN


def _is_retried(record: ErrorRecord) -> bool:
    return record.action is Action.RETRY


_SHAPES: Final[Mapping[type[Loggable], tuple[_Shape, ...]]] = {
    StartRecord: (_Shape(StartRecord, CALL_START, level=_debug, when=attrgetter("started_at")),),
    CallRecord: (
        _Shape(CallRecord, CALL_END, level=_call_level, when=_ended),
        _Shape(CallRecord, CALL_DURATION, level=_call_level, when=_ended),
    ),
    AttemptRecord: (_Shape(AttemptRecord, ATTEMPT_DURATION, level=_info),),
    ErrorRecord: (
        _Shape(ErrorRecord, ATTEMPT_FAILED, level=_error_level),
        _Shape(ErrorRecord, ATTEMPT_DURATION, level=_warning, told=_was_asked),
        _Shape(ErrorRecord, RETRY_SCHEDULED, level=_info, told=_is_retried),
    ),
    FallbackRecord: (_Shape(FallbackRecord, FALLBACK_TAKEN, level=_warning),),
    TransitionRecord: (_Shape(TransitionRecord, BREAKER_STATE, level=_move_level),),
    PayloadRecord: (),  # content has no place in a log
}


def _stamp(value: datetime) -> str:
    utc = value if value.tzinfo is UTC else value.astimezone(UTC)
    return f"{utc.isoformat(timespec='microseconds')[:-6]}Z"
