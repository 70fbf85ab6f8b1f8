"""The transactions of batches: on SQLite one connection is kept between them, and begun and ended by the driver itself.

To take a connection from the pool of SQLAlchemy, to begin, to commit and to give it back takes a thread that has just woken five
times as long as to begin and to commit, and a third of the time that it needs to write three rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import sqlalchemy as sa

from resilience.history.schema.engine import BEGIN, WAIT
from resilience.history.schema.statements import run_on_sqlite

_WAIT: Final = 0.1
"""Seconds that a batch waits for a lock before it is put back. While the writer thread waits here it writes no log lines, which
must be in their files within 0.1 s."""


class BatchSession:
    """The connection of an engine as batches use it. Used by one thread at a time.

    Args:
        engine: the engine. It has one connection, which nothing else can use until `close`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: sa.Connection | None = None

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """Run a transaction: committed at the end, rolled back after an exception.

        Raises:
            Exception: any error of the database. Nothing was written then.
        """
        if self._engine.dialect.name != "sqlite":
            with self._engine.begin() as connection:
                yield connection
            return
        connection = self._connection or self._open()
        try:
            run_on_sqlite(connection, "BEGIN IMMEDIATE")
            yield connection
            # A statement that went through SQLAlchemy has begun what that takes for the transaction. It must end it as well.
            if connection.in_transaction():
                connection.commit()
            else:
                run_on_sqlite(connection, "COMMIT")
        except BaseException:
            self.close()  # rolls back
            raise

    def close(self) -> None:
        """Give the connection back, without what it has not committed. The next batch takes it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # it is broken, and the pool opens another one
                connection.close()

    @property
    def connection(self) -> object:
        """What must be kept alive so that a connection that was inherited over a fork is never given back."""
        return self._connection

    def _open(self) -> sa.Connection:
        connection = self._engine.connect().execution_options(**{BEGIN: None})
        self._connection = connection
        if connection.info.get(WAIT) != _WAIT:
            run_on_sqlite(connection, f"PRAGMA busy_timeout={_WAIT * 1000:.0f}")
            connection.info[WAIT] = _WAIT
        return connection
