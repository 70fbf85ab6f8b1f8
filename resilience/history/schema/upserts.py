"""Upserts: the one kind of statement that SQLite and PostgreSQL spell alike and SQLAlchemy keeps apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

    Insert = postgresql.Insert | sqlite.Insert


def insert(dialect: str, table: sa.Table) -> Insert:
    """Return an INSERT that has `on_conflict_do_nothing` and `on_conflict_do_update`.

    Args:
        dialect: `sqlite` or `postgresql`.
        table: the table.
    """
    if dialect == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - it imports for 0.15 s, and few processes use a server

    return postgresql.insert(table)


def adding(statement: Insert, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the assignments of an upsert that adds columns up: the stored value plus the new one.

    Args:
        statement: the INSERT.
        names: the columns.
    """
    # `excluded` is the row that could not be inserted, in both databases.
    return {name: statement.table.c[name] + statement.excluded[name] for name in names}


def greatest(dialect: str, first: Any, second: Any) -> Any:
    """Return SQL for the greater of two values."""
    return sa.func.max(first, second) if dialect == "sqlite" else sa.func.greatest(first, second)


def least(dialect: str, first: Any, second: Any) -> Any:
    """Return SQL for the lesser of two values."""
    return sa.func.min(first, second) if dialect == "sqlite" else sa.func.least(first, second)


def upsert(statement: Insert, assignments: Mapping[str, Any]) -> sa.Executable:
    """Return *statement* with the assignments to make where a row with its primary key exists."""
    keys = [column.name for column in statement.table.primary_key]
    return statement.on_conflict_do_update(index_elements=keys, set_=dict(assignments))
