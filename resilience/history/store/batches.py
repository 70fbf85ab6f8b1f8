"""One batch in one transaction: the rows that are new, and what exactly those add to the counters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from resilience.history.schema import rows, upserts
from resilience.records.records import CallRecord, ErrorRecord, Record

Pair = tuple[Record, dict[str, Any]]
"""A record and its row."""

COUNTED: Final[Collection[type[Record]]] = (CallRecord, ErrorRecord)
"""Records that the counters know of."""


class PoisonError(ValueError):
    """A record that cannot be made a row."""


class _KnownRowsError(Exception):
    """Some rows are there already; which ones, a statement for many rows does not say."""


def paired(record: Record, instance_id: str) -> Pair:
    """*record* with its row.

    Raises:
        PoisonError: it is no record.
    """
    try:
        return record, rows.row(record, instance_id)
    except Exception as exc:
        raise PoisonError(type(exc).__name__) from exc


def write(
    engine: sa.Engine,
    pairs: Sequence[Pair],
    finish: Callable[[sa.Connection, Sequence[Record]], None],
    *,
    exact: Collection[type[Record]] = COUNTED,
) -> None:
    """Insert the rows that are not there yet and *finish*, all in one transaction.

    Args:
        engine: the database.
        pairs: the records with their rows.
        finish: called with the connection and the records that were new.
        exact: the kinds of records of which *finish* must get the new ones alone; of others it gets all.

    Raises:
        Exception: whatever stood in the way. Nothing was written then.
    """
    try:
        with engine.begin() as connection:
            finish(connection, _insert(connection, pairs, exact, singly=False))
    except _KnownRowsError:
        with engine.begin() as connection:
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
    for kind in (
        rows.TABLES
    ):  # in this order in every process, and sorted: PostgreSQL's locks then never form a circle
        if found := by_kind.get(kind):
            found.sort(key=_KEYS[kind])
            new += _insert_kind(connection, kind, found, exact=kind in exact, singly=singly)
    return new


def _insert_kind(
    connection: sa.Connection, kind: type[Record], pairs: list[Pair], *, exact: bool, singly: bool
) -> list[Record]:
    statement = _inserting(connection.dialect.name, rows.TABLES[kind])
    if exact and singly:
        return [record for record, row in pairs if connection.execute(statement, row).rowcount == 1]
    done = connection.execute(statement, [row for _, row in pairs])
    if exact and done.rowcount != len(pairs):
        raise _KnownRowsError
    return [record for record, _ in pairs]


def _key(names: tuple[str, ...]) -> Callable[[Pair], tuple[Any, ...]]:
    return lambda pair: tuple(pair[1][name] for name in names)


_KEYS: Final = {
    kind: _key(tuple(column.name for column in table.primary_key)) for kind, table in rows.TABLES.items()
}


@cache
def _inserting(dialect: str, table: sa.Table) -> sa.Executable:
    """Each key once: a batch may come again after a commit whose end was not seen."""
    statement = upserts.insert(dialect, table).on_conflict_do_nothing()
    return statement.execution_options(preserve_rowcount=True)
