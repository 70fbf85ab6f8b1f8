"""Writing a batch of records in one transaction: the rows that are new, and exactly what those add to the counters.

A batch may come twice. If the connection breaks during a commit, the writer cannot know whether the commit succeeded, and sends
the batch again. Rows are inserted only if their primary key is new, but counters are sums, so they must not include a row that was
already there. A statement for many rows reports only how many it inserted. If all of them were new, as nearly always, that is
enough. Otherwise the transaction is rolled back and repeated with one statement for each row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from resilience.history.schema import rows, upserts
from resilience.history.schema.statements import execute
from resilience.records.records import CallRecord, ErrorRecord, FallbackRecord, Record

Pair = tuple[Record, dict[str, Any]]
"""A record and its row."""
Begin = Callable[[], AbstractContextManager[sa.Connection]]
"""Returns a transaction, which is committed at its end, or rolled back after an exception."""

COUNTED: Final[Collection[type[Record]]] = (CallRecord, ErrorRecord, FallbackRecord)
"""The kinds of records that are counted."""


class PoisonError(ValueError):
    """A record cannot be a row."""


class _KnownRowsError(Exception):
    """Some rows of a statement exist already, and which ones is not known."""


def paired(record: Record, instance_id: str) -> Pair:
    """Return *record* with its row.

    Args:
        record: the record.
        instance_id: the process that made it.

    Raises:
        PoisonError: it is not a record, or lacks what its row needs.
    """
    try:
        return record, rows.row(record, instance_id)
    except Exception as exc:
        raise PoisonError(type(exc).__name__) from exc


def write(
    begin: Begin,
    pairs: Sequence[Pair],
    finish: Callable[[sa.Connection, Sequence[Record]], None],
    *,
    exact: Collection[type[Record]] = COUNTED,
) -> None:
    """Insert the rows that are new and call *finish*, in one transaction.

    Args:
        begin: returns a transaction of the database.
        pairs: the records with their rows.
        finish: called with the connection and the records whose rows were inserted, before the commit.
        exact: the kinds of records of which *finish* must get only those inserted. Of other kinds it gets all.

    Raises:
        Exception: any error of the database. Nothing was written then.
    """
    # The quick way first. An exception inside rolls the transaction back, so the slow way starts from nothing.
    try:
        with begin() as connection:
            finish(connection, _insert(connection, pairs, exact, singly=False))
    except _KnownRowsError:
        with begin() as connection:
            finish(connection, _insert(connection, pairs, exact, singly=True))


def _insert(
    connection: sa.Connection,
    pairs: Iterable[Pair],
    exact: Collection[type[Record]],
    *,
    singly: bool,
) -> list[Record]:
    by_kind: dict[type[Record], list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_kind[type(pair[0])].append(pair)
    new: list[Record] = []
    # The same order of tables in every process, and rows sorted by key: PostgreSQL locks a row as it is inserted, and two
    # processes that lock the same rows in different orders would deadlock.
    for kind in rows.TABLES:
        if of_kind := by_kind.get(kind):
            of_kind.sort(key=_KEYS[kind])
            new += _insert_kind(connection, kind, of_kind, exact=kind in exact, singly=singly)
    return new


def _insert_kind(
    connection: sa.Connection, kind: type[Record], pairs: list[Pair], *, exact: bool, singly: bool
) -> list[Record]:
    statement = _inserting(connection.dialect.name, rows.TABLES[kind])
    if exact and singly:
        return [record for record, row in pairs if execute(connection, statement, [row]) == 1]
    inserted = execute(connection, statement, [row for _, row in pairs])
    if exact and inserted != len(pairs):
        raise _KnownRowsError
    return [record for record, _ in pairs]


def _key(names: tuple[str, ...]) -> Callable[[Pair], tuple[Any, ...]]:
    return lambda pair: tuple(pair[1][name] for name in names)


_KEYS: Final = {
    kind: _key(tuple(column.name for column in table.primary_key)) for kind, table in rows.TABLES.items()
}


@cache
def _inserting(dialect: str, table: sa.Table) -> sa.Executable:
    """Return the INSERT of a table, which skips rows whose key exists."""
    # preserve_rowcount: without it SQLAlchemy does not report how many rows a statement with many parameter sets inserted.
    statement = upserts.insert(dialect, table).on_conflict_do_nothing()
    return statement.execution_options(preserve_rowcount=True)
