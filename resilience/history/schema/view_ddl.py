"""DDL for the views: their SQL for SQLite and PostgreSQL, creating and dropping them, and checking that they are up to date.

Views have no revision. Each carries its definition in the database: as its text on SQLite, as a digest in its comment on PostgreSQL,
which rewrites the text of a view. A view that differs from its definition here is created again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Final

import sqlalchemy as sa

from resilience.history.schema.views import VIEWS, SqlView

_MARK: Final = "a view of the resilience history"
"""A mark in the text or comment of each view. It identifies views of any version of this package, so it must never change."""
_TOKEN: Final = re.compile(r"\{(\w+):([^{}]+)\}")

_Spelling = Callable[..., str]


def _size(bucket: str) -> str:
    """Return SQL for the upper end of a bucket of `latencies`, 2^(bucket / 4) seconds; not every SQLite has POWER."""
    whole = f"({bucket} + 40) / 4"
    # Not the operator for the rest: the driver of PostgreSQL takes its percent sign for a parameter.
    rest = f"{bucket} + 40 - 4 * ({whole})"
    parts = "WHEN 0 THEN 1.0 WHEN 1 THEN 1.189207115 WHEN 2 THEN 1.414213562 ELSE 1.681792831"
    return f"((1 << ({whole})) / 1024.0 * CASE {rest} {parts} END)"


def _later(time: str, us: str) -> str:
    """Return SQL for the whole second of *time* plus *us* microseconds; date functions of SQLite have milliseconds only."""
    return (
        f"DATETIME(SUBSTR({time}, 1, 19), ({us} / 1000000) || ' seconds') || PRINTF('.%06d', {us} % 1000000)"
    )


_BOTH: Final[Mapping[str, _Spelling]] = {
    "whole": lambda value: f"CAST({value} AS BIGINT)",
    # A sampled row represents several: at a sample rate of 0.1 it counts as ten.
    "many": lambda condition: (
        f"CAST(ROUND(COALESCE(SUM(1 / NULLIF(sample_rate, 0)) FILTER (WHERE {condition}), 0)) AS BIGINT)"
    ),
    "share": lambda part, whole: f"CAST(ROUND({part} * 1.0 / NULLIF({whole}, 0), 4) AS DOUBLE PRECISION)",
    "size": _size,
    "rounded": lambda value: f"CAST(ROUND(CAST({value} AS NUMERIC), 3) AS DOUBLE PRECISION)",
}
_SPELLINGS: Final[Mapping[str, Mapping[str, _Spelling]]] = {
    "sqlite": {
        **_BOTH,
        # Without it SQLite may choose the index on fingerprints and read every error that is kept.
        "index": lambda name: f"INDEXED BY {name}",
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
    """Return the SELECT of *view* in the SQL of a database.

    Args:
        view: the view.
        dialect: `sqlite` or `postgresql`.
        since: SQL for the start of the window, instead of the view's own.
    """
    spelling: Mapping[str, _Spelling] = _SPELLINGS[dialect]
    if since is not None:
        spelling = {**spelling, "hours_ago": lambda _: since}
    # Tokens may be nested. The pattern matches only tokens without braces inside, so each pass replaces the innermost ones.
    text, replaced = view.sql.strip(), 1
    while replaced:
        text, replaced = _TOKEN.subn(lambda token: spelling[token[1]](*token[2].split("|")), text)
    return text


def hour(dialect: str, column: str) -> str:
    """Return SQL for the start of the hour of a time column."""
    return _SPELLINGS[dialect]["hour"](column)


def create_statements(dialect: str) -> Iterator[str]:
    """Yield the SQL that creates all views, in an order in which each view follows those that it reads."""
    for view in VIEWS:
        if dialect == "sqlite":
            yield _with_comments(view)
        else:
            yield f"CREATE VIEW {view.name} AS\n{query(view, dialect)}"
            yield f"COMMENT ON VIEW {view.name} IS {_quoted(_comment(view))}"
            for column, meaning in view.columns.items():
                yield f"COMMENT ON COLUMN {view.name}.{column} IS {_quoted(meaning)}"


def current(connection: sa.Connection) -> bool:
    """Return whether the views of the database are exactly those of this version. Reads only."""
    if connection.dialect.name == "sqlite":
        return _stored_views(connection) == {view.name: _with_comments(view) for view in VIEWS}
    return _stored_views(connection) == {view.name: _comment(view) for view in VIEWS}


def drop(connection: sa.Connection) -> None:
    """Drop the views of this package, of any version. Other views are left alone.

    Raises:
        DBAPIError: on PostgreSQL, a view of the operator reads one of them.
    """
    _run(connection, drop_statements(_stored_views(connection)))


def create(connection: sa.Connection) -> None:
    """Create the views. None of them may exist."""
    _run(connection, create_statements(connection.dialect.name))


def drop_statements(names: Iterable[str] | None = None) -> Iterator[str]:
    """Yield the SQL that drops views, those that read others first.

    Args:
        names: the views to drop, also those that only an earlier version had; all views of this version by default.
    """
    order = [view.name for view in VIEWS]
    chosen = set(order if names is None else names)
    for name in (*sorted(chosen.difference(order)), *(name for name in reversed(order) if name in chosen)):
        yield f"DROP VIEW IF EXISTS {name}"


def _run(connection: sa.Connection, texts: Iterable[str]) -> None:
    for text in texts:
        connection.exec_driver_sql(text)


_LIST_VIEWS: Final = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'view'",
    "postgresql": "SELECT relname, OBJ_DESCRIPTION(oid, 'pg_class') FROM pg_class "
    "WHERE relkind = 'v' AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = CURRENT_SCHEMA())",
}


def _stored_views(connection: sa.Connection) -> dict[str, str]:
    """Return the views of this package by name, with their text on SQLite and their comment on PostgreSQL."""
    stored = connection.exec_driver_sql(_LIST_VIEWS[connection.dialect.name])
    return {name: text for name, text in stored if text is not None and _MARK in text}


def _with_comments(view: SqlView) -> str:
    # SQLite keeps the text of a view as it was given, so comments in it are shown by `.schema`.
    columns = "".join(f"--   {name}: {meaning}\n" for name, meaning in view.columns.items())
    head = f"-- {view.answers} ({view.window}; {_MARK})\n{columns}"
    return f"CREATE VIEW {view.name} AS\n{head}{query(view, 'sqlite')}"


def _comment(view: SqlView) -> str:
    # PostgreSQL stores a view in parsed form. The digest in its comment stands for the text.
    digest = blake2b(repr((view.columns, query(view, "postgresql"))).encode(), digest_size=8).hexdigest()
    return f"{view.answers} ({view.window}; {_MARK}, {digest})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
