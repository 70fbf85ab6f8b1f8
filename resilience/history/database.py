"""Writing to the database: batches in one transaction, and what its refusals mean."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from functools import cache
from importlib import metadata
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    StatementError,
)

from resilience.errors import ResilienceError
from resilience.history import rows, schema, tables, urls
from resilience.history.engine import open_engine
from resilience.history.ids import new_id

T = TypeVar("T")
_WAIT: Final = 1.0
"""Seconds one batch waits for another process's lock before it is put back: eight hammering writers needed 0.94."""


class Trouble(Enum):
    """Why a batch was not written."""

    LOCKED = auto()
    """Another process is writing; the batch goes again soon."""
    POISON = auto()
    """A row of it cannot be kept by any database of this schema."""
    NEWER = auto()
    """The database belongs to newer code; this process will not write to it."""
    AWAY = auto()
    """It cannot be reached or written now."""


class PoisonError(ValueError):
    """A record that cannot be made a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """This process, as the history knows it.

    Attributes:
        service: what the process is for, in its operator's words.
    """

    service: str = ""
    instance_id: str = field(default_factory=new_id)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def row(self, dropped: int) -> dict[str, Any]:
        """Its row in `instances`, with a heartbeat of now."""
        return rows.fitted(
            tables.instances,
            {
                "instance_id": self.instance_id,
                "service": self.service,
                "host": self.host,
                "pid": self.pid,
                "version": _version(),
                "started_at": self.started_at,
                "heartbeat_at": datetime.now(UTC),
                "dropped_events": dropped,
            },
        )


class Database:
    """The writer thread's own connection. Upgraded before its first batch; opened again when its file was replaced."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self._engine: sa.Engine | None = None
        self._file: tuple[int, int] | None = None

    @property
    def where(self) -> str:
        """Its URL for people, without a password."""
        return urls.shown(self._url)

    def write(self, records: Sequence[rows.Record], instance: Instance, dropped: int) -> None:
        """Insert *records* in one transaction; those that are there already stay as they are.

        Raises:
            Exception: whatever stood in the way; `trouble` says what it means. Nothing of the batch was written then.
        """
        by_table: dict[sa.Table, list[dict[str, Any]]] = defaultdict(list)
        for record in records:
            try:
                by_table[rows.TABLES[type(record)]].append(rows.row(record, instance.instance_id))
            except Exception as exc:
                raise PoisonError(type(exc).__name__) from exc
        engine = self._opened()
        with engine.begin() as connection:
            for table, batch in by_table.items():
                connection.execute(_insert(engine.dialect.name, table), batch)
            connection.execute(_heartbeat(engine.dialect.name), instance.row(dropped))

    def do(self, work: Callable[[sa.Connection], T]) -> T:
        """Do *work* in one transaction.

        Raises:
            Exception: as `write`; nothing was done then.
        """
        with self._opened().begin() as connection:
            return work(connection)

    def close(self) -> None:
        """Close the connection; the next batch opens it again."""
        if self._engine is not None:
            self._engine.dispose()
        self._engine = None

    def abandon(self) -> None:
        """Forget a connection inherited over a fork, without touching it: closing it here would harm the parent's."""
        if self._engine is not None:
            _inherited.append(self._engine)
            self._engine.dispose(close=False)
        self._engine = None

    def _opened(self) -> sa.Engine:
        if self._engine is not None and self._file != self._identity():
            self.close()
        if self._engine is None:
            schema.upgrade(self._url.render_as_string(hide_password=False))
            self._engine = open_engine(self._url, wait=_WAIT)
            self._file = self._identity()
        return self._engine

    def _identity(self) -> tuple[int, int] | None:
        """Which file is at the path: SQLite would go on writing into one that was deleted."""
        if not urls.is_sqlite(self._url):
            return None
        try:
            found = urls.path(self._url).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


_inherited: list[sa.Engine] = []


def trouble(exc: BaseException) -> Trouble:
    """What an exception of `Database.write` means."""
    if isinstance(exc, schema.NewerHistoryError):
        return Trouble.NEWER
    if isinstance(exc, OperationalError):
        return Trouble.LOCKED if _is_locked(exc) else Trouble.AWAY
    if isinstance(exc, (IntegrityError, DataError)):
        return Trouble.POISON
    if isinstance(
        exc, (ProgrammingError, InterfaceError)
    ):  # sqlite3: a value it cannot bind; PostgreSQL: no table, no link
        return Trouble.POISON if isinstance(exc.orig, sqlite3.Error) else Trouble.AWAY
    if isinstance(exc, (DBAPIError, ResilienceError)):
        return Trouble.AWAY
    return (
        Trouble.POISON
        if isinstance(exc, (StatementError, ValueError, TypeError, OverflowError))
        else Trouble.AWAY
    )


def _is_locked(exc: OperationalError) -> bool:
    code = getattr(exc.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
    return getattr(exc.orig, "sqlstate", None) in {
        "40001",
        "40P01",
        "55P03",
    }  # serialisation, deadlock, lock timeout


@cache
def _insert(dialect: str, table: sa.Table) -> sa.Executable:
    """Each id once: a batch may come again after a commit whose end was not seen."""
    make = sqlite.insert if dialect == "sqlite" else postgresql.insert
    return make(table).on_conflict_do_nothing()


@cache
def _heartbeat(dialect: str) -> sa.Executable:
    make = sqlite.insert if dialect == "sqlite" else postgresql.insert
    statement = make(tables.instances)
    new = {name: statement.excluded[name] for name in ("heartbeat_at", "dropped_events")}
    return statement.on_conflict_do_update(index_elements=["instance_id"], set_=new)


@cache
def _version() -> str:
    try:
        return metadata.version("resilience")
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return "0"
