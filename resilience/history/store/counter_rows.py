"""Rows that are to be added to one table of counters: in memory, in the database, and by which coarser times they are added up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from resilience.history.schema import rows, upserts
from resilience.history.schema.columns import sound_sum
from resilience.history.schema.statements import execute

TOTAL: Final = 0
"""The grain of the row that has what retention took, see `tables.TOTAL_AT`."""
MINUTE: Final = 60
HOUR: Final = 3600
OTHERS: Final = "(others)"
"""Client, function and tenant of what is counted together once memory for counts is full. The sum stays exact."""

_MOST: Final = 10_000
_UNLIMITED: Final = frozenset({"client", "function", "tenant"})
"""Labels of which an application may have any number."""


def minute_of(when: datetime) -> datetime:
    """Return the start of the minute of *when*, in UTC. A local minute would exist twice when clocks are set back.

    Raises:
        ValueError: *when* has no timezone.
    """
    if when.tzinfo is None:
        msg = f"{when!r} has no timezone: give datetime.now(UTC)"
        raise ValueError(msg)
    return when.astimezone(UTC).replace(second=0, microsecond=0)


class CounterRows:
    """Counts that are to be added to one table.

    Their memory is limited, however long the database is away. Beyond *most* rows, minutes are added up to hours; beyond *most* hours,
    further clients, functions and tenants are counted together.

    Args:
        table: the table; its key is the time, the grain and labels.
        grain: seconds of the time in a key, MINUTE or HOUR.
        most: number of rows to hold in memory.
    """

    def __init__(self, table: sa.Table, *, grain: int = MINUTE, most: int = _MOST) -> None:
        self._rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._table = table
        self._grain = grain
        self._most = most

    def __bool__(self) -> bool:
        return bool(self._rows)

    def at(self, minute: datetime, *labels: Any) -> dict[str, Any]:
        """Return the row to count in.

        Args:
            minute: the start of a minute.
            labels: the values of the other columns of the key, in order.
        """
        # A tuple of plain values: it is hashed for every record, and a dataclass would take several times as long.
        key = (minute if self._grain == MINUTE else minute.replace(minute=0), self._grain, *labels)
        return self._rows.get(key) or self._new(key)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows to add, sorted by key: two processes that update rows in different orders would deadlock."""
        return [self._rows[key] for key in sorted(self._rows)]

    def write(self, connection: sa.Connection) -> None:
        """Add the rows to the stored ones."""
        if self._rows:
            execute(connection, adding(connection.dialect.name, self._table), self.rows())

    def _new(self, key: tuple[Any, ...]) -> dict[str, Any]:
        # First coarser times, then coarser names: the sums stay exact, and only their breakdown is lost.
        if len(self._rows) >= self._most:
            self._coarsen()
            if len(self._rows) >= self._most:
                names = shape(self._table).labels
                labels = (
                    OTHERS if name in _UNLIMITED else value
                    for name, value in zip(names, key[2:], strict=True)
                )
                key = (key[0].replace(minute=0), HOUR, *labels)
        return self._rows.get(key) or self._rows.setdefault(key, self._row(key))

    def _coarsen(self) -> None:
        columns = shape(self._table)
        minutes, self._rows = self._rows, {}
        for (when, _, *labels), row in minutes.items():
            key = (when.replace(minute=0), HOUR, *labels)
            total = self._rows.setdefault(key, self._row(key))
            for name in columns.sums:
                total[name] += row[name]
            for name in columns.maxima:
                total[name] = max(total[name], row[name])

    def _row(self, key: tuple[Any, ...]) -> dict[str, Any]:
        columns = shape(self._table)
        return rows.fitted(self._table, {**dict(zip(columns.key, key, strict=True)), **columns.zeros})


class Shape:
    """What the columns of a table of counters are.

    Args:
        table: the table.

    Attributes:
        key: the columns of its key: time, grain, labels.
        labels: those of them that are labels.
        sums: the columns that are added up.
        maxima: the columns of which the greatest value stays.
        zeros: a row without counts.
    """

    def __init__(self, table: sa.Table) -> None:
        # By the names of the columns, so that a further count needs a column and a line in `add`, and nothing here: whatever is
        # not of the key is a sum, but for names that end in `_max`.
        values = [column for column in table.columns if not column.primary_key]
        self.key = tuple(column.name for column in table.primary_key)
        self.labels = self.key[2:]
        self.sums = tuple(column.name for column in values if not column.name.endswith("_max"))
        self.maxima = tuple(column.name for column in values if column.name.endswith("_max"))
        self.zeros: Mapping[str, Any] = {
            column.name: 0.0 if isinstance(column.type, sa.Double) else 0 for column in values
        }


@cache
def shape(table: sa.Table) -> Shape:
    """Return what the columns of *table* are."""
    return Shape(table)


def summed(table: sa.Table) -> list[sa.Label[Any]]:
    """Return the columns of a SELECT that adds up rows of *table*: all but those of its key."""
    columns = shape(table)
    sums = [sound_sum(table.c[name]).label(name) for name in columns.sums]
    return [*sums, *(sa.func.max(table.c[name]).label(name) for name in columns.maxima)]


@cache
def adding(dialect: str, table: sa.Table) -> sa.Executable:
    """Return the upsert that adds a row to the one of the same key."""
    return added(dialect, upserts.insert(dialect, table))


def added(dialect: str, statement: upserts.Insert) -> sa.Executable:
    """Return *statement* as an upsert that adds its rows to the stored ones."""
    table = statement.table
    columns = shape(table)
    greatest = {
        name: upserts.greatest(dialect, table.c[name], statement.excluded[name]) for name in columns.maxima
    }
    return upserts.upsert(statement, upserts.adding(statement, columns.sums) | greatest)
