"""Checks of the history's database: reachable, migrated, writable, undamaged, in a safe place, on a clock that agrees.

The database is opened with the engine of the writer thread, so what works here works there. Nothing is created: agents make an
SQLite file at their first write, and the doctor only checks that they can.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from resilience.config.settings import Settings
from resilience.doctor.finding import Finding, compare_clocks, fail, ok, warn, write_error
from resilience.errors import ConfigurationError, HistoryError
from resilience.history.schema import (
    damaged_values,
    migrations,
    postgres_session,
    privileges,
    sqlite_driver,
    sqlite_hazards,
    urls,
    version_table,
)
from resilience.history.schema.engine import open_engine

_SUBJECT: Final = "history"
_LOCK_TIMEOUT: Final = 2.0
"""Seconds to wait for another process's write lock. Agents write in short transactions, so a longer wait is a problem."""


def examine(settings: Settings) -> Iterator[Finding]:
    """Check the database that the history is written to.

    Args:
        settings: complete settings. With `privacy` off there is no history to check.
    """
    if not settings.keeps_history:
        yield ok(_SUBJECT, "no history: RESILIENCE_PRIVACY is off")
        return
    text = settings.database_url or ""
    try:
        url = urls.parse(text)
        revision = migrations.current(text)
    except (ConfigurationError, HistoryError) as exc:
        yield fail(_SUBJECT, str(exc), _remedy(str(exc)))
        return
    yield _check_revision(url, revision)
    if not urls.is_sqlite(url):
        yield from _check_first_edition(url)
    if urls.is_sqlite(url):
        yield from _check_hazards(urls.path(url))
    if revision is not None:
        yield from _check_writing(url)
        if urls.is_sqlite(url) and revision == migrations.head():
            yield from _check_values(url)
    elif urls.is_sqlite(url):
        yield from _check_folder(urls.path(url))


def _check_revision(url: sa.URL, revision: str | None) -> Finding:
    """Compare the schema revision of the database with that of this code.

    Revisions are numbers with leading zeros, so they compare as text. An older SQLite file is no problem, because the first
    write migrates it. A newer database is one in every case: this code does not know its columns.

    Args:
        url: the database.
        revision: its revision; None if it has no tables.
    """
    where = urls.shown(url)
    needed = migrations.head()
    if revision == needed:
        return ok(_SUBJECT, f"{where} has the schema of this version ({revision})")
    if revision is not None and revision > needed:
        return fail(
            _SUBJECT,
            f"{where} has revision {revision}, newer than {needed} of this code",
            "upgrade the baml-resilience package here, or give RESILIENCE_DATABASE_URL another database",
        )
    message = f"{where} has {'no tables yet' if revision is None else f'revision {revision} of {needed}'}"
    if urls.is_sqlite(url):
        return ok(_SUBJECT, f"{message}; the first write migrates it")
    return fail(_SUBJECT, message, "run `resilience db upgrade`")


def _check_first_edition(url: sa.URL) -> Iterator[Finding]:
    """Name the tables that the first edition of this package left on a server. They are not read or changed."""
    engine = open_engine(url, wait=_LOCK_TIMEOUT)
    try:
        with engine.connect() as connection:
            schemas = version_table.first_edition_schemas(connection)
    finally:
        engine.dispose()
    ours = postgres_session.schema_of(url)
    for schema in schemas:
        yield warn(
            _SUBJECT,
            f"schema {schema} has tables of the first edition of this package; they are not read, the history is in schema {ours}",
            f"copy their rows with INSERT ... SELECT if you need them, then DROP calls, errors, fallbacks, instances and the other "
            f"tables of the history in {schema}; its alembic_version only if no application uses it",
        )


def _check_hazards(file: Path) -> Iterator[Finding]:
    """Report what can damage an SQLite file that several processes use."""
    if (kind := sqlite_hazards.remote(file)) is not None:
        # The write-ahead log needs memory that all processes of the file share, which only a local disk gives them.
        yield fail(
            _SUBJECT,
            f"{file} is on a network file system ({kind}), where SQLite cannot coordinate processes",
            "give RESILIENCE_DATABASE_URL a path on a local disk, or a PostgreSQL database",
        )
    if sqlite_driver.has_reset_bug(sqlite_driver.module.sqlite_version_info):
        yield warn(
            _SUBJECT,
            f"SQLite {sqlite_driver.module.sqlite_version} has a rare race between processes that can damage a file "
            "(sqlite.org/wal.html#walresetbug)",
            f"{sqlite_hazards.REMEDY}, where more than one process writes",
        )


