"""Making the views in a database: from one text to the SQL of SQLite and of PostgreSQL, and knowing whether it is there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Final

import sqlalchemy as sa

from resilience.history.schema.views import VIEWS, SqlView

_MARK: Final = "a view of the resilience history"
"""Stands in the text of each view: by it one that another version made is known as ours."""
_TOKEN: Final = re.compile(r"\{(\w+):([^{}]+)\}")

_Spelling = Callable[..., str]


def _later(time: str, us: str) -> str:
    """*time*'s whole second and *us* microseconds: SQLite's own arithmetic knows only milliseconds."""
    return (
        f"DATETIME(SUBSTR({time}, 1, 19), ({us} / 1000000) || ' seconds') || PRINTF('.%06d', {us} % 1000000)"
    )


_BOTH: Final[Mapping[str, _Spelling]] = {
    "whole": lambda value: f"CAST({value} AS BIGINT)",
    "many": lambda wanted: (
        f"CAST(ROUND(COALESCE(SUM(1 / NULLIF(sample_rate, 0)) FILTER (WHERE {wanted}), 0)) AS BIGINT)"
    ),  # a row that was sampled stands for several
    "share": lambda part, whole: f"CAST(ROUND({part} * 1.0 / NULLIF({whole}, 0), 4) AS DOUBLE PRECISION)",
    "rounded": lambda value: f"CAST(ROUND(CAST({value} AS NUMERIC), 3) AS DOUBLE PRECISION)",
}
_SPELLINGS: Final[Mapping[str, Mapping[str, _Spelling]]] = {
    "sqlite": {
        **_BOTH,
        "index": lambda name: (
            f"INDEXED BY {name}"
        ),  # else it may go through every kind of error there ever was
        "hour": lambda time: f"SUBSTR({time}, 1, 13) || ':00:00'",  # twice as fast as strftime
        "hours_ago": lambda hours: f"STRFTIME('%Y-%m-%d %H:%M:%f', 'now', '-{hours} hours')",
        "seconds": lambda start, end: f"ROUND((JULIANDAY({end}) - JULIANDAY({start})) * 86400, 3)",
        "later": lambda time, seconds: _later(
            time,
            f"(CAST(SUBSTR({time}, 21, 6) AS INTEGER) + CAST(ROUND({seconds} * 1000000) AS INTEGER))",
        ),
    },
    "postgresql": {
        **_BOTH,
        "index": lambda _: "",
        "hour": lambda time: f"DATE_TRUNC('hour', {time}, 'UTC')",
        "hours_ago": lambda hours: f"NOW() - INTERVAL '{hours} hours'",
        "seconds": lambda start, end: (
            f"CAST(ROUND(EXTRACT(EPOCH FROM {end} - {start}), 3) AS DOUBLE PRECISION)"
        ),
        "later": lambda time, seconds: f"{time} + {seconds} * INTERVAL '1 second'",
    },
}


def query(view: SqlView, dialect: str, since: str | None = None) -> str:
    """The SELECT of *view*, as `sqlite` or `postgresql` spells it; *since* is SQL that stands for its window's start."""
    spelling: Mapping[str, _Spelling] = _SPELLINGS[dialect]
    if since is not None:
        spelling = {**spelling, "hours_ago": lambda _: since}
    text, found = view.sql.strip(), 1
    while found:  # the innermost first
        text, found = _TOKEN.subn(lambda token: spelling[token[1]](*token[2].split("|")), text)
    return text


def hour(dialect: str, column: str) -> str:
    """SQL for the hour a time of *column* lies in."""
    return _SPELLINGS[dialect]["hour"](column)


def statements(dialect: str) -> Iterator[str]:
    """The SQL that makes all views, in order: some read others."""
    for view in VIEWS:
        if dialect == "sqlite":
            yield _with_comments(view)
        else:
            yield f"CREATE VIEW {view.name} AS\n{query(view, dialect)}"
            yield f"COMMENT ON VIEW {view.name} IS {_quoted(_comment(view))}"
            for column, meaning in view.columns.items():
                yield f"COMMENT ON COLUMN {view.name}.{column} IS {_quoted(meaning)}"


def current(connection: sa.Connection) -> bool:
    """Are the views of *connection*'s database exactly these? Only reads."""
    if connection.dialect.name == "sqlite":
        return _found(connection) == {view.name: _with_comments(view) for view in VIEWS}
    return _found(connection) == {view.name: _comment(view) for view in VIEWS}


def drop(connection: sa.Connection) -> None:
    """Drop the views, whichever version made them. Views that people made are left alone.

    Raises:
        DBAPIError: on PostgreSQL, somebody's own view reads one of them.
    """
    _run(connection, dropping(_found(connection)))


def create(connection: sa.Connection) -> None:
    """Make the views; there must be none of them."""
    _run(connection, statements(connection.dialect.name))


def dropping(names: Iterable[str] | None = None) -> Iterator[str]:
    """The SQL that drops the views *names*, those that read others first; all of this version when not given."""
    order = [view.name for view in VIEWS]
    wanted = set(order if names is None else names)
    for name in (*sorted(wanted.difference(order)), *(name for name in reversed(order) if name in wanted)):
        yield f"DROP VIEW IF EXISTS {name}"


def _run(connection: sa.Connection, texts: Iterable[str]) -> None:
    for text in texts:
        connection.exec_driver_sql(text)


_MADE: Final = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'view'",
    "postgresql": "SELECT relname, OBJ_DESCRIPTION(oid, 'pg_class') FROM pg_class "
    "WHERE relkind = 'v' AND relnamespace = CURRENT_SCHEMA()::regnamespace",
}


def _found(connection: sa.Connection) -> dict[str, str]:
    """Our views in the database, by name: on SQLite what they are, on PostgreSQL, which rewrites that, their comment."""
    made = connection.exec_driver_sql(_MADE[connection.dialect.name])
    return {name: text for name, text in made if text is not None and _MARK in text}


def _with_comments(view: SqlView) -> str:
    columns = "".join(f"--   {name}: {meaning}\n" for name, meaning in view.columns.items())
    head = f"-- {view.answers} ({view.window}; {_MARK})\n{columns}"
    return f"CREATE VIEW {view.name} AS\n{head}{query(view, 'sqlite')}"


def _comment(view: SqlView) -> str:
    digest = blake2b(repr((view.columns, query(view, "postgresql"))).encode(), digest_size=8).hexdigest()
    return f"{view.answers} ({view.window}; {_MARK}, {digest})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
