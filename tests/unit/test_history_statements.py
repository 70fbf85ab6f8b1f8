"""Statements that the driver of SQLite runs by itself store and refuse what SQLAlchemy would."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, StatementError
from support.history_records import call, error

from resilience.history.schema import db_time, rows, tables, upserts
from resilience.history.schema.db_errors import error_kind
from resilience.history.schema.engine import WAIT, open_engine
from resilience.history.schema.error_kinds import DatabaseErrorKind
from resilience.history.schema.statements import execute
from resilience.history.schema.urls import parse
from resilience.history.store.counter_rows import adding, shape


@pytest.fixture
def connection(tmp_path: Any) -> Iterator[sa.Connection]:
    engine = open_engine(parse(f"sqlite:///{tmp_path}/statements.db"), wait=1.0)
    with engine.begin() as connection:
        tables.metadata.create_all(connection)
        yield connection
    engine.dispose()


def stored(connection: sa.Connection, table: sa.Table) -> list[tuple[Any, ...]]:
    """Return the rows as SQLite has them, with the type of each value."""
    found = connection.exec_driver_sql(f"SELECT * FROM {table.name} ORDER BY 1")  # noqa: S608 - a name of ours
    return [tuple((type(value), value) for value in row) for row in found]


def test_rows_are_stored_as_sqlalchemy_stores_them(connection: sa.Connection) -> None:
    """Times of any zone, booleans, JSON, nulls and literals of the statement have the same stored form."""
    east = timezone(timedelta(hours=5, minutes=30))
    failed = error(occurred_at=datetime(2026, 3, 1, 4, 5, 6, 7, east), detail={"a": ["ü", None]}, late=True)
    made = [rows.row(each, "i" * 32) for each in (failed, error(detail=None))]
    called = [rows.row(call(recovery=None, tags={"x": 1}), "i" * 32)]
    for table, given in ((tables.errors, made), (tables.calls, called)):
        statement = upserts.insert("sqlite", table).on_conflict_do_nothing()
        assert execute(connection, statement, given) == len(given)
        by_driver = stored(connection, table)
        connection.execute(sa.delete(table))
        connection.execute(statement, given)
        assert by_driver == stored(connection, table)
        assert execute(connection, statement, given) == 0, "they are there already"


def test_literals_of_a_statement_are_kept(connection: sa.Connection) -> None:
    """Parameters that the statement itself brings are bound at their places, between those of the rows."""
    key: dict[str, Any] = {"namespace": "n", "client": "c", "function": "f", "grain": 60}
    row = {"bucket_at": datetime(2026, 1, 1, tzinfo=UTC), **key, **shape(tables.rollups).zeros, "calls": 2}
    for _ in range(3):
        execute(connection, adding("sqlite", tables.rollups), [row])
    assert connection.scalar(sa.select(tables.rollups.c.calls)) == 6
    statement = upserts.insert("sqlite", tables.policies).values(first_seen_at=db_time.now("sqlite"))
    execute(connection, statement, [{"policy_id": "p", "settings": {"a": 1}}])
    found = connection.execute(sa.select(tables.policies)).one()
    assert (found.policy_id, found.settings) == ("p", {"a": 1})
    assert abs(found.first_seen_at - datetime.now(UTC)) < timedelta(minutes=5)


def test_errors_are_those_of_sqlalchemy(connection: sa.Connection) -> None:
    """What cannot be stored is an error of one record, and no value of it is in the text."""
    statement = upserts.insert("sqlite", tables.calls)
    row = rows.row(call(function="private"), "i" * 32)
    unstorable = ({"started_at": datetime(2026, 1, 1)}, {"duration": object()}, {"function": None})  # noqa: DTZ001 - that is the mistake
    for wrong in unstorable:
        with pytest.raises(StatementError) as caught:
            execute(connection, statement, [{**row, **wrong}])
        assert error_kind(caught.value) is DatabaseErrorKind.POISON
        assert "private" not in str(caught.value)
    execute(connection, statement, [row])
    with pytest.raises(IntegrityError):
        execute(connection, statement, [row])


def test_each_transaction_waits_for_a_lock_as_long_as_it_asked_for(tmp_path: Any) -> None:
    """The wait is set only where it differs from that of the transaction before, on one connection that serves both kinds."""
    engine = open_engine(parse(f"sqlite:///{tmp_path}/waits.db"), wait=1.0)
    hasty = engine.execution_options(**{WAIT: 0.1})
    said: list[str] = []
    sa.event.listen(
        engine, "connect", lambda connection, _: connection.set_trace_callback(said.append), insert=True
    )
    waits = []
    for each in (engine, engine, hasty, hasty, engine):
        with each.begin() as connection:
            waits.append(connection.exec_driver_sql("PRAGMA busy_timeout").scalar())
    engine.dispose()

    assert waits == [1000, 1000, 100, 100, 1000]
    assert [sql for sql in said if "busy_timeout=" in sql] == [
        "PRAGMA busy_timeout=1000",
        "PRAGMA busy_timeout=100",
        "PRAGMA busy_timeout=1000",
    ]
