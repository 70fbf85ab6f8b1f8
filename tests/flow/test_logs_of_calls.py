"""Log streams and SQL hold the same records of one request."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from resilience import BAMLErrorHandler, FallbackPolicy, RetryPolicy, Settings, request_id
from resilience.logs import STREAMS, LogPolicy
from resilience.testing import ManualClock

EVERY_LINE = LogPolicy(call_start=True, call_duration=True)
PASSWORD = "hunter2-and-more"  # noqa: S105 - a planted secret that must not appear


class ProviderError(Exception):
    """An error with a status code, as SDKs raise."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


class Agent:
    """Clients that raise the errors of their script, then answer."""

    def __init__(self, **scripts: list[Exception]) -> None:
        self.scripts = scripts

    def __call__(self, client: str) -> Any:
        async def ask() -> str:
            if self.scripts.get(client):
                raise self.scripts[client].pop(0)
            return f"answer of {client}"

        return ask


def handler(folder: Path, **given: Any) -> BAMLErrorHandler:
    settings = Settings(
        store_url="memory://",
        database_url=f"sqlite:///{folder / 'history.db'}",
        log_dir=folder / "logs",
        redis_url=given.pop("redis_url", None),
    )
    return BAMLErrorHandler(
        settings=settings,
        retry=RetryPolicy(max_retries=2, jitter=False),
        fallback=FallbackPolicy(clients=("A", "B")),
        clock=ManualClock(),
        **given,
    )


async def flush(guarded: BAMLErrorHandler) -> None:
    """Wait until all is on disk. Closing waits only two seconds, which a busy machine may exceed."""
    assert await guarded._open().recorder.aflush(60)


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """Return every line of the three streams."""
    paths = [folder / "logs" / f"{stream}.jsonl" for stream in STREAMS]
    return [json.loads(line) for path in paths if path.exists() for line in path.read_text().splitlines()]


def read_rows(folder: Path, table: str) -> list[dict[str, Any]]:
    """Return every row of a table, ordered by event."""
    database = sqlite3.connect(folder / "history.db")
    try:
        database.row_factory = sqlite3.Row
        rows = [dict(row) for row in database.execute(f"SELECT * FROM {table}")]  # noqa: S608 - a name of this file
    finally:
        database.close()
    return sorted(rows, key=lambda row: row.get("event_id", row["call_id"]))


def of(lines: list[dict[str, Any]], event: str, **having: Any) -> list[dict[str, Any]]:
    """Return the lines of an event, in order."""
    return [line for line in lines if line["event"] == event and having.items() <= line.items()]


