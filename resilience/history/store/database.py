"""The writer thread's connection to the database.

Every batch is one transaction: its rows, what they add to the counters, and the heartbeat of the process. So the heartbeat costs no
transaction of its own, and a process that writes is known to be alive.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from resilience.errors import HistoryError
from resilience.history.durability import Durability
from resilience.history.schema import migrations, sqlite_hazards, tables, urls
from resilience.history.schema.db_errors import CounterError, describe_error, error_kind, error_reason
from resilience.history.schema.engine import open_engine
from resilience.history.schema.error_kinds import DatabaseErrorKind
from resilience.history.store import batches, instances
from resilience.history.store.batch_session import BatchSession
from resilience.history.store.batches import paired
from resilience.history.store.counters import Counts, counted
from resilience.history.store.process import Instance, WriterStats
from resilience.records.records import Record

T = TypeVar("T")
_WAIT: Final = 1.0
"""Seconds that other work than a batch waits for a lock. With eight processes writing at full speed 0.94 s were needed."""


class Database:
    """The connection of the writer thread. It is opened at the first batch, and again if its file was replaced.

    An SQLite file is upgraded before the first batch. The database of a server must be up to date.

    Args:
        url: the database, as returned by `urls.parse`.
        durability: `full` waits for the disk at every commit.
        pause: called between two steps of an upgrade, on the thread that opens the database.
    """

    def __init__(
        self, url: sa.URL, durability: Durability = "normal", pause: Callable[[], None] = lambda: None
    ) -> None:
        self._url = url
        self._durability: Durability = durability
        self._pause = pause
        self._path = str(urls.path(url)) if urls.is_sqlite(url) else None
        self._engine: sa.Engine | None = None
        self._session: BatchSession | None = None
        self._reset_bug = sqlite_hazards.ResetBug()
        self._file: tuple[int, int] | None = None
        self._connection: Any = None
        self._policy = ""

    @property
    def where(self) -> str:
        """The URL for messages, without its password."""
        return urls.shown(self._url)

    def write(self, records: Sequence[Record], instance: Instance, stats: WriterStats) -> None:
        """Insert *records* and count them, in one transaction. Records whose rows exist are skipped.

        Args:
            records: the batch.
            instance: this process.
            stats: the state of the writer, with counts to add.

        Raises:
            Exception: any error; `db_errors.error_kind` says what it means. Nothing of the batch was written then.
        """
        # Rows are made before the transaction begins, so that no lock is held meanwhile and a bad record costs no transaction.
        pairs = [paired(record, instance.instance_id) for record in records]

        def finish(connection: sa.Connection, new: Sequence[Record]) -> None:
            # `new` are the records whose rows were inserted just now. Only those are counted, in the same transaction.
            if not stats.rows_are_counted:
                counted(new).write(connection)
            self._finish(connection, instance, stats)
            # In the transaction of the batch: the watch costs one query a minute, and no transaction of its own.
            if connection.dialect.name == "sqlite":
                self._reset_bug.look(connection)

        batches.write(self._batches().begin, pairs, finish)
        self._committed(stats)

    def count(self, records: Sequence[Record], instance: Instance, stats: WriterStats) -> None:
        """Count *records* before their rows are written, in one transaction.

        For the end of a process: the counters are a few rows, whatever the number of records, so they are exact also where
        the time does not suffice for all rows. Records that are counted already are left out: those of a commit whose
        success was not seen.

        Args:
            records: records in the order of their numbers. The last one has the number `stats.rows_counted_through`.
            instance: this process.
            stats: the state of the writer, with further counts to add.

        Raises:
            Exception: as `write`.
        """
        first = stats.rows_counted_through - len(records) + 1
        column = tables.instances.c.rows_counted_through
        stored = sa.select(column).where(tables.instances.c.instance_id == instance.instance_id)
        with self._batches().begin() as connection:
            through = connection.scalar(stored) or 0
            counted(records[max(0, through - first + 1) :]).write(connection)
            self._finish(connection, instance, stats)
        self._committed(stats)

    def leave(self, instance: Instance, stats: WriterStats) -> None:
        """Write that this process ends, in a transaction of its own: for an end with nothing else to write.

        Args:
            instance: this process.
            stats: the state of the writer, which is leaving.

        Raises:
            Exception: as `write`.
        """
        with self._batches().begin() as connection:
            self._finish(connection, instance, stats)
        self._committed(stats)

    def do(self, work: Callable[[sa.Connection], T]) -> T:
        """Call *work* in a transaction of its own and return its result.

        Raises:
            Exception: any error of *work* or of the database. Nothing was written then.
        """
        with self.begin() as connection:
            return work(connection)

    def begin(self) -> AbstractContextManager[sa.Connection]:
        """Return a transaction of its own, for other work than a batch.

        Raises:
            Exception: as `opened`.
        """
        return self.opened().begin()

    def transact(self, work: Callable[[sa.Connection], T]) -> T:
        """Call *work* as `do` does, and close the connection after an error that is not a lock.

        Raises:
            HistoryError: any error of *work* or of the database, with the remedy.
        """
        try:
            return self.do(work)
        except Exception as exc:
            if error_kind(exc) is not DatabaseErrorKind.LOCKED:
                self.close()
            raise HistoryError(describe_error(exc, self.where)) from exc

    def kind_of(self, exc: Exception) -> DatabaseErrorKind:
        """Return what an error of `write`, `count` or `leave` means."""
        return error_kind(exc)

    def reason_of(self, exc: Exception) -> str:
        """Return the reason that the driver gives for an error, without values."""
        return error_reason(exc)

    def describe(self, exc: Exception) -> str:
        """Return the message for the operator about an error, with its remedy."""
        return describe_error(exc, self.where)

    def close(self) -> None:
        """Close the connection. The next batch opens another one."""
        if self._session is not None:
            self._session.close()
        if self._engine is not None:
            self._engine.dispose()
        self._engine = self._session = self._connection = None
        self._policy = ""

    def interrupt(self) -> None:
        """End a statement that runs on another thread. It fails there, and its transaction is rolled back.

        For the end of a process: a thread that the interpreter freezes inside a transaction would keep its locks until the
        process is gone. A server that hangs does not answer to a request for cancellation, so its connection is shut down.
        """
        connection = self._connection
        if connection is None:
            return
        with suppress(Exception):  # it may be closed at this moment, and then nothing runs on it
            if urls.is_sqlite(self._url):
                connection.interrupt()
            else:
                with socket.socket(fileno=os.dup(connection.fileno())) as shared:
                    shared.shutdown(socket.SHUT_RDWR)

    def abandon(self) -> None:
        """Forget a connection that was inherited over a fork, without closing it.

        Closing it would end the parent's session on a server, and on SQLite release the parent's locks. The garbage collector would
        close it as well, so the engine is kept for the life of the child.
        """
        if self._engine is not None:
            _inherited.append((self._engine, self._session and self._session.connection))
            self._engine.dispose(close=False)
        self._engine = self._session = self._connection = None

    def opened(self) -> sa.Engine:
        """Return the engine, connected to the database that is at the URL now, for other work than a batch. Use it before the next batch.

        Raises:
            Exception: the database cannot be opened, or its schema is not that of this version.
        """
        engine = self._open()
        if self._session is not None:
            self._session.close()  # the engine has one connection
        return engine

    def _open(self) -> sa.Engine:
        # A file that was deleted or replaced under a running process: the next batch goes to the new one, and not into the void.
        if self._engine is not None and self._file != self._identity():
            self.close()
        if self._engine is None:
            migrations.prepare(self._url, self._pause)
            if urls.is_sqlite(self._url):
                sqlite_hazards.warn_remote(urls.path(self._url))
            self._engine = open_engine(self._url, wait=_WAIT, durability=self._durability)
            sa.event.listen(self._engine, "connect", self._connected)
            self._file = self._identity()
        return self._engine

    def _batches(self) -> BatchSession:
        """Return the connection for a batch, to the database that is at the URL now."""
        engine = self._open()
        if self._session is None:
            self._session = BatchSession(engine)
        return self._session

    def _finish(self, connection: sa.Connection, instance: Instance, stats: WriterStats) -> None:
        """Add the counts of records without rows, and update the row of this process."""
        if stats.pending_counts is not None:
            _add(connection, stats.pending_counts, instance.instance_id)
        policy = "" if stats.policy is None else stats.policy.policy_id
        instances.write(connection, instance, stats, new_policy=policy != self._policy)

    # Only after the commit: a policy of a transaction that was rolled back must be sent again. `close` forgets it, because the
    # next connection may lead to another file.
    def _committed(self, stats: WriterStats) -> None:
        self._policy = "" if stats.policy is None else stats.policy.policy_id

    def _connected(self, connection: Any, _record: Any) -> None:
        self._connection = connection

    def _identity(self) -> tuple[int, int] | None:
        """Return device and inode of the file at the path. SQLite would keep writing to a file that was deleted or replaced."""
        if self._path is None:
            return None
        try:
            status = os.lstat(self._path)  # of a link that takes the file's place, too
        except OSError:
            return None
        return status.st_dev, status.st_ino


_inherited: list[object] = []
"""Engines and connections of the parent process, kept so that they are never closed."""


def _add(connection: sa.Connection, counts: Counts, instance_id: str) -> None:
    """Add counts of records without rows, unless they are in the database: an earlier commit may have succeeded unnoticed."""
    stored = connection.scalar(
        sa.select(tables.instances.c.counted_through).where(tables.instances.c.instance_id == instance_id)
    )
    if (stored or 0) >= counts.through:
        return
    try:
        counts.write(connection)
    except Exception as exc:
        # The counts are at fault, and not the batch: the writer has to give up the counts, and then the batch succeeds.
        if error_kind(exc) is DatabaseErrorKind.POISON:
            raise CounterError from exc
        raise
