"""From records to lines of a log. `EVENTS` is the schema: every line there is, field by field.

A line begins with `ts level event stream schema`, then come the ids of the call it belongs to, then the process, then the rest.
A field is named like the column that keeps it in SQL, with the same unit (seconds) and the same words; times are RFC 3339 in
UTC with microseconds. A field that is None is left out. New fields may come at any time; any other change is a new `schema`.

| event | stream | level | one line for | table |
|---|---|---|---|---|
| `config` | operations | info | each process, before its first other line | `instances` |
| `call.start` | operations | debug | each call, when it begins | |
| `call.end` | operations | info, warning when it was mended, error when it failed | each call, when it is over | `calls` |
| `call.duration` | performance | as `call.end` | each call: how long, how many attempts, how many tokens | `calls` |
| `attempt.duration` | performance | info, warning when it failed | each attempt, successful ones too | `errors` |
| `attempt.failed` | errors | warning, error when the caller got it | each failed attempt and each refusal | `errors` |
| `retry.scheduled` | operations | info | each wait before the same client is asked again | `errors` |
| `fallback.taken` | operations | warning | each step to another client, when that has answered or failed | `fallbacks` |
| `breaker.state` | operations | warning when it opens, else info | each move of a circuit, by the process that caused it | `breaker_events` |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final

from resilience.failure import ErrorCategory
from resilience.history.record import (
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
from resilience.history.rows import NAMES, Record

Line = tuple[str, dict[str, Any]]
"""A log stream and what goes into it."""
Loggable = Record | StartRecord | AttemptRecord
"""Whatever may have lines."""

SCHEMA: Final = 1
"""Version of the log lines."""
HEAD: Final = ("ts", "level", "event", "stream", "schema")
IDS: Final = ("request_id", "call_id", "trace_id", "span_id")
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
    process = (("instance_id", instance_id), ("pid", pid), ("service", service or None))
    for shape in _SHAPES[type(record)]:
        if shape.told(record):
            yield shape.event.stream, shape.line(record, process)


def opening(process: Mapping[str, Any], settings: Mapping[str, Any]) -> Line:
    """The first line of a process: who it is (a row of `instances`), and what it goes by."""
    known = {**process, **settings}
    told = (
        ("ts", _stamp(datetime.now(UTC))),
        ("level", "info"),
        ("event", CONFIG.name),
        ("stream", CONFIG.stream),
        ("schema", SCHEMA),
        *((name, known.get(name)) for name in PROCESS),
        *((name, _plain(known.get(name))) for name in CONFIG.columns),
    )
    return CONFIG.stream, {name: value for name, value in told if value is not None and value != ""}


class _Shape:
    """How a record becomes the line of an event."""

    __slots__ = ("_get", "_ids", "_level", "_names", "_when", "event", "told")

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
        ids = [name for name in IDS if name in has]
        self.event = event
        self.told = told
        self._names = (*ids, *(name for name in event.columns if name in has))
        self._get = attrgetter(*self._names)
        self._ids = len(ids)
        self._level, self._when = level, when

    def line(self, record: Loggable, process: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
        found = list(zip(self._names, self._get(record), strict=True))
        line: dict[str, Any] = {
            "ts": _stamp(self._when(record)),
            "level": self._level(record),
            "event": self.event.name,
            "stream": self.event.stream,
            "schema": SCHEMA,
        }
        for name, value in (*found[: self._ids], *process, *found[self._ids :]):
            if value is not None:
                line[name] = _plain(value)
        return line


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


def _plain(value: Any) -> Any:
    return _stamp(value) if isinstance(value, datetime) else value


def _stamp(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
