"""The blocking engine: settings of a database that many processes write to and none may wait long for."""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

import sqlalchemy as sa
from sqlalchemy import event

from resilience.errors import ConfigurationError
from resilience.history.schema import sqlite_driver, urls

Durability = Literal["normal", "full"]
"""`full` waits for the disk at every commit; `normal` may lose the last commits in a power cut, and never the database."""
DURABILITIES: Final[tuple[Durability, ...]] = get_args(Durability)

BEGIN: Final = "resilience_begin"
"""Execution option: the statement that opens a transaction on SQLite; None for what must run outside of one.

Left out it is `BEGIN IMMEDIATE`: a deferred transaction that reads and then writes is refused at once, whatever the
timeout, in nine of ten cases when eight processes do it.
"""

_PRAGMAS: Final = (
    "PRAGMA foreign_keys=ON",
    "PRAGMA journal_size_limit=67108864",
    "PRAGMA secure_delete=FAST",  # what is deleted is gone, also in builds that leave it off
    "PRAGMA temp_store=MEMORY",
)  # no mmap_size: it widens the WAL-reset race of SQLite before 3.51.3

_POSTGRESQL: Final = "-c timezone=UTC -c statement_timeout=30s -c lock_timeout=5s"
_SILENCE: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
}
"""Seconds, the last one milliseconds: a server whose machine or network is gone counts as gone after 20 s. Left to the system
a writer waits for it a quarter of an hour where something was sent, hours where something was awaited, and no timeout of the
server's own ends that."""


def noticing(url: sa.URL) -> dict[str, int]:
    """How a connection to the server at *url* notices that it is gone, where the URL does not say."""
    return {name: value for name, value in _SILENCE.items() if name not in url.query}


def open_engine(url: sa.URL, *, wait: float, durability: Durability = "normal") -> sa.Engine:
    """Make an engine of one connection for *url*; on SQLite it waits *wait* seconds for another process's lock.

    Raises:
        ConfigurationError: the driver is not installed.
    """
    return _sqlite(url, wait, durability) if urls.is_sqlite(url) else _postgresql(url, durability)


def _sqlite(url: sa.URL, wait: float, durability: Durability) -> sa.Engine:
    arguments = {"isolation_level": None, "check_same_thread": False, "timeout": wait}
    engine = sa.create_engine(
        urls.writing(url),
        module=sqlite_driver.module,
        poolclass=sa.QueuePool,
        pool_size=1,
        max_overflow=0,
        hide_parameters=True,  # SQLAlchemy's own log and errors must not show what rows hold
        connect_args=arguments,
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in (f"PRAGMA synchronous={durability.upper()}", *_PRAGMAS):
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        statement = connection.get_execution_options().get(BEGIN, "BEGIN IMMEDIATE")
        if statement is not None:
            connection.exec_driver_sql(statement)

    return engine


def _postgresql(url: sa.URL, durability: Durability) -> sa.Engine:
    options = _POSTGRESQL if durability == "full" else f"{_POSTGRESQL} -c synchronous_commit=off"
    arguments: dict[str, Any] = {
        **noticing(url),
        "options": options,
        "application_name": "resilience",
        "connect_timeout": 5,
        "prepare_threshold": None,  # a pooler such as PgBouncer may give each transaction another session
    }
    try:
        return sa.create_engine(
            urls.writing(url),
            pool_size=1,
            max_overflow=0,
            hide_parameters=True,
            pool_pre_ping=True,
            connect_args=arguments,
        )
    except ModuleNotFoundError as exc:
        msg = f"a history at {urls.shown(url)} needs a driver: pip install 'baml-resilience[postgres]'"
        raise ConfigurationError(msg) from exc
