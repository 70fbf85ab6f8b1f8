"""The one statement SQLite and PostgreSQL spell alike but SQLAlchemy keeps apart: insert, unless it is there already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

Insert = postgresql.Insert | sqlite.Insert


def insert(dialect: str, table: sa.Table) -> Insert:
    """An INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`, for the database called *dialect*."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def adding(statement: Insert, names: tuple[str, ...]) -> dict[str, Any]:
    """What an upsert sets so that columns are added up: what is there plus what came."""
    return {name: statement.table.c[name] + statement.excluded[name] for name in names}


def greatest(dialect: str, one: Any, other: Any) -> Any:
    """The greater of two values."""
    return sa.func.max(one, other) if dialect == "sqlite" else sa.func.greatest(one, other)


def least(dialect: str, one: Any, other: Any) -> Any:
    """The lesser of two values."""
    return sa.func.min(one, other) if dialect == "sqlite" else sa.func.least(one, other)


def upsert(statement: Insert, new: Mapping[str, Any]) -> sa.Executable:
    """*statement*, which sets *new* where the primary key is there already."""
    keys = [column.name for column in statement.table.primary_key]
    return statement.on_conflict_do_update(index_elements=keys, set_=dict(new))
