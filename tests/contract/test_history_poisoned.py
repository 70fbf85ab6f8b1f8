"""Rows of an SQLite history that another program damaged: they hide no other row, and end no reader and no writer."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.history_table_rows import keep
from typer.testing import CliRunner

from resilience import Settings, damage_counts
from resilience.breaker import CircuitState, Operation
from resilience.breaker.messages import Order, StepRequest
from resilience.breaker.stores.sqlite import SQLiteStore
from resilience.cli import app
from resilience.history import History, Retention, SyncHistory, admin
from resilience.history.schema import migrations, tables
from resilience.history.store import transitions
from resilience.prometheus import Exposition
from resilience.records.transitions import remaining_hold

VALUES: tuple[Any, ...] = (
    *(
        "soon",
        b"\xff\xfe",
        2**62,
        -1,
        1e308,
        "9" * 400,
        "2025-13-45 99:99:99.000000",
        "1e999",
        "\x1b[31m\u202e",
        None,
    ),
)
CLIENTS = ("client", "client_final", "from_client", "to_client", "function")
READ = ("errors", "calls", "breaker_events", "rollups", "error_groups", "fallbacks", "instances")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A history with each value in each column of a row of its own, beside rows that are whole."""
    file = tmp_path_factory.mktemp("history") / "resilience.db"
    url = f"sqlite:///{file}"
    migrations.upgrade(url)
    keep(url, "errors", {"client": "Whole"}, {"client": "Whole"})
    _drop_not_null(file)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("PRAGMA ignore_check_constraints=ON")
        for table in READ:
            _plant(connection, tables.metadata.tables[table])
        # A text that is no UTF-8 is another kind of value than bytes.
        connection.execute(
            "UPDATE errors SET message = CAST(x'fffe' AS TEXT) WHERE rowid % 7 = 0 AND client <> 'Whole'"
        )
        connection.execute("UPDATE rollups SET client = CAST(x'edb080' AS TEXT) WHERE rowid % 9 = 0")
    return url


def _drop_not_null(file: Path) -> None:
    """Let every column hold NULL, as a table does that another program created again."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '') WHERE type = 'table'")
        connection.execute("PRAGMA writable_schema=RESET")


def _plant(connection: sqlite3.Connection, table: sa.Table) -> None:
    number = 0
    for planted in table.columns:
        for value in VALUES:
            number += 1
            row = {column.name: _usual(column, number) for column in table.columns} | {planted.name: value}
            names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" * len(row))
            try:
                connection.execute(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", list(row.values()))  # noqa: S608
            except (sqlite3.Error, OverflowError):
                continue  # the file itself refuses it


def _usual(column: sa.Column[Any], number: int) -> Any:
    known = {
        "namespace": "resilience",
        "scope": "shared",
        "from_state": "closed",
        "to_state": "open",
        "rule": "operator",
    }
    if column.name in known:
        return known[column.name]
    if isinstance(column.type, tables.UtcDateTime):
        at = datetime.now(UTC) - timedelta(seconds=number)
        return at.replace(tzinfo=None).isoformat(" ", "microseconds")
    if column.name in CLIENTS:  # few clients: each has a hundred series of metrics
        return "Some"
    if isinstance(column.type, sa.String):
        return f"k{number}"
    return "{}" if isinstance(column.type, sa.JSON) else number if column.primary_key else 1


async def test_readers_find_all_other_rows(url: str) -> None:
    """Each query of `History` answers, awaited and blocking; numbers are finite and times are times."""
    history = History(url)
    try:
        found = await history.errors(limit=10_000)
        await history.calls(limit=10_000)
        for query in (history.rates, history.groups, history.outages, history.mttr, history.retry_success):
            await query()
        counts = [outage.failures for outage in await history.outages()]
        await history.fallbacks(limit=10_000)
        await history.recovery()
        await history.timeline("k1")
    finally:
        await history.aclose()
    blocking = await asyncio.to_thread(History(url).sync.errors, limit=10_000)

    assert all(isinstance(count, int) for count in counts)
    assert 2 == sum(error.client == "Whole" for error in found)
    assert len(found) == len(blocking)
    assert all((type(error.occurred_at), type(error.message)) == (datetime, str) for error in found)


def test_circuits_of_the_history_are_readable(url: str) -> None:
    """Last transitions come back with texts, and with a hold that a calendar can show."""
    found = transitions.read_circuit_history(url, "resilience")

    assert found.transitions
    assert all(isinstance(name, str) for name in found.clients)
    for record in found.transitions.values():
        hold = remaining_hold(record, datetime.now(UTC))
        if hold is not None and not math.isinf(hold):
            assert datetime.now(UTC) < datetime.now(UTC) + timedelta(seconds=hold)
    assert CircuitState.OPEN in {record.to_state for record in found.transitions.values()}


COMMANDS = (
    *(("errors", "-o", form) for form in ("table", "wide", "json", "jsonl")),
    ("errors", "-o", "csv", "--limit", "2000"),
    ("errors", "top", "--since", "3650d"),
    ("errors", "unknown", "--since", "1s"),
    ("errors", "timeline", "k1"),
    ("calls", "-o", "wide"),
    ("calls", "--client", "nobody"),
    ("calls", "--tenant", "nobody"),
    ("status",),
    ("status", "--json", "--since", "1h"),
    ("circuit", "list"),
    ("circuit", "open", "nobody"),
    ("metrics",),
    ("sql", "SELECT client, bucket_at FROM rollups"),
    ("sql", "SELECT * FROM v_breaker_outages", "--json"),
    ("db", "check"),
)


def test_commands_end_with_an_answer(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every command that reads the history ends by itself, and none hides the rows that are whole behind an error."""
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", url)
    monkeypatch.setenv("RESILIENCE_STORE_URL", f"sqlite:///{tmp_path}/circuits.db")
    SQLiteStore(tmp_path / "circuits.db").step([StepRequest(client="Primary")])
    results = {words: CliRunner().invoke(app, words) for words in COMMANDS}

    assert {} == {
        words: result.exception
        for words, result in results.items()
        if not isinstance(result.exception, SystemExit | None)
    }
    assert {} == {
        words: result.stderr for words, result in results.items() if "cannot be read" in result.stderr
    }
    assert "Whole" in results["errors", "-o", "csv", "--limit", "2000"].output
    assert 'source_up{source="history"} 1.0' in results["metrics",].output
    assert not caplog.records


