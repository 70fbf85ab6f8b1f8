"""Read-only connections, and the meaning of the errors that databases give to readers."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from resilience.errors import ConfigurationError, HistoryError
from resilience.history.schema import (
    migrations,
    postgres_session,
    privileges,
    sqlite_driver,
    tolerant_types,
    urls,
)
from resilience.history.schema.db_errors import missing_object

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_BUSY: Final = 5.0
"""Seconds to wait for a lock on the file. Only its first set-up takes one that readers meet: in WAL mode writers block no reader."""
_SETTINGS: Final = {"statement_timeout": "30s", "transaction_read_only": "on"}
_REMEDY: Final = "run `resilience db upgrade`"


def open_blocking(url: sa.URL) -> sa.Engine:
    """Make an engine that opens a connection for each read and closes it afterwards.

    Such an engine needs no closing and survives a fork, since it holds nothing between two reads.

    Raises:
        ConfigurationError: the driver is not installed.
    """
    try:
        engine = sa.create_engine(
            urls.writing(url),
            poolclass=sa.NullPool,
            hide_parameters=True,  # filters may hold personal data: not in errors and logs of SQLAlchemy
            **_options(url),
            **_module(url, sqlite_driver.module),
        )
    except ModuleNotFoundError as exc:
        raise _without_driver(url) from exc
    return _guarded(engine, url)


def open_async(url: sa.URL) -> AsyncEngine:
    """Make an engine with a pool of four connections, opened when needed.

    Raises:
        ConfigurationError: the driver is not installed.
    """
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - imports for 0.3 s, and only readers need it

    # A server closes idle connections: pre-ping replaces them. A file has no one to close them.
    pool: dict[str, Any] = {
        "hide_parameters": True,
        "pool_size": 4,
        "max_overflow": 0,
        "pool_pre_ping": not urls.is_sqlite(url),
    }
    pool |= _module(url, sqlite_driver.awaited())
    try:
        engine = create_async_engine(urls.reading(url), **_options(url), **pool)
    except ModuleNotFoundError as exc:
        raise _without_driver(url) from exc
    _guarded(engine.sync_engine, url)
    return engine


def _module(url: sa.URL, module: ModuleType | None) -> dict[str, Any]:
    return {"module": module} if module is not None and urls.is_sqlite(url) else {}


def interpret(exc: DBAPIError, url: sa.URL) -> HistoryError | None:
    """Return the error that a driver's error means to a reader; None if there is no history yet, which reads as empty.

    Blocks: if tables are missing it opens a connection to read the revision of the database.
    """
    if missing_object(exc.orig) is None:
        remedy = f"; {privileges.remedy(url, 'read')}" if privileges.is_denied(exc.orig) else ""
        return HistoryError(
            f"the history at {urls.shown(url)} cannot be read: {str(exc.orig).strip()}{remedy}"
        )
    revision = migrations.current(url.render_as_string(hide_password=False))
    if urls.is_sqlite(url) and revision in {None, migrations.head()} and missing_object(exc.orig) == "table":
        # At the newest revision the tables came after the read, from the first process that writes here: it read an empty history.
        return None
    if revision is None:
        return HistoryError(f"the history at {urls.shown(url)} has no tables yet: {_REMEDY}")
    if revision > migrations.head():
        return migrations.NewerHistoryError(
            f"the history at {urls.shown(url)} has revision {revision}, newer than {migrations.head()} of this code: "
            "upgrade the baml-resilience package here"
        )
    return HistoryError(
        f"the history at {urls.shown(url)} has revision {revision} and lacks what this code, of revision {migrations.head()}, reads "
        f"({str(exc.orig).splitlines()[0]}): {_REMEDY}"
    )


def _options(url: sa.URL) -> dict[str, Any]:
    if urls.is_sqlite(url):
        # isolation_level None: the sqlite3 module then opens no transaction by itself.
        return {"connect_args": {"timeout": _BUSY, "isolation_level": None}}
    return {
        "connect_args": postgres_session.connect_arguments(url),
        "execution_options": postgres_session.qualified(url),
    }


def _guarded(engine: sa.Engine, url: sa.URL) -> sa.Engine:
    tolerant_types.read_tolerantly(engine)
    if urls.is_sqlite(url):
        event.listen(engine, "connect", _only_read)
    else:
        settings = postgres_session.transaction_settings(url, _SETTINGS)
        postgres_session.set_in_each_transaction(engine, settings)
    return engine


def _only_read(connection: Any, _record: Any) -> None:
    # SQLite then refuses every change by this connection. PostgreSQL does the same by transaction_read_only.
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only=ON")
    cursor.close()


def _without_driver(url: sa.URL) -> ConfigurationError:
    return ConfigurationError(
        f"a history at {urls.shown(url)} needs a driver: pip install 'baml-resilience[postgres]'"
    )
