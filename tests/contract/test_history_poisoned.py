"""Rows of an SQLite history that another program damaged: they hide no other row, and end no reader and no writer."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from support.history_table_rows import keep

from resilience.breaker import CircuitState
from resilience.history import History
from resilience.history.schema import migrations, tables
from resilience.history.store import transitions

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
    ),
)
READ = ("errors", "calls", "breaker_events", "rollups", "error_groups", "fallbacks", "instances")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A history with each value in each column of a row of its own, beside rows that are whole."""
    file = tmp_path_factory.mktemp("history") / "resilience.db"
    url = f"sqlite:///{file}"
    migrations.upgrade(url)
    keep(url, "errors", {"client": "Whole"}, {"client": "Whole"})
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("PRAGMA ignore_check_constraints=ON")
        for table in READ:
            _plant(connection, tables.metadata.tables[table])
        # A text that is no UTF-8 is another kind of value than bytes.
        connection.execute(
            "UPDATE errors SET message = CAST(x'fffe' AS TEXT) WHERE rowid % 7 = 0 AND client <> 'Whole'"
        )
    return url


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
        return datetime.now(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
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
        hold = transitions.remaining_hold(record, datetime.now(UTC))
        if hold is not None and not math.isinf(hold):
            assert datetime.now(UTC) < datetime.now(UTC) + timedelta(seconds=hold)
    assert CircuitState.OPEN in {record.to_state for record in found.transitions.values()}
