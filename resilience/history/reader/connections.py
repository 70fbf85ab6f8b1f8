"""Connections that only read, and what it means when the database does not answer."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from resilience.errors import ConfigurationError, HistoryError
from resilience.history.schema import migrations, sqlite_driver, urls
from resilience.history.schema.engine import noticing

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_BUSY: Final = 5.0
"""Seconds a read waits while the file is being set up; later no writer keeps a reader waiting."""
_OPTIONS: Final = "-c timezone=UTC -c statement_timeout=30s -c default_transaction_read_only=on"
_MISSING: Final = frozenset({"42P01", "42703"})  # PostgreSQL: no such table, no such column
_REMEDY: Final = "run `resilience db upgrade`"


def is_there(url: sa.URL) -> bool:
    """Is there something to read: a server, or a file that was made?"""
    return not urls.is_sqlite(url) or urls.path(url).exists()


def open_blocking(url: sa.URL) -> sa.Engine:
    """An engine that opens a connection for each question and closes it after: nothing to close, nothing to fork.

    Raises:
        ConfigurationError: the driver is not installed.
    """
    try:
        engine = sa.create_engine(
            urls.writing(url),
            poolclass=sa.NullPool,
            hide_parameters=True,
            connect_args=_arguments(url),
            **_module(url, sqlite_driver.module),
        )
    except ModuleNotFoundError as exc:
        raise _without_driver(url) from exc
    return _guarded(engine, url)


def open_awaited(url: sa.URL) -> AsyncEngine:
    """An engine with a few connections.

    Raises:
        ConfigurationError: the driver is not installed.
    """
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - 0.3 s of importing, for readers alone

    pool: dict[str, Any] = {
        "hide_parameters": True,
        "pool_size": 4,
        "max_overflow": 0,
        "pool_pre_ping": not urls.is_sqlite(url),
    }
    pool |= _module(url, sqlite_driver.awaited())
    try:
        engine = create_async_engine(urls.reading(url), connect_args=_arguments(url), **pool)
    except ModuleNotFoundError as exc:
        raise _without_driver(url) from exc
    _guarded(engine.sync_engine, url)
    return engine


def _module(url: sa.URL, module: ModuleType | None) -> dict[str, Any]:
    return {"module": module} if module is not None and urls.is_sqlite(url) else {}


def interpret(exc: DBAPIError, url: sa.URL) -> HistoryError | None:
    """What a refusal of the database means to a reader; None where there is no history yet, which is no error.

    Opens a connection of its own when tables are missing, to see which revision the database has.
    """
    if not is_missing(exc.orig):
        return HistoryError(f"the history at {urls.shown(url)} cannot be read: {str(exc.orig).strip()}")
    found = migrations.current(url.render_as_string(hide_password=False))
    if found is None and urls.is_sqlite(url):
        return None
    if found is None:
        return HistoryError(f"the history at {urls.shown(url)} has no tables yet: {_REMEDY}")
    if found > migrations.head():
        return migrations.NewerHistoryError(
            f"the history at {urls.shown(url)} has revision {found}, newer than {migrations.head()} of this code: "
            "upgrade the baml-resilience package here"
        )
    return HistoryError(
        f"the history at {urls.shown(url)} has revision {found} and lacks what this code, of revision {migrations.head()}, reads "
        f"({str(exc.orig).splitlines()[0]}): {_REMEDY}"
    )


def is_missing(exc: BaseException | None) -> bool:
    """Does a driver's error say that there is no such table, view or column?"""
    if isinstance(exc, sqlite_driver.module.Error):
        return str(exc).startswith(("no such table", "no such column"))
    return getattr(exc, "sqlstate", None) in _MISSING


def _arguments(url: sa.URL) -> dict[str, Any]:
    if urls.is_sqlite(url):
        return {"timeout": _BUSY, "isolation_level": None}
    return {**noticing(url), "options": _OPTIONS, "application_name": "resilience"}


def _guarded(engine: sa.Engine, url: sa.URL) -> sa.Engine:
    if urls.is_sqlite(url):
        event.listen(engine, "connect", _only_read)
    return engine


def _only_read(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only=ON")
    cursor.close()


def _without_driver(url: sa.URL) -> ConfigurationError:
    return ConfigurationError(
        f"a history at {urls.shown(url)} needs a driver: pip install 'baml-resilience[postgres]'"
    )
