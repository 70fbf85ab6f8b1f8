"""Looks at the database of the history: reached, upgraded, writable, and on a clock that agrees."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from resilience.config.settings import Settings
from resilience.doctor.clocks import skewed
from resilience.doctor.finding import Finding, fail, ok, warn
from resilience.doctor.places import refusal
from resilience.errors import ConfigurationError, HistoryError
from resilience.history.schema import migrations, sqlite_driver, sqlite_hazards, urls
from resilience.history.schema.engine import open_engine

_SUBJECT: Final = "history"
_WAIT: Final = 2.0
"""Seconds to wait for another process's lock."""


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at the database the history is kept in."""
    if not settings.keeps_history:
        yield ok(_SUBJECT, "none is kept: RESILIENCE_PRIVACY is off")
        return
    url = settings.database_url or ""
    try:
        parsed = urls.parse(url)
        found = migrations.current(url)
    except (ConfigurationError, HistoryError) as exc:
        yield fail(_SUBJECT, str(exc), _remedy(str(exc)))
        return
    yield _revised(parsed, found)
    if urls.is_sqlite(parsed):
        yield from _dangers(urls.path(parsed))
    if found is not None:
        yield from _entered(parsed)
    elif urls.is_sqlite(parsed):
        yield from _makeable(urls.path(parsed))


def _revised(url: sa.URL, found: str | None) -> Finding:
    where = urls.shown(url)
    if found == migrations.head():
        return ok(_SUBJECT, f"{where} has the tables of this version ({found})")
    if found is not None and found > migrations.head():
        return fail(
            _SUBJECT,
            f"{where} has revision {found}, newer than {migrations.head()} of this code",
            "upgrade the baml-resilience package here, or give RESILIENCE_DATABASE_URL another database",
        )
    says = f"{where} has {'no tables yet' if found is None else f'revision {found} of {migrations.head()}'}"
    if urls.is_sqlite(url):
        return ok(_SUBJECT, f"{says}; the first write makes them")
    return fail(_SUBJECT, says, "run `resilience db upgrade`")


def _dangers(file: Path) -> Iterator[Finding]:
    """What can damage a file that several processes share."""
    if (kind := sqlite_hazards.remote(file)) is not None:
        yield fail(
            _SUBJECT,
            f"{file} lies on a network file system ({kind}), where SQLite cannot keep processes apart",
            "give RESILIENCE_DATABASE_URL a path on a local disk, or a PostgreSQL database",
        )
    if sqlite_driver.has_reset_bug(sqlite_driver.module.sqlite_version_info):
        yield warn(
            _SUBJECT,
            f"SQLite {sqlite_driver.module.sqlite_version} has a rare race between processes that can damage a file "
            "(sqlite.org/wal.html#walresetbug)",
            f"{sqlite_hazards.CURE}, where more than one process writes",
        )


def _makeable(file: Path) -> Iterator[Finding]:
    """Could the first write make the file?"""
    if why := refusal(file.parent):
        yield fail(_SUBJECT, f"{file} cannot be made: {why}", _REMEDIES["unable to open"])


def _entered(url: sa.URL) -> Iterator[Finding]:
    """Take the lock of a writer, and let it go again."""
    engine = open_engine(url, wait=_WAIT)
    try:
        with engine.connect() as connection:
            began = datetime.now(UTC)
            yield from _clock(connection, began)
            connection.execute(sa.text("UPDATE instances SET pid = pid WHERE instance_id = ''"))
            connection.rollback()
    except DBAPIError as exc:
        says = f"{urls.shown(url)} cannot be written: {str(exc.orig).partition(chr(10))[0]}"
        yield fail(_SUBJECT, says, _remedy(says))
    finally:
        engine.dispose()


def _clock(connection: Any, began: datetime) -> Iterator[Finding]:
    if connection.dialect.name != "postgresql":
        return
    theirs = connection.scalar(sa.text("SELECT clock_timestamp()"))
    middle = began + (datetime.now(UTC) - began) / 2
    yield skewed("clock", "the database", (theirs - middle).total_seconds())


_REMEDIES: Final = {
    "readonly": "make the file and its folder writable for this user",
    "unable to open": "make its folder, writable for this user",
    "not a database": "move that file away",
    "malformed": "move that file away and restore a copy",
    "locked": "find the process that holds the lock; resilience keeps records in memory meanwhile",
    "password authentication": "give the user and password of the server in the URL",
    "no password supplied": "give the user and password of the server in the URL",
    "does not exist": "create the database, then run `resilience db upgrade`",
    "permission denied": "GRANT this user the tables, or name another user in the URL",
}


def _remedy(says: str) -> str:
    otherwise = "correct RESILIENCE_DATABASE_URL, or start the server it names; calls go on meanwhile"
    return next((remedy for words, remedy in _REMEDIES.items() if words in says), otherwise)
