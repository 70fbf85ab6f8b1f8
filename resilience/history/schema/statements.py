"""Running a statement for the rows of a batch: on SQLite by the driver itself, from SQL that is compiled once.

For each execution SQLAlchemy finds the compiled statement, builds parameters and a result. For the few rows of a batch that takes
longer than SQLite needs to write them. The statements of the writer never change, so their SQL, the order of their parameters and
the conversions of values are found once. On a server the round trip takes longer than all of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError, StatementError

from resilience.history.schema import sqlite_driver

_DIALECT: Final = sqlite.dialect()


def execute(connection: sa.Connection, statement: sa.Executable, rows: Sequence[Mapping[str, Any]]) -> int:
    """Run *statement* for each of *rows*, in the transaction of *connection*. Return how many rows it inserted or changed.

    Args:
        connection: the database.
        statement: an INSERT; the same object at each call, because its compiled form is kept.
        rows: the parameters of each execution, at least one row; all have the same keys.

    Raises:
        StatementError: a value cannot be stored, or the database refuses the statement; as SQLAlchemy raises it.
    """
    if connection.dialect.name != "sqlite":
        return connection.execute(statement, list(rows)).rowcount
    compiled = _compiled(statement, tuple(rows[0]))
    parameters = compiled.parameters(rows)
    driver: Any = connection.connection.driver_connection
    try:
        return int(driver.executemany(compiled.sql, parameters).rowcount)
    except sqlite_driver.module.Error as exc:
        raise _wrapped(compiled.sql, exc) from exc


def run_on_sqlite(connection: sa.Connection, sql: str) -> None:
    """Run a statement without parameters and results, such as BEGIN, by the driver of SQLite itself.

    Raises:
        StatementError: the database refuses the statement.
    """
    driver: Any = connection.connection.driver_connection
    try:
        driver.execute(sql)
    except sqlite_driver.module.Error as exc:
        raise _wrapped(sql, exc) from exc


class _CompiledStatement:
    """A statement as the driver of SQLite takes it.

    Args:
        statement: the statement.
        keys: the keys of its rows.

    Attributes:
        sql: its text, with a question mark for each parameter.
    """

    def __init__(self, statement: Any, keys: tuple[str, ...]) -> None:
        compiled = statement.compile(dialect=_DIALECT, column_keys=list(keys))
        self.sql = str(compiled)
        self._parameters: list[tuple[str, Callable[[Any], Any] | None]] = []
        self._literals: dict[str, Any] = {}
        for name in compiled.positiontup:
            convert = compiled.binds[name].type.dialect_impl(_DIALECT).bind_processor(_DIALECT)
            if name in keys:
                self._parameters.append((name, convert))
                continue
            # A literal of the statement itself, such as the seconds of a day.
            literal = compiled.params[name]
            self._literals[name] = literal if convert is None else convert(literal)
            self._parameters.append((name, None))

    def parameters(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
        """Return the parameters of *rows* in the order of the question marks.

        Raises:
            StatementError: a value cannot be converted.
        """
        literals, order = self._literals, self._parameters
        try:
            if literals:
                rows = [{**row, **literals} for row in rows]
            return [
                tuple([row[name] if convert is None else convert(row[name]) for name, convert in order])
                for row in rows
            ]
        except Exception as exc:
            raise StatementError(type(exc).__name__, self.sql, None, exc, hide_parameters=True) from exc


@cache
def _compiled(statement: sa.Executable, keys: tuple[str, ...]) -> _CompiledStatement:
    return _CompiledStatement(statement, keys)


def _wrapped(sql: str, exc: Exception) -> BaseException:
    """Return an error of the driver as SQLAlchemy raises it, for `db_errors`."""
    error: BaseException = DBAPIError.instance(
        sql, None, exc, sqlite_driver.module.Error, hide_parameters=True, dialect=_DIALECT
    )
    return error