def _check_folder(file: Path) -> Iterator[Finding]:
    """Report a folder in which the first write could not create the file."""
    if error := write_error(file.parent):
        yield fail(_SUBJECT, f"{file} cannot be created: {error}", _REMEDIES["unable to open"])


def _check_writing(url: sa.URL) -> Iterator[Finding]:
    """Take the write lock with an UPDATE that matches no row, and roll back: this proves rights without a change."""
    engine = open_engine(url, wait=_LOCK_TIMEOUT)
    try:
        with engine.connect() as connection:
            # Before the lock: waiting for it would count as a difference between the clocks.
            yield from _check_clock(connection, datetime.now(UTC))
            connection.execute(sa.text("UPDATE instances SET pid = pid WHERE instance_id = ''"))
            connection.rollback()
    except DBAPIError as exc:
        message = f"{urls.shown(url)} cannot be written: {str(exc.orig).partition(chr(10))[0]}"
        denied = privileges.is_denied(exc.orig)
        yield fail(_SUBJECT, message, privileges.remedy(url, "written") if denied else _remedy(message))
    finally:
        engine.dispose()


def _check_values(url: sa.URL) -> Iterator[Finding]:
    """Count the values of the newest rows that another program damaged. Readers show 0, an empty text or 1970 for them."""
    engine = open_engine(url, wait=_LOCK_TIMEOUT)
    try:
        with engine.connect() as connection:
            found = damaged_values.damaged_values(connection)
    except DBAPIError:
        return  # a file that cannot be read has a finding of its own
    finally:
        engine.dispose()
    newest = f"in the newest {damaged_values.NEWEST_ROWS:,} rows of each table"
    if not found:
        yield ok(_SUBJECT, f"no damaged values {newest}")
        return
    tables = (
        f"{table} {sum(counts.values()):,} ({', '.join(counts)})" for table, counts in sorted(found.items())
    )
    total = sum(sum(counts.values()) for counts in found.values())
    yield warn(
        _SUBJECT,
        f"{total:,} damaged values {newest}: {'; '.join(tables)}. They read as 0, empty or 1970, and sums leave them out",
        "find the program that writes to this file besides the agents; `resilience db check` examines the file itself",
    )


def _check_clock(connection: Any, before: datetime) -> Iterator[Finding]:
    """Compare the server's clock with ours. A file has no clock of its own.

    Args:
        connection: an open connection.
        before: our time before the server is asked.
    """
    if connection.dialect.name != "postgresql":
        return
    server_time = connection.scalar(sa.text("SELECT clock_timestamp()"))
    # The server read its clock at some moment between our two readings: their middle is the best comparison.
    middle = before + (datetime.now(UTC) - before) / 2
    yield compare_clocks("clock", "the database", (server_time - middle).total_seconds())


_REMEDIES: Final = {
    "readonly": "make the file and its folder writable for this user",
    "unable to open": "make its folder, writable for this user",
    "not a database": "move that file away",
    "malformed": "move that file away and restore a copy",
    "locked": "find the process that holds the lock; agents keep their records in memory meanwhile",
    "password authentication": "give the user and password of the server in the URL",
    "no password supplied": "give the user and password of the server in the URL",
    "does not exist": "create the database, then run `resilience db upgrade`",
    "permission denied": "GRANT this user the tables, or name another user in the URL",
}
"""Remedies by words of an error message. The first that matches is used."""


def _remedy(message: str) -> str:
    """Return what mends the problem that *message* is about. Drivers give no codes that both databases share."""
    default = "correct RESILIENCE_DATABASE_URL, or start the server it names; calls go on meanwhile"
    return next((remedy for words, remedy in _REMEDIES.items() if words in message), default)
