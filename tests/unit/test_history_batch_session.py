"""The kept connection of batches: the same transactions as those of SQLAlchemy, and the connection is given back to other work."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from resilience.history.schema.db_errors import error_kind
from resilience.history.schema.engine import open_engine
from resilience.history.schema.error_kinds import DatabaseErrorKind
from resilience.history.schema.statements import run_on_sqlite
from resilience.history.schema.urls import parse
from resilience.history.store.batch_session import BatchSession
from resilience.history.store.database import Database


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    """Return an engine on a file with one table."""
    engine = open_engine(parse(f"sqlite:///{tmp_path}/session.db"), wait=0.5)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x INTEGER)")
    return engine


def rows(engine: sa.Engine) -> list[int]:
    """Return what is committed, read by the engine: its only connection must be free."""
    with engine.begin() as connection:
        return [x for (x,) in connection.exec_driver_sql("SELECT x FROM t ORDER BY x")]


def broken(session: BatchSession, statement: str) -> None:
    """Run a batch that raises before its end."""
    with session.begin() as connection:
        run_on_sqlite(connection, "INSERT INTO t VALUES (5)")
        connection.execute(sa.text(statement))
        raise RuntimeError


def test_a_batch_is_committed_as_a_whole_or_not_at_all(engine: sa.Engine) -> None:
    """By the driver alone and through SQLAlchemy, also mixed; after an exception nothing of the batch is left."""
    session = BatchSession(engine)
    with session.begin() as connection:
        run_on_sqlite(connection, "INSERT INTO t VALUES (1)")
    with session.begin() as connection:
        run_on_sqlite(connection, "INSERT INTO t VALUES (2)")
        connection.execute(sa.text("INSERT INTO t VALUES (3)"))
    for statement in ("INSERT INTO t VALUES (4)", "INSERT INTO nowhere VALUES (4)"):
        with pytest.raises((sa.exc.OperationalError, RuntimeError)):
            broken(session, statement)
    with session.begin() as connection:
        run_on_sqlite(connection, "INSERT INTO t VALUES (6)")
    session.close()

    assert rows(engine) == [1, 2, 3, 6]
    engine.dispose()


def test_a_batch_waits_a_tenth_of_a_second_for_a_lock_and_then_works_again(engine: sa.Engine) -> None:
    """A locked file is the kind of error that is tried again, and the time limit of other work is not touched."""
    session, other = BatchSession(engine), open_engine(engine.url, wait=0.5)
    with session.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 100
    with other.begin(), pytest.raises(sa.exc.OperationalError) as locked, session.begin():
        pass
    assert error_kind(locked.value) is DatabaseErrorKind.LOCKED
    with session.begin() as connection:
        run_on_sqlite(connection, "INSERT INTO t VALUES (1)")
    session.close()
    with engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 500

    assert rows(engine) == [1]
    other.dispose()
    engine.dispose()


def test_other_work_gets_the_connection_between_two_batches(tmp_path: Path) -> None:
    """The engine has one connection. A batch keeps it, and whatever else uses the database takes it over."""
    database = Database(parse(f"sqlite:///{tmp_path}/history.db"))
    for _ in range(2):
        with database._batches().begin() as connection:
            connection.execute(sa.text("SELECT 1"))
        assert database.do(lambda connection: connection.scalar(sa.text("SELECT 2"))) == 2
        with database.opened().connect() as connection:
            assert connection.scalar(sa.text("SELECT 3")) == 3
    database.close()
