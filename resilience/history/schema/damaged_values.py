"""Count the values of an SQLite history that no version of this package wrote.

SQLite keeps any value in any column. Readers take a damaged value for 0, an empty text or 1970, and sums leave it out: one row must
not hide all others (`tolerant_types.py`, `columns.sound_sum`). So it has to be counted in one place. PostgreSQL refuses such values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from resilience.history.schema.columns import MAX_COUNT, Json, UtcDateTime
from resilience.history.schema.tables import metadata

NEWEST_ROWS: Final = 20_000
"""Rows of each table that are examined, the newest: a large file must not hold up a check."""
_FRACTION: Final = ".[0-9][0-9][0-9][0-9][0-9][0-9]"


def damaged_values(connection: sa.Connection) -> Mapping[str, Mapping[str, int]]:
    """Return how many damaged values each column of each table has, without those that have none.

    A text with bytes that are no UTF-8 is not counted: it is read, with the bytes escaped.

    Args:
        connection: a connection to an SQLite file with the tables of this version.
    """
    found = {table.name: _of_table(connection, table) for table in metadata.sorted_tables}
    return {name: columns for name, columns in found.items() if columns}


def _of_table(connection: sa.Connection, table: sa.Table) -> Mapping[str, int]:
    """Return how many damaged values each column of a table has, by one statement that reads its newest rows once."""
    counts = ", ".join(f"sum({_is_damaged(column)})" for column in table.columns)
    # By rowid, and not by time: a time may be damaged, and an index on it would leave the table's own order.
    newest = f"rowid > (SELECT max(rowid) FROM {table.name}) - {NEWEST_ROWS}"  # noqa: S608 - our own names
    try:
        row = connection.execute(sa.text(f"SELECT {counts} FROM {table.name} WHERE {newest}")).one()  # noqa: S608 - our own names
    except DBAPIError:
        return {}  # another program created the table again, without a column or a rowid. The readers report that.
    return {column.name: int(count) for column, count in zip(table.columns, row, strict=True) if count}


def _is_damaged(column: sa.Column[object]) -> str:
    """Return SQL that is 1 for a value that readers do not believe, and 0 for all others."""
    name = f'"{column.name}"'
    damaged = _misread(column, name)
    return f"CASE WHEN {name} IS NULL THEN {int(not column.nullable)} ELSE {damaged} END"


def _misread(column: sa.Column[object], name: str) -> str:
    """Return SQL that is true where readers take a value for another. It follows their rules, and must change with them.

    Args:
        column: the column, whose type decides.
        name: its name as SQL has it.
    """
    kind = column.type
    if isinstance(kind, UtcDateTime):
        # With a modifier SQLite makes a day of March of the 31st of February. The fraction is compared as text, because SQLite rounds it.
        seconds = f"substr({name}, 1, 19)"
        whole = f"datetime({seconds}, '+0 seconds') IS {seconds}"
        return f"NOT (typeof({name}) = 'text' AND {whole} AND substr({name}, 20) GLOB '{_FRACTION}')"
    if isinstance(kind, Json):
        # Python writes and reads these two words, which are no JSON to SQLite. In this order: json_type ends the statement at a text
        # that is no JSON.
        text = f"replace(replace({name}, 'Infinity', '0'), 'NaN', '0')"
        return f"CASE WHEN typeof({name}) = 'text' AND json_valid({text}) THEN json_type({text}) <> 'object' ELSE 1 END"
    if isinstance(kind, sa.Boolean):
        return f"{name} NOT IN (0, 1)"
    if isinstance(kind, sa.String):
        return f"typeof({name}) <> 'text'"
    # Of all numbers only the bucket of a duration, a part of a key, may be negative.
    least = -MAX_COUNT if column.primary_key else 0
    return f"typeof({name}) NOT IN ('integer', 'real') OR {name} NOT BETWEEN {least} AND {MAX_COUNT}"
