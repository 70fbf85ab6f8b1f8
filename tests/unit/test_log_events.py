"""Log lines of records."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from support.history_records import NOON, call, error, fallback

from resilience.failure import ErrorCategory
from resilience.history import (
    Action,
    AttemptRecord,
    CallOutcome,
    PayloadRecord,
    StartRecord,
    TransitionRecord,
)
from resilience.history.schema import rows, tables
from resilience.history.store.process import Instance
from resilience.records import log_events
from resilience.records.log_events import EVENTS, HEAD, IDS, PROCESS, Event, Loggable, config_line, lines
from resilience.records.records import Record

START = StartRecord(
    call_id="c" * 32, request_id="r", started_at=NOON, function="F", client="A", span_id="5" * 16
)
ATTEMPT = AttemptRecord(
    occurred_at=NOON,
    request_id="r",
    call_id="c" * 32,
    function="F",
    client="A",
    attempt=2,
    duration=0.5,
    input_tokens=7,
)
MOVE = TransitionRecord(
    namespace="n",
    client="A",
    scope="shared",
    epoch=3,
    occurred_at=NOON,
    from_state="closed",
    to_state="open",
    rule="probe",
)
TABLES = {
    "config": tables.instances,
    "call.start": tables.calls,
    "call.end": tables.calls,
    "call.duration": tables.calls,
    "attempt.duration": tables.errors,
    "attempt.failed": tables.errors,
    "retry.scheduled": tables.errors,
    "fallback.taken": tables.fallbacks,
    "breaker.state": tables.breaker_events,
}
WHOLE = {"call.end", "attempt.failed", "fallback.taken", "breaker.state"}
"""The events whose lines have all columns of a row."""
EVERY = [call(), error(), fallback(), START, ATTEMPT, MOVE]


def named(record: object) -> str:
    return type(record).__name__


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_fields_are_named_like_the_columns(event: Event) -> None:
    """Every field of every event is a column of its table; only `config` has fields without a column."""
    columns = set(TABLES[event.name].columns.keys())
    extra = {"baml_py", "settings"} if event.name == "config" else set()

    assert set(event.columns) - extra <= columns
    if event.name in WHOLE:
        assert columns <= {*event.columns, *IDS, *PROCESS}


def test_the_documented_table_is_the_schema() -> None:
    """The table in the docstring names each event with its stream and its SQL table, and nothing else."""
    documented = re.findall(
        r"^\| `([\w.]+)` \| (\w+) \| .* \| (?:`(\w+)`)? ?\|$", log_events.__doc__ or "", re.MULTILINE
    )

    assert [(event.name, event.stream) for event in EVENTS] == [row[:2] for row in documented]
    assert {name: table for name, _, table in documented if table} == {
        name: table.name for name, table in TABLES.items() if name != "call.start"
    }


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (START, [("operations", "call.start")]),
        (call(), [("operations", "call.end"), ("performance", "call.duration")]),
        (ATTEMPT, [("performance", "attempt.duration")]),
        (error(), [("errors", "attempt.failed"), ("performance", "attempt.duration")]),
        (
            error(action=Action.RETRY, backoff=1.5),
            [
                ("errors", "attempt.failed"),
                ("performance", "attempt.duration"),
                ("operations", "retry.scheduled"),
            ],
        ),
        (error(category=ErrorCategory.CIRCUIT_OPEN), [("errors", "attempt.failed")]),
        (fallback(), [("operations", "fallback.taken")]),
        (MOVE, [("operations", "breaker.state")]),
        (PayloadRecord(event_id="e", occurred_at=NOON, request_id="r", prompt="secret"), []),
    ],
)
def test_each_record_goes_to_its_streams(record: Loggable, expected: list[tuple[str, str]]) -> None:
    """Every record has the lines of its events; a refusal has no duration, and content has no line."""
    assert expected == [(stream, line["event"]) for stream, line in lines(record, "i", 7)]


@pytest.mark.parametrize("record", EVERY, ids=named)
def test_a_line_begins_with_head_ids_and_process(record: Loggable) -> None:
    """`ts level event stream schema` come first, then ids, process and the other fields; None is left out."""
    for stream, line in lines(record, "i" * 32, 7, "agents"):
        names = list(line)
        ids = [name for name in IDS if getattr(record, name, None) is not None]
        assert [*HEAD, *ids, *PROCESS] == names[: len(HEAD) + len(ids) + len(PROCESS)]
        assert (line["stream"], line["schema"], line["pid"], line["service"]) == (
            stream,
            log_events.SCHEMA,
            7,
            "agents",
        )
        assert None not in line.values()
        assert json.loads(json.dumps(line)) == line


@pytest.mark.parametrize("record", [call(), error(), fallback(), MOVE], ids=named)
def test_a_line_has_the_values_of_its_row(record: Record) -> None:
    """Every value of the row that is not null is in the line under the same name."""
    _, line = next(iter(lines(record, "i" * 32, 7)))
    row = {name: value for name, value in rows.row(record, "i" * 32).items() if value is not None}

    assert row.keys() <= line.keys()
    assert {name: value for name, value in row.items() if not isinstance(value, datetime)} == {
        name: line[name] for name, value in row.items() if not isinstance(value, datetime)
    }


def test_a_process_without_a_service_name_has_no_service() -> None:
    """`service` is in a line only if the operator set it."""
    ((_, line),) = lines(START, "i", 7)

    assert "service" not in line


def test_times_are_utc_with_microseconds() -> None:
    """The line of an error has the time of its end, that of a call its start plus its duration, both in UTC."""
    east = NOON.astimezone(timezone(timedelta(hours=2)))
    _, failed = next(iter(lines(error(occurred_at=east), "i", 7)))
    ended, _ = lines(call(started_at=east, duration=1.5), "i", 7)

    assert failed["ts"] == failed["occurred_at"] == "2025-06-01T12:00:00.000000Z"
    assert (ended[1]["ts"], ended[1]["started_at"]) == (
        "2025-06-01T12:00:01.500000Z",
        "2025-06-01T12:00:00.000000Z",
    )


@pytest.mark.parametrize(
    ("record", "levels"),
    [
        (START, ["debug"]),
        (ATTEMPT, ["info"]),
        (call(), ["info", "info"]),
        (call(outcome=CallOutcome.CANCELLED, client_final=None), ["info", "info"]),
        (call(outcome=CallOutcome.RECOVERED_RETRY), ["warning", "warning"]),
        (call(outcome=CallOutcome.FAILED, client_final=None), ["error", "error"]),
        (error(action=Action.RETRY), ["warning", "warning", "info"]),
        (error(action=Action.RAISE), ["error", "warning"]),
        (fallback(), ["warning"]),
        (MOVE, ["warning"]),
    ],
)
def test_levels_follow_the_outcome(record: Loggable, levels: list[str]) -> None:
    """What reached the caller as a failure is an error, what was recovered a warning, the rest information."""
    assert levels == [line["level"] for _, line in lines(record, "i", 7)]


def test_the_first_line_has_identity_and_settings() -> None:
    """`config` has the fixed part of the row in `instances`, the versions and the settings."""
    given: dict[str, Any] = {"baml_py": "0.1", "settings": {"privacy": "metadata"}}
    instance = Instance(service="agents")
    stream, line = config_line(instance.identity(), given, NOON)

    assert stream == "operations"
    assert list(line)[: len(HEAD) + len(PROCESS)] == [*HEAD, *PROCESS]
    assert {
        "event": "config",
        "level": "info",
        "pid": instance.pid,
        "host": instance.host,
        **given,
    }.items() <= line.items()
    assert datetime.fromisoformat(line["started_at"]).astimezone(UTC) == instance.started_at
    assert json.loads(json.dumps(line)) == line
