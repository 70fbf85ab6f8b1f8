"""The database of a writer before its first use.

SQLAlchemy, the tables and the driver take longer to import than the rest of this package. A handler has imported them before, see
`driver_imports.py`. What remains for the first transaction is what a handler cannot know: it was made by older settings, or a
program uses a `Recorder` alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from resilience import lifecycle
from resilience.history.database_url import DatabaseUrl
from resilience.history.durability import Durability
from resilience.history.schema.error_kinds import DatabaseErrorKind
from resilience.history.store.process import Instance, WriterStats
from resilience.records.records import Record

if TYPE_CHECKING:
    import sqlalchemy as sa

    from resilience.history.store.database import Database

T = TypeVar("T")
_PIECES: Final = ("sqlalchemy", "resilience.history.schema.tables", "resilience.history.store.database")
"""What is imported one after the other, so that the thread can write log lines in between."""


class LazyDatabase:
    """Stands for a `Database` until that is made. Its methods are those of `Database`.

    Args:
        url: the database.
        durability: as for `Database`.
        pause: as for `Database`; also called between two pieces of the import.

    Attributes:
        where: the URL for messages, without its password.
    """

    def __init__(self, url: DatabaseUrl, durability: Durability, pause: Callable[[], None]) -> None:
        self.where = url.shown
        self._url = url
        self._durability = durability
        self._pause = pause
        self._made: Database | None = None

    def load(self) -> Database:
        """Return the database, made now at the latest."""
        if self._made is None:
            for piece in _PIECES:
                with lifecycle.importing():
                    importlib.import_module(piece)
                self._pause()
            with lifecycle.importing():
                from resilience.history.schema import urls  # noqa: PLC0415 - see the head of this module
                from resilience.history.store.database import Database  # noqa: PLC0415 - as above
            self._made = Database(urls.parse(self._url.text), self._durability, self._pause)
        return self._made

    def write(self, records: Sequence[Record], instance: Instance, stats: WriterStats) -> None:
        """Insert and count records; see `Database.write`."""
        self.load().write(records, instance, stats)

    def count(self, records: Sequence[Record], instance: Instance, stats: WriterStats) -> None:
        """Count records before their rows are written; see `Database.count`."""
        self.load().count(records, instance, stats)

    def leave(self, instance: Instance, stats: WriterStats) -> None:
        """Write that this process ends; see `Database.leave`."""
        self.load().leave(instance, stats)

    def transact(self, work: Callable[[sa.Connection], T]) -> T:
        """Run *work* in a transaction of its own; see `Database.transact`."""
        return self.load().transact(work)

    def kind_of(self, exc: Exception) -> DatabaseErrorKind:
        """Return what an error means; see `Database.kind_of`. A driver that cannot be imported is away."""
        return DatabaseErrorKind.AWAY if self._made is None else self._made.kind_of(exc)

    def reason_of(self, exc: Exception) -> str:
        """Return the reason for an error; see `Database.reason_of`."""
        return type(exc).__name__ if self._made is None else self._made.reason_of(exc)

    def describe(self, exc: Exception) -> str:
        """Return the message about an error; see `Database.describe`."""
        if self._made is None:
            return f"the history at {self.where} cannot be written: {type(exc).__name__}: {exc}"
        return self._made.describe(exc)

    def close(self) -> None:
        """Close the connection. The next batch opens another one."""
        if self._made is not None:
            self._made.close()

    def interrupt(self) -> None:
        """End a statement that runs on another thread; see `Database.interrupt`."""
        if self._made is not None:
            self._made.interrupt()

    def abandon(self) -> None:
        """Forget a connection that was inherited over a fork; see `Database.abandon`."""
        if self._made is not None:
            self._made.abandon()
