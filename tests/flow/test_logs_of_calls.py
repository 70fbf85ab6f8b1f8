"""The three streams and SQL tell the same story of one request."""

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

PASSWORD = "hunter2-and-more"  # noqa: S105 - planted, to be looked for


class ProviderError(Exception):
    """An error with a status, as SDKs raise them."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


class Agent:
    """Clients that raise what their script says, then answer."""

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


async def all_written(guarded: BAMLErrorHandler) -> None:
    """Have it all on disk: closing waits two seconds, a busy machine may take longer."""
    assert await guarded._open().recorder.aflush(60)


def told(folder: Path) -> list[dict[str, Any]]:
    """Every line of the three streams."""
    paths = [folder / "logs" / f"{stream}.jsonl" for stream in STREAMS]
    return [json.loads(line) for path in paths if path.exists() for line in path.read_text().splitlines()]


def kept(folder: Path, table: str) -> list[dict[str, Any]]:
    """Every row of a table, in the order of its events."""
    database = sqlite3.connect(folder / "history.db")
    try:
        database.row_factory = sqlite3.Row
        rows = [dict(row) for row in database.execute(f"SELECT * FROM {table}")]  # noqa: S608 - a name of this file
    finally:
        database.close()
    return sorted(rows, key=lambda row: row.get("event_id", row["call_id"]))


def of(lines: list[dict[str, Any]], event: str, **having: Any) -> list[dict[str, Any]]:
    """The lines of an event, in the order they were written."""
    return [line for line in lines if line["event"] == event and having.items() <= line.items()]


def same(line: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Does the line say what the row says? Times are spelled differently, booleans are numbers in SQLite."""
    times = {"occurred_at", "started_at"}
    return {name: value for name, value in row.items() if value is not None and name not in times} == {
        name: line.get(name) for name, value in row.items() if value is not None and name not in times
    }


async def test_one_request_from_start_to_answer(tmp_path: Path) -> None:
    """A failure, a retry, a fallback and the answer: each line has its row, with the same ids and the same numbers."""
    agent = Agent(A=[ProviderError(500), ProviderError(500)])
    async with handler(tmp_path) as guarded:
        with request_id("order-7"):
            assert await guarded.call_with_fallback(agent, "Plan", "A") == ("answer of B", "B")
            assert await guarded.call_with_fallback(agent, "Check", "A") == ("answer of A", "A")
        await guarded.call_with_fallback(agent, "Other", "A")
        await all_written(guarded)

    lines = told(tmp_path)
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
        said = sorted(of(lines, event), key=lambda line: line.get("event_id", line["call_id"]))
        rows = kept(tmp_path, table)
        assert len(said) == len(rows) > 0
        assert all(same(line, row) for line, row in zip(said, rows, strict=True))
    (first, _), (scheduled,) = kept(tmp_path, "errors"), of(lines, "retry.scheduled")
    assert (first["event_id"], first["backoff"], first["category"], 1) == tuple(
        scheduled[name] for name in ("event_id", "backoff", "category", "attempt")
    )
    (whole,) = of(plan, "call.duration")
    assert whole["attempts"] == len(of(plan, "attempt.duration"))
    other = of(lines, "call.end", function="Other")[0]
    assert other["request_id"] == other["call_id"]


async def test_every_start_has_its_end(tmp_path: Path) -> None:
    """Answered, failed or cancelled: each call that began is over in the log."""
    agent = Agent(A=[ProviderError(400)])

    def hanging(client: str) -> Any:
        return asyncio.Event().wait

    async with handler(tmp_path) as guarded:
        await guarded.call_with_fallback(agent, "Good", "B")
        with pytest.raises(ProviderError):
            await guarded.call_with_fallback(agent, "Bad", "A")
        task = asyncio.create_task(guarded.call_with_fallback(hanging, "Long", "A"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await all_written(guarded)

    lines = told(tmp_path)
    starts = [line["call_id"] for line in of(lines, "call.start")]
    assert len(starts) == 3
    assert sorted(starts) == sorted(line["call_id"] for line in of(lines, "call.end"))
    assert {"Good": "ok", "Bad": "failed", "Long": "cancelled"} == {
        line["function"]: line["outcome"] for line in of(lines, "call.end")
    }


async def test_the_first_line_of_a_process_is_what_it_goes_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`config` comes once, before everything else, with the settings in effect and no password among them."""
    monkeypatch.setenv("RESILIENCE_LOG__MAX_BYTES", "1234567")
    async with handler(tmp_path, redis_url=f"redis://:{PASSWORD}@127.0.0.1:1/0") as guarded:
        await guarded.call_with_fallback(Agent(), "F", "A")
        await guarded.call_with_fallback(Agent(), "F", "A")
        await all_written(guarded)

    first, *rest = [
        json.loads(line) for line in (tmp_path / "logs" / "operations.jsonl").read_text().splitlines()
    ]
    assert first["event"] == "config"
    assert not of(rest, "config")
    assert {"max_bytes": 1234567, "rotate": "size"}.items() <= first["settings"]["log"].items()
    assert first["settings"]["breaker"]["consecutive_failures"] == 5
    assert all(first[name] for name in ("version", "baml_py", "host", "started_at"))
    assert PASSWORD not in json.dumps(first)


class Shelf:
    """A sink of the program's own."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Mapping[str, Any]]] = []

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        self.lines += lines


async def test_events_go_to_sinks_and_to_logging_for_those_who_ask(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A program's own sink and the bridge get the same events as the files."""
    shelf = Shelf()
    with caplog.at_level(logging.DEBUG, logger="resilience.events"):
        async with handler(tmp_path, sinks=[shelf], logs=LogPolicy(bridge=True)) as guarded:
            await guarded.call_with_fallback(Agent(A=[ProviderError(500)]), "F", "A")
            await all_written(guarded)

    written = sorted(line["event"] for line in told(tmp_path))
    assert written == sorted(line["event"] for _, line in shelf.lines)
    bridged = [record for record in caplog.records if record.name == "resilience.events"]
    assert written == sorted(vars(record)["event"] for record in bridged)


async def test_nothing_is_told_at_the_level_that_keeps_nothing(tmp_path: Path) -> None:
    """With privacy `off` there are no lines, and a program's own sink gets none either."""
    shelf, settings = Shelf(), Settings(store_url="memory://", log_dir=tmp_path / "logs", privacy="off")
    async with BAMLErrorHandler(settings=settings, sinks=[shelf], logs=LogPolicy(bridge=True)) as guarded:
        await guarded.call_with_fallback(Agent(), "F", "A")

    assert shelf.lines == []
    assert not (tmp_path / "logs").exists()
