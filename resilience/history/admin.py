"""Maintenance by an operator: check the database, vacuum it, prune it."""

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
from resilience.history.schema import (
    migrations,
    postgres_session,
    sqlite_driver,
    sqlite_hazards,
    tables,
    urls,
    version_table,
)
from resilience.history.schema.db_errors import describe_error
from resilience.history.schema.engine import BEGIN, open_engine
from resilience.history.store.database import Database

_LOCK_TIMEOUT: Final = 30.0
"""Seconds to wait for a lock of another process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The state of the database.

    Attributes:
        where: its URL, without its password.
        server: the database software and its version.
        revision: the revision it has; None without tables.
        needed: the revision this code needs.
        integrity: `ok`, or the first problem that SQLite's quick_check found; empty for a server.
        size: bytes on disk.
        wal: bytes of SQLite's write-ahead log.
        processes: how many processes wrote in the last five minutes.
        rows: number of rows by table.
        problems: what should be fixed, as sentences with their remedies.
        warnings: what is rare or may be meant, and is no reason to fail a check; `doctor` warns of the same.
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
    warnings: list[str] = field(default_factory=list)


def check(url: str) -> Health:
    """Check the database at *url*. Changes nothing.

    Raises:
        ConfigurationError: *url* cannot be used.
        HistoryError: the database cannot be reached or read.
    """
    parsed = urls.parse(url)
    # Opening an SQLite file creates it, and a check must create nothing.
    if urls.is_sqlite(parsed) and not urls.path(parsed).exists():
        msg = (
            f"there is no history at {urls.shown(parsed)} yet: it is created when the first call is recorded"
        )
        raise HistoryError(msg)
    with _engine(parsed) as engine, engine.connect().execution_options(**{BEGIN: "BEGIN"}) as connection:
        revision = version_table.revision(connection)
        health = (
            _of_file(connection, parsed, revision)
            if urls.is_sqlite(parsed)
            else _of_server(connection, parsed, revision)
        )
        if revision == migrations.head():
            _count(connection, health)
        return health


def vacuum(url: str) -> None:
    """Rebuild the database without free space. SQLite needs exclusive use of the file, and twice its size, for the time.

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
                # VACUUM writes the whole database to the write-ahead log. Without TRUNCATE the log would keep that size.
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return
        # VACUUM cannot run inside a transaction. The time limits of a writer are those of its transactions, so none applies.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            schema = postgres_session.quoted(postgres_session.schema_of(parsed))
            for table in tables.metadata.sorted_tables:
                connection.exec_driver_sql(f"VACUUM (ANALYZE) {schema}.{table.name}")


def prune(url: str, retention: Retention) -> dict[str, int]:
    """Delete the rows that *retention* does not keep, by the database's clock.

    Args:
        url: the database.
        retention: how long each kind of row is kept.

    Returns:
        How many rows of each table were deleted.

    Raises:
        ConfigurationError: *url* cannot be used.
        HistoryError: the database cannot be written.
    """
    parsed = urls.parse(url)
    database = Database(parsed)
    deleted: dict[str, int] = {}
    try:
        for table, count in pruning.prune(database, retention):
            deleted[table] = deleted.get(table, 0) + count
    except DBAPIError as exc:
        raise HistoryError(describe_error(exc, urls.shown(parsed))) from exc
    finally:
        database.close()
    return deleted


@contextmanager
def _engine(url: sa.URL) -> Iterator[sa.Engine]:
    engine = open_engine(url, wait=_LOCK_TIMEOUT)
    try:
        yield engine
    except DBAPIError as exc:
        raise HistoryError(describe_error(exc, urls.shown(url))) from exc
    finally:
        engine.dispose()


def _of_file(connection: sa.Connection, url: sa.URL, revision: str | None) -> Health:
    path = urls.path(url)
    wal = path.with_name(f"{path.name}-wal")
    # quick_check stops at the first problem and does not compare indexes with tables, which would take several times as long.
    integrity = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
    lost = revision is None and version_table.is_lost(connection)
    problems, warnings = [version_table.LOST] if lost else _problems(revision), list[str]()
    if integrity != "ok":
        problems.append(
            "the file is damaged: move it away and restore a copy, or run `sqlite3 FILE .recover`"
        )
    if kind := sqlite_hazards.remote(path):
        problems.append(
            f"it is on a network file system ({kind}), where SQLite cannot lock: move it to a local disk"
        )
    alive = sqlite_hazards.processes(connection) if revision == migrations.head() else 0
    if alive > 1 and sqlite_driver.has_reset_bug(sqlite_driver.module.sqlite_version_info):
        warnings.append(
            f"{alive} processes share it with an SQLite whose write-ahead log has a rare race: {sqlite_hazards.REMEDY}"
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
        warnings=warnings,
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
    # Revisions have four digits, so they compare as text.
    if revision is not None and revision > migrations.head():
        return [
            f"revision {revision} is newer than {migrations.head()} of this code: upgrade the baml-resilience package here"
        ]
    return [
        f"revision {revision or 'none'}, this code needs {migrations.head()}: run `resilience db upgrade`"
    ]


def _count(connection: sa.Connection, health: Health) -> None:
    # A full count reads each table. That is slow on large ones, but only an operator asks for it.
    for table in tables.metadata.sorted_tables:
        health.rows[table.name] = int(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)
