"""How an SQLite history is read: values that another program put into a column of another type harm no reader.

SQLite keeps any value in any column. So a column of numbers may have a text, and a text may be no UTF-8. PostgreSQL refuses both. A value
of the wrong type is read as one of the right type, because one damaged row must not hide all others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event

from resilience.history.schema.columns import UNREADABLE
from resilience.history.schema.rows import readable_text


class _Text(sa.String):
    """A text, also where the file has bytes or a number."""

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        return lambda value: value if value is None or isinstance(value, str) else readable_text(value)


class _Number(sa.Integer):
    """A whole number, or 0 for what is none. A sum of them may be a float."""

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:  # noqa: ARG002 - as above
        return lambda value: _number(value, 0)


class _Double(sa.Double):  # type: ignore[type-arg]  # generic only for type checkers
    """A finite number, or 0.0 for what is none."""

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:  # noqa: ARG002 - as above
        return lambda value: _number(value, 0.0)


def _number(value: Any, otherwise: float) -> Any:
    if value is None or (isinstance(value, int | float) and math.isfinite(value)):
        return value
    return otherwise


def _json(text: Any) -> Any:
    """Return a JSON object, or an empty one for what is none: every column of JSON has an object."""
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


_EMPTY: Final[Mapping[Any, Any]] = {
    sa.String: "",
    sa.Integer: 0,
    sa.Numeric: 0.0,
    sa.Float: 0.0,
    sa.Boolean: False,
    sa.DateTime: UNREADABLE,
}
_TYPES: Final = {sa.String: _Text, sa.Integer: _Number, sa.Double: _Double}


def read_tolerantly(engine: sa.Engine) -> None:
    """Let *engine*, which only reads, convert values of the wrong type. Nothing changes for other databases than SQLite."""
    if engine.dialect.name != "sqlite":
        return
    # An attribute of this dialect object: other engines have their own.
    engine.dialect.colspecs = {**engine.dialect.colspecs, **_TYPES}
    engine.dialect._json_deserializer = _json  # noqa: SLF001 - what create_engine(json_deserializer=...) sets
    event.listen(engine, "connect", _decode_texts)


def _decode_texts(connection: Any, _record: Any) -> None:
    # aiosqlite's connection is behind an adapter.
    driver = getattr(connection, "driver_connection", connection)
    driver.text_factory = lambda text: text.decode(errors="backslashreplace")


def without_gaps(statement: sa.Select[Any], rows: Sequence[Any], dialect: str) -> Sequence[Mapping[str, Any]]:
    """Return *rows* with a value in each column that has one in every row of ours.

    Another program may have created a table again, without NOT NULL. A reader that sorts names would end at the first NULL.

    Args:
        statement: the statement that found them.
        rows: its rows, by the names of its columns.
        dialect: the database; PostgreSQL does not lose a NOT NULL.
    """
    if dialect != "sqlite":
        return rows
    never = {
        str(column.key): _EMPTY[column.type._type_affinity]  # noqa: SLF001 - the class that a type counts as
        for column in statement.selected_columns
        if column.type._type_affinity in _EMPTY and all(map(_is_filled, column.base_columns))  # noqa: SLF001
    }
    return [
        {**row, **{name: never[name] for name in never if row[name] is None}}
        if any(row[name] is None for name in never)
        else row
        for row in rows
    ]


def _is_filled(column: sa.ColumnElement[Any]) -> bool:
    return isinstance(column, sa.Column) and not column.nullable
