"""The blocking engine for writing: connection settings for a database that many processes share and none may wait for long."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event

from resilience import file_trust
from resilience.errors import ConfigurationError, HistoryError
from resilience.history.durability import Durability
from resilience.history.schema import postgres_session, sqlite_driver, statements, urls

BEGIN: Final = "resilience_begin"
"""Execution option: the statement that begins a transaction on SQLite, or None for statements that must run outside of one.

The default is `BEGIN IMMEDIATE`, which takes the write lock at once and waits for it. A deferred transaction takes it at its
first write. If it has read before and another process has written since, SQLite refuses it at once, whatever the busy timeout:
with eight processes nine of ten such transactions fail. Readers pass `BEGIN`, because they need no lock.
"""

WAIT: Final = "resilience_wait"
"""Execution option: seconds that a transaction on SQLite waits for its lock, where that differs from the engine's *wait*."""

_PRAGMAS: Final = (
    "PRAGMA foreign_keys=ON",
    # After a checkpoint the write-ahead log shrinks to 64 MB again, however large a long reader has let it grow.
    "PRAGMA journal_size_limit=67108864",
    # Deleted rows are overwritten where that costs no extra I/O. Some builds have that off.
    "PRAGMA secure_delete=FAST",
    "PRAGMA temp_store=MEMORY",
)
# There is no mmap_size here: it makes the WAL-reset race of SQLite before 3.51.3 more likely.

_POSTGRESQL: Final = {"statement_timeout": "30s", "lock_timeout": "5s"}


def open_engine(url: sa.URL, *, wait: float, durability: Durability = "normal") -> sa.Engine:
    """Return an engine with one connection.

    Args:
        url: the database, as returned by `urls.parse`.
        wait: seconds to wait for the lock of another process, on SQLite.
        durability: whether each commit waits for the disk.

    Raises:
        ConfigurationError: the driver is not installed.
        HistoryError: the SQLite file, or its folder, is one that another user controls.
    """
    if urls.is_sqlite(url):
        _check_file(url)
    return _sqlite(url, wait, durability) if urls.is_sqlite(url) else _postgresql(url, durability)


def _check_file(url: sa.URL) -> None:
    try:
        file_trust.check_database(urls.path(url))
    except file_trust.UntrustedFileError as exc:
        msg = f"the history at {urls.shown(url)} is not used: {exc}"
        raise HistoryError(msg) from None


def _sqlite(url: sa.URL, wait: float, durability: Durability) -> sa.Engine:
    # isolation_level None: the sqlite3 module then begins no transaction by itself, and BEGIN is ours to send, below.
    arguments = {"isolation_level": None, "check_same_thread": False, "timeout": wait}
    engine = sa.create_engine(
        urls.writing(url),
        module=sqlite_driver.module,
        poolclass=sa.QueuePool,
        pool_size=1,
        max_overflow=0,
        hide_parameters=True,  # the log and the errors of SQLAlchemy must not show values
        connect_args=arguments,
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in (f"PRAGMA synchronous={durability.upper()}", *_PRAGMAS):
            cursor.execute(pragma)
        cursor.close()

    # The driver is in autocommit mode and begins no transaction by itself. This does.
    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        statement = options.get(BEGIN, "BEGIN IMMEDIATE")
        if statement is not None:
            # The same connection serves transactions that may wait and some that may not.
            if connection.info.get(WAIT) != (limit := options.get(WAIT, wait)):
                statements.run_on_sqlite(connection, f"PRAGMA busy_timeout={limit * 1000:.0f}")
                connection.info[WAIT] = limit
            statements.run_on_sqlite(connection, statement)

    return engine


def _postgresql(url: sa.URL, durability: Durability) -> sa.Engine:
    settings = _POSTGRESQL if durability == "full" else {**_POSTGRESQL, "synchronous_commit": "off"}
    try:
        engine = sa.create_engine(
            urls.writing(url),
            pool_size=1,
            max_overflow=0,
            hide_parameters=True,
            # A server or a pooler may have closed an idle connection: test it before a batch, not with one.
            pool_pre_ping=True,
            connect_args=postgres_session.connect_arguments(url, connect_timeout=5),
            execution_options=postgres_session.qualified(url),
        )
    except ModuleNotFoundError as exc:
        msg = f"a history at {urls.shown(url)} needs a driver: pip install 'baml-resilience[postgres]'"
        raise ConfigurationError(msg) from exc
    postgres_session.set_in_each_transaction(engine, postgres_session.transaction_settings(url, settings))
    return engine
