"""Writing to the database: batches in one transaction, and what its refusals mean."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from resilience.history.schema import db_time, migrations, rows, sqlite_hazards, tables, upserts, urls
from resilience.history.schema.db_errors import CounterError, DatabaseErrorKind, trouble
from resilience.history.schema.engine import Durability, open_engine
from resilience.history.store import batches
from resilience.history.store.batches import paired
from resilience.history.store.counters import Counts, counted
from resilience.records.ids import new_id
from resilience.records.records import Record
from resilience.version import package_version

T = TypeVar("T")
_WAIT: Final = 1.0
"""Seconds one batch waits for another process's lock before it is put back: eight hammering writers needed 0.94."""
_INT: Final = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterStats:
    """How the writer stands, as it is told in `instances`.

    Attributes:
        dropped: how many records of this process were given up.
        sampled: how many had no row because one of ten stood for them.
        depth: how many wait.
        degraded: is the store of circuits away for this process?
        pending_counts: counts of records without rows, to be added in the transaction of this batch.
    """

    dropped: int = 0
    sampled: int = 0
    depth: int = 0
    degraded: bool = False
    pending_counts: Counts | None = None


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

    def identity(self) -> dict[str, Any]:
        """Return the part of its row in `instances` that never changes."""
        return {
            "instance_id": self.instance_id,
            "service": self.service,
            "host": self.host,
            "pid": self.pid,
            "version": package_version(),
            "started_at": self.started_at,
        }

    def row(self, standing: WriterStats) -> dict[str, Any]:
        """Return its row in `instances` but for the heartbeat, which the database stamps by its own clock."""
        return rows.fitted(
            tables.instances,
            {
                **self.identity(),
                "dropped_events": min(standing.dropped, _INT),
                "sampled_events": min(standing.sampled, _INT),
                "queue_depth": min(standing.depth, _INT),
                "degraded": standing.degraded,
                "counted_through": standing.pending_counts.through if standing.pending_counts else 0,
            },
        )


class Database:
    """The writer thread's own connection; opened again when its file was replaced.

    The embedded file is upgraded before its first batch, a server's database must have been.

    Args:
        url: the database.
        durability: `full` waits for the disk at every commit.
    """

    def __init__(self, url: sa.URL, durability: Durability = "normal") -> None:
        self._url = url
        self._durability: Durability = durability
        self._engine: sa.Engine | None = None
        self._reset_bug = sqlite_hazards.ResetBug()
        self._file: tuple[int, int] | None = None

    @property
    def where(self) -> str:
        """Its URL for people, without a password."""
        return urls.shown(self._url)

    def write(self, records: Sequence[Record], instance: Instance, standing: WriterStats) -> None:
        """Insert *records* and count them in one transaction; those that are there already stay as they are.

        Raises:
            Exception: whatever stood in the way; `trouble` says what it means. Nothing of the batch was written then.
        """
        pairs = [paired(record, instance.instance_id) for record in records]

        def finish(connection: sa.Connection, new: Sequence[Record]) -> None:
            counted(new).write(connection)
            if standing.pending_counts is not None:
                _add(connection, standing.pending_counts, instance.instance_id)
            connection.execute(_heartbeat(connection.dialect.name), instance.row(standing))
            if connection.dialect.name == "sqlite":
                self._reset_bug.look(connection)

        batches.write(self.opened(), pairs, finish)

    def do(self, work: Callable[[sa.Connection], T]) -> T:
        """Do *work* in one transaction.

        Raises:
            Exception: as `write`; nothing was done then.
        """
        with self.opened().begin() as connection:
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

    def opened(self) -> sa.Engine:
        """The engine, connected to what is at the URL now.

        Raises:
            Exception: as `write`.
        """
        if self._engine is not None and self._file != self._identity():
            self.close()
        if self._engine is None:
            migrations.prepare(self._url)
            if urls.is_sqlite(self._url):
                sqlite_hazards.warn_remote(urls.path(self._url))
            self._engine = open_engine(self._url, wait=_WAIT, durability=self._durability)
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


def _add(connection: sa.Connection, counts: Counts, instance_id: str) -> None:
    """Tell the counters of records without rows, unless they know already: a commit may have come through unseen."""
    known = connection.scalar(
        sa.select(tables.instances.c.counted_through).where(tables.instances.c.instance_id == instance_id)
    )
    if (known or 0) >= counts.through:
        return
    try:
        counts.write(connection)
    except Exception as exc:
        if trouble(exc) is DatabaseErrorKind.POISON:
            raise CounterError from exc
        raise


@cache
def _heartbeat(dialect: str) -> sa.Executable:
    statement = upserts.insert(dialect, tables.instances).values(heartbeat_at=db_time.now(dialect))
    new: dict[str, Any] = {name: statement.excluded[name] for name in _TOLD}
    new["counted_through"] = upserts.greatest(
        dialect, tables.instances.c.counted_through, statement.excluded.counted_through
    )
    return upserts.upsert(statement, new)


_TOLD: Final = ("heartbeat_at", "dropped_events", "sampled_events", "queue_depth", "degraded")
