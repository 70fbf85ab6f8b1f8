"""What an operator asks of the database and does to it: is it whole, how large is it, make it smaller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from resilience.errors import HistoryError
from resilience.history.retention import pruning
from resilience.history.retention.policy import Retention
from resilience.history.schema import migrations, sqlite_driver, sqlite_hazards, tables, urls
from resilience.history.schema.db_errors import complaint
from resilience.history.schema.engine import BEGIN, open_engine
from resilience.history.store.database import Database

_WAIT: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a history's database is.

    Attributes:
        where: its URL, without a password.
        server: the software that keeps it, with its version.
        revision: the revision it has; None without tables.
        needed: the revision this code needs.
        integrity: `ok`, or what SQLite's quick_check found; empty where the server looks after that itself.
        size: bytes on disk.
        wal: bytes of SQLite's write-ahead log.
        processes: how many wrote in the last five minutes.
        rows: of each table.
        problems: what should be mended, in words.
    """

    where: str
    server: str
    revision: str | None
    needed: str = field(default_factory=migrations.head)
    integrity: str = ""
    size: int = 0
    wal: int = 0
    processes: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def check(url: str) -> Health:
    """Look at everything, change nothing.

    Raises:
        ConfigurationError: *url* cannot be used.
        HistoryError: the database cannot be reached or read.
    """
    parsed = urls.parse(url)
    if urls.is_sqlite(parsed) and not urls.path(parsed).exists():
        msg = f"there is no history at {urls.shown(parsed)} yet: it is made when the first call is recorded"
        raise HistoryError(msg)
    with _engine(parsed) as engine, engine.connect().execution_options(**{BEGIN: "BEGIN"}) as connection:
        revision = migrations.revision(connection)
        health = (
            _of_file(connection, parsed, revision)
            if urls.is_sqlite(parsed)
            else _of_server(connection, parsed, revision)
        )
        if revision == migrations.head():
            _count(connection, health)
        return health


def vacuum(url: str) -> None:
    """Build the database anew without holes. SQLite needs the file for itself and twice its space meanwhile.

    Raises:
        ConfigurationError: *url* cannot be used.
        HistoryError: the database cannot be reached, or is in use for too long.
    """
    parsed = urls.parse(url)
    with _engine(parsed) as engine:
        if urls.is_sqlite(parsed):
            migrations.upgrade(url)
            with engine.connect().execution_options(**{BEGIN: None}) as connection:
                connection.exec_driver_sql("VACUUM")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("SET statement_timeout = 0")
            for table in tables.metadata.sorted_tables:
                connection.exec_driver_sql(f"VACUUM (ANALYZE) {table.name}")


def prune(url: str, retention: Retention) -> dict[str, int]:
    """Delete what *retention* does not keep; gives how many rows of each table went.

    Raises:
        ConfigurationError: *url* cannot be used.
        HistoryError: the database cannot be written.
    """
    parsed = urls.parse(url)
    database = Database(parsed)
    gone: dict[str, int] = {}
    try:
        for table, count in pruning.prune(database, retention):
            gone[table] = gone.get(table, 0) + count
    except DBAPIError as exc:
        raise HistoryError(complaint(exc, urls.shown(parsed))) from exc
    finally:
        database.close()
    return gone


@contextmanager
def _engine(url: sa.URL) -> Iterator[sa.Engine]:
    engine = open_engine(url, wait=_WAIT)
    try:
        yield engine
    except DBAPIError as exc:
        raise HistoryError(complaint(exc, urls.shown(url))) from exc
    finally:
        engine.dispose()


def _of_file(connection: sa.Connection, url: sa.URL, revision: str | None) -> Health:
    path = urls.path(url)
    wal = path.with_name(f"{path.name}-wal")
    integrity = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
    problems = _problems(revision)
    if integrity != "ok":
        problems.append("the file is damaged: move it away and restore a copy, or `sqlite3 FILE .recover`")
    if kind := sqlite_hazards.remote(path):
        problems.append(
            f"it lies on a network file system ({kind}), where SQLite cannot keep processes apart"
        )
    alive = sqlite_hazards.processes(connection) if revision == migrations.head() else 0
    if alive > 1 and sqlite_driver.has_reset_bug(sqlite_driver.module.sqlite_version_info):
        problems.append(
            f"{alive} processes share it with an SQLite whose write-ahead log has a rare race: {sqlite_hazards.CURE}"
        )
    return Health(
        where=urls.shown(url),
        server=f"SQLite {sqlite_driver.module.sqlite_version}",
        revision=revision,
        integrity=integrity,
        size=path.stat().st_size,
        wal=wal.stat().st_size if wal.exists() else 0,
        processes=alive,
        problems=problems,
    )


def _of_server(connection: sa.Connection, url: sa.URL, revision: str | None) -> Health:
    version = connection.scalar(sa.text("SHOW server_version"))
    return Health(
        where=urls.shown(url),
        server=f"PostgreSQL {version}",
        revision=revision,
        size=int(connection.scalar(sa.text("SELECT pg_database_size(current_database())")) or 0),
        processes=sqlite_hazards.processes(connection) if revision == migrations.head() else 0,
        problems=_problems(revision),
    )


def _problems(revision: str | None) -> list[str]:
    if revision == migrations.head():
        return []
    if revision is not None and revision > migrations.head():
        return [
            f"revision {revision} is newer than {migrations.head()} of this code: upgrade the baml-resilience package here"
        ]
    return [
        f"revision {revision or 'none'}, this code needs {migrations.head()}: run `resilience db upgrade`"
    ]


def _count(connection: sa.Connection, health: Health) -> None:
    for table in tables.metadata.sorted_tables:
        health.rows[table.name] = int(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)