NUMBERS = [2**63 - 1, 2**62, -5, 1e308, "soon", b"1", None]


@pytest.fixture
def one(tmp_path: Path) -> str:
    """A history with counts of one client, of which each number is one that no fleet reaches but for the first."""
    url = f"sqlite:///{tmp_path}/history.db"
    migrations.upgrade(url)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    keep(url, "rollups", {"calls": 7, "attempts": 7, "namespace": "resilience", "bucket_at": now})
    _drop_not_null(tmp_path / "history.db")
    with closing(sqlite3.connect(tmp_path / "history.db")) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        for minutes, number in enumerate(2 * NUMBERS, 1):
            at = (now - timedelta(minutes=minutes)).replace(tzinfo=None).isoformat(" ", "microseconds")
            connection.execute(
                "INSERT INTO rollups (bucket_at, grain, client, function, namespace, calls, attempts) "
                "VALUES (?, 60, 'A', 'F', 'resilience', ?, ?)",
                (at, number, number),
            )
    return url


def test_sums_have_only_what_a_fleet_can_reach(one: str) -> None:
    """Numbers of another program neither end a sum, by an overflow, nor are they in it."""
    (rate,) = SyncHistory(one).rates()
    text = Exposition(
        Settings(database_url=one, store_url="memory://"),
        now=lambda: datetime.now(UTC) + timedelta(minutes=5),
    ).render()

    assert (7, 7) == (rate.calls, rate.attempts)
    assert 'resilience_calls_total{client="A",function="F",outcome="ok"} 7.0' in text


def test_pruning_ends(one: str, tmp_path: Path) -> None:
    """A time that is none is deleted when minutes become hours, and a file with nothing else is not pruned by size for ever."""
    with closing(sqlite3.connect(tmp_path / "history.db")) as connection, connection:
        connection.execute("UPDATE rollups SET bucket_at = -rowid WHERE rowid > 1")
    keep(one, "errors", {"message": "x" * 1_200_000}, {"client": "B"})
    with closing(sqlite3.connect(tmp_path / "history.db")) as connection, connection:
        connection.execute("UPDATE errors SET occurred_at = x'00' WHERE client = 'A'")
    admin.prune(one, Retention(max_bytes=1_000_000, minutes=1))
    counts = SyncHistory(one).sql(
        "SELECT (SELECT COUNT(*) FROM rollups WHERE grain = 60), (SELECT COUNT(*) FROM errors)"
    )

    assert ((1, 1),) == counts.rows


def test_a_number_behind_all_others_stops_no_order(tmp_path: Path) -> None:
    """The store numbers its transitions. One with the greatest number was planted: it is dropped and counted, and orders go on."""
    store = SQLiteStore(tmp_path / "circuits.db")
    order = Order(operation=Operation.OPEN, actor="ada", reason="x")
    store.step([StepRequest(client="A", order=order)])
    with closing(sqlite3.connect(tmp_path / "circuits.db")) as connection, connection:
        connection.execute("UPDATE transitions SET id = ?", (2**63 - 1,))
    before = damage_counts.counts[damage_counts.TRANSITION]
    (reply,) = store.step([StepRequest(client="B", order=order)])

    assert not isinstance(reply, Exception)
    assert ["B"] == [transition.client for transition in store.transitions()]
    assert before + 1 == damage_counts.counts[damage_counts.TRANSITION]
    store.close()