def same(line: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Return whether a line has the values of a row, apart from times, which SQLite keeps in another form."""
    times = {"occurred_at", "started_at"}
    return {name: value for name, value in row.items() if value is not None and name not in times} == {
        name: line.get(name) for name, value in row.items() if value is not None and name not in times
    }


async def test_one_request_from_start_to_answer(tmp_path: Path) -> None:
    """Failure, retry, fallback and answer: each line has a row with the same ids and numbers."""
    agent = Agent(A=[ProviderError(500), ProviderError(500)])
    async with handler(tmp_path, logs=EVERY_LINE) as guarded:
        with request_id("order-7"):
            assert await guarded.call_with_fallback(agent, "Plan", "A") == ("answer of B", "B")
            assert await guarded.call_with_fallback(agent, "Check", "A") == ("answer of A", "A")
        await guarded.call_with_fallback(agent, "Other", "A")
        await flush(guarded)

    lines = read_lines(tmp_path)
    mine = of(lines, "call.start", request_id="order-7")
    assert ["Plan", "Check"] == [line["function"] for line in mine]
    plan = [line for line in lines if line.get("call_id") == mine[0]["call_id"]]
    assert {"order-7"} == {line["request_id"] for line in plan}
    assert {
        "call.start": 1,
        "attempt.failed": 2,
        "attempt.duration": 3,
        "retry.scheduled": 1,
        "fallback.taken": 1,
        "call.end": 1,
        "call.duration": 1,
    } == Counter(line["event"] for line in plan)
    assert min(plan, key=lambda line: line["ts"])["event"] == "call.start"

    for event, table in (
        ("attempt.failed", "errors"),
        ("fallback.taken", "fallbacks"),
        ("call.end", "calls"),
    ):
        logged = sorted(of(lines, event), key=lambda line: line.get("event_id", line["call_id"]))
        rows = read_rows(tmp_path, table)
        assert len(logged) == len(rows) > 0
        assert all(same(line, row) for line, row in zip(logged, rows, strict=True))
    (first, _), (scheduled,) = read_rows(tmp_path, "errors"), of(lines, "retry.scheduled")
    assert (first["event_id"], first["backoff"], first["category"], 1) == tuple(
        scheduled[name] for name in ("event_id", "backoff", "category", "attempt")
    )
    (whole,) = of(plan, "call.duration")
    assert whole["attempts"] == len(of(plan, "attempt.duration"))
    other = of(lines, "call.end", function="Other")[0]
    assert other["request_id"] == other["call_id"]


async def test_every_start_has_its_end(tmp_path: Path) -> None:
    """Answered, failed or cancelled: each call with a start event has an end event."""
    agent = Agent(A=[ProviderError(400)])

    def hanging(client: str) -> Any:
        return asyncio.Event().wait

    async with handler(tmp_path, logs=EVERY_LINE) as guarded:
        await guarded.call_with_fallback(agent, "Good", "B")
        with pytest.raises(ProviderError):
            await guarded.call_with_fallback(agent, "Bad", "A")
        task = asyncio.create_task(guarded.call_with_fallback(hanging, "Long", "A"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await flush(guarded)

    lines = read_lines(tmp_path)
    starts = [line["call_id"] for line in of(lines, "call.start")]
    assert len(starts) == 3
    assert sorted(starts) == sorted(line["call_id"] for line in of(lines, "call.end"))
    assert {"Good": "ok", "Bad": "failed", "Long": "cancelled"} == {
        line["function"]: line["outcome"] for line in of(lines, "call.end")
    }


async def test_the_first_line_of_a_process_has_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The `config` event comes once, first, with the settings in effect and without passwords."""
    monkeypatch.setenv("RESILIENCE_LOG__MAX_BYTES", "1234567")
    async with handler(tmp_path, redis_url=f"redis://:{PASSWORD}@127.0.0.1:1/0") as guarded:
        await guarded.call_with_fallback(Agent(), "F", "A")
        await guarded.call_with_fallback(Agent(), "F", "A")
        await flush(guarded)

    first, *rest = [
        json.loads(line) for line in (tmp_path / "logs" / "operations.jsonl").read_text().splitlines()
    ]
    assert first["event"] == "config"
    assert not of(rest, "config")
    assert {"max_bytes": 1234567, "rotate": "size"}.items() <= first["settings"]["log"].items()
    assert first["settings"]["breaker"]["consecutive_failures"] == 5
    assert all(first[name] for name in ("version", "baml_py", "host", "started_at"))
    assert PASSWORD not in json.dumps(first)


class ListSink:
    """A sink of the application."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Mapping[str, Any]]] = []

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        self.lines += lines


async def test_events_go_to_sinks_and_to_logging(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A sink of the application and the bridge get the same events as the files."""
    sink = ListSink()
    with caplog.at_level(logging.DEBUG, logger="resilience.events"):
        async with handler(tmp_path, sinks=[sink], logs=LogPolicy(bridge=True)) as guarded:
            await guarded.call_with_fallback(Agent(A=[ProviderError(500)]), "F", "A")
            await flush(guarded)

    written = sorted(line["event"] for line in read_lines(tmp_path))
    assert written == sorted(line["event"] for _, line in sink.lines)
    bridged = [record for record in caplog.records if record.name == "resilience.events"]
    assert written == sorted(vars(record)["event"] for record in bridged)


async def test_privacy_off_writes_no_lines(tmp_path: Path) -> None:
    """With privacy `off` there are no log files, and sinks get no lines."""
    sink, settings = ListSink(), Settings(store_url="memory://", log_dir=tmp_path / "logs", privacy="off")
    async with BAMLErrorHandler(settings=settings, sinks=[sink], logs=LogPolicy(bridge=True)) as guarded:
        await guarded.call_with_fallback(Agent(), "F", "A")

    assert sink.lines == []
    assert not (tmp_path / "logs").exists()
