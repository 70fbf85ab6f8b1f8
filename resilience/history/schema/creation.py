"""The schema of a new SQLite file, created in one go at the newest revision.

All migrations one after the other give the same schema, but take four times as long, and Alembic has to be imported for them. A short
script on a fresh folder, on a busy machine, may end before. Alembic's documentation recommends the same for new databases
(https://alembic.sqlalchemy.org/en/latest/cookbook.html#building-an-up-to-date-database-from-scratch). A test compares the two schemas.

The database of a server is created by migrations alone: its operator does it once, and may want to read their SQL before.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa

from resilience.history.schema import statements, version_table, view_ddl
from resilience.history.schema.tables import metadata


def create(connection: sa.Connection, revision: str) -> None:
    """Create tables, indexes and views, and note that the database has *revision*.

    Args:
        connection: an SQLite file without tables of ours, in a transaction that holds the write lock.
        revision: the newest revision.

    Raises:
        DBAPIError: another program has a table of the same name in the file.
    """
    for text in _statements():
        statements.run_on_sqlite(connection, text)
    version_table.stamp(connection, revision)


@cache
def _statements() -> tuple[str, ...]:
    """Return the SQL of all tables, indexes and views. Compiling it takes as long as running it, so a process does it once."""
    texts: list[str] = []

    def note(ddl: Any, *_: Any, **__: Any) -> None:
        texts.append(str(ddl.compile(dialect=recorder.dialect)))

    recorder = sa.create_mock_engine("sqlite://", note)
    metadata.create_all(recorder, checkfirst=False)
    return (*texts, *view_ddl.create_statements("sqlite"))
