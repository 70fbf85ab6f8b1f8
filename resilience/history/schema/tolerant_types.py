"""How an SQLite history is read: values that another program put into a column of another type harm no reader.

SQLite keeps any value in any column. So a column of numbers may have a text, and a text may be no UTF-8. PostgreSQL refuses both. A value
of the wrong type is read as one of the right type, because one damaged row must not hide all others.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event

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
