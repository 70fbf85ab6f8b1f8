"""The blocking engine: settings of a database that many processes write to and none may wait long for."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event

from resilience.errors import ConfigurationError
from resilience.history import urls

BEGIN: Final = "resilience_begin"
"""Execution option: the statement that opens a transaction on SQLite; None for what must run outside of one.

Left out it is `BEGIN IMMEDIATE`: a deferred transaction that reads and then writes is refused at once, whatever the
timeout, in nine of ten cases when eight processes do it.
"""

_PRAGMAS: Final = (
    "PRAGMA synchronous=NORMAL",  # with WAL: a power cut may cost the last commits, never the file
    "PRAGMA foreign_keys=ON",
    "PRAGMA journal_size_limit=67108864",
    "PRAGMA secure_delete=FAST",  # what is deleted is gone, also in builds that leave it off
    "PRAGMA temp_store=MEMORY",
)  # no mmap_size: it widens the WAL-reset race of SQLite before 3.51.3

_POSTGRESQL: Final = "-c timezone=UTC -c statement_timeout=30s -c lock_timeout=5s -c synchronous_commit=off"


def open_engine(url: sa.URL, *, wait: float) -> sa.Engine:
    """Make an engine of one connection for *url*; on SQLite it waits *wait* seconds for another process's lock.

    Raises:
        ConfigurationError: the driver is not installed.
    """
    return _sqlite(url, wait) if urls.is_sqlite(url) else _postgresql(url)


def _sqlite(url: sa.URL, wait: float) -> sa.Engine:
    arguments = {"isolation_level": None, "check_same_thread": False, "timeout": wait}
    engine = sa.create_engine(
        urls.writing(url), poolclass=sa.QueuePool, pool_size=1, max_overflow=0, connect_args=arguments
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        statement = connection.get_execution_options().get(BEGIN, "BEGIN IMMEDIATE")
        if statement is not None:
            connection.exec_driver_sql(statement)

    return engine


def _postgresql(url: sa.URL) -> sa.Engine:
    arguments = {"options": _POSTGRESQL, "application_name": "resilience"}
    try:
        return sa.create_engine(
            urls.writing(url), pool_size=1, max_overflow=0, pool_pre_ping=True, connect_args=arguments
        )
    except ModuleNotFoundError as exc:
        msg = f"a history at {urls.shown(url)} needs a driver: pip install 'psycopg[binary]'"
        raise ConfigurationError(msg) from exc
