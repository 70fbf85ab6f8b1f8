"""The tables of the history, for SQLite and PostgreSQL alike.

A column is named like the field of the record it keeps. Durations are seconds, times are UTC, ids are UUIDv7 in hex, which
sort by time. Words that may grow (`category`, `reason`) are plain text; closed lists (`outcome`, `action`) are checked.
What changes here needs a migration, and `tests/migrations` holds both together.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from resilience.history.record import Action, CallOutcome

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware datetime, kept in UTC: `timestamptz` on PostgreSQL, sortable text on SQLite, which knows no timezones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Refuse a time that does not say which timezone it means."""
        if value is None:
            return None
        if value.tzinfo is None:
            msg = f"{value!r} has no timezone: give datetime.now(UTC)"
            raise ValueError(msg)
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Give back UTC, whatever timezone the session has."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _id(name: str, **kwargs: Any) -> sa.Column[str]:
    return sa.Column(name, sa.CHAR(32), **kwargs)


def _name(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(200), nullable=nullable)


def _seconds(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double(), nullable=nullable, comment="seconds")


def _one_of(column: str, values: type[Action | CallOutcome]) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


calls = sa.Table(
    "calls",
    metadata,
    _id("call_id", primary_key=True),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("started_at", UtcDateTime(), nullable=False),
    _seconds("duration"),
    _name("function"),
    _name("client"),
    _name("client_final", nullable=True),
    sa.Column("outcome", sa.String(32), nullable=False),
    sa.Column("attempts", sa.Integer(), nullable=False),
    sa.Column("retries", sa.Integer(), nullable=False),
    sa.Column("fallbacks", sa.Integer(), nullable=False),
    _id("instance_id", nullable=False),
    _one_of("outcome", CallOutcome),
    sa.Index(None, "started_at"),
    sa.Index(None, "client", "started_at"),
    sa.Index(None, "request_id"),
)
"""One row for each call of a user. Clean calls are kept too, until rollups count them."""

_unclean = calls.c.outcome != CallOutcome.OK.value
sa.Index("ix_calls_unclean", calls.c.started_at, sqlite_where=_unclean, postgresql_where=_unclean)

errors = sa.Table(
    "errors",
    metadata,
    _id("event_id", primary_key=True),
    sa.Column("occurred_at", UtcDateTime(), nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    _id("call_id", nullable=False),
    _name("function"),
    _name("client"),
    sa.Column("attempt", sa.Integer(), nullable=False),
    sa.Column("category", sa.String(32), nullable=False),
    sa.Column("recoverable", sa.Boolean(), nullable=False),
    sa.Column("status", sa.Integer()),
    _name("provider_code", nullable=True),
    _name("provider_request_id", nullable=True),
    _name("exception_type"),
    sa.Column("message", sa.String(2000), nullable=False),
    _id("fingerprint", nullable=False),
    _seconds("retry_after", nullable=True),
    _seconds("backoff", nullable=True),
    _seconds("duration"),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("late", sa.Boolean(), nullable=False),
    _id("instance_id", nullable=False),
    _one_of("action", Action),
    sa.Index(None, "occurred_at"),
    sa.Index(None, "client", "occurred_at"),
    sa.Index(None, "fingerprint", "occurred_at"),
    sa.Index(None, "call_id"),
    sa.Index(None, "request_id"),
)
"""One row for each attempt that failed and each refusal."""

fallbacks = sa.Table(
    "fallbacks",
    metadata,
    _id("event_id", primary_key=True),
    sa.Column("occurred_at", UtcDateTime(), nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    _id("call_id", nullable=False),
    _name("function"),
    _name("from_client"),
    _name("to_client"),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("succeeded", sa.Boolean()),
    _id("instance_id", nullable=False),
    sa.Index(None, "occurred_at"),
    sa.Index(None, "call_id"),
    sa.Index(None, "request_id"),
)
"""One row for each step from a client to the next; `succeeded` is null until it is known."""

instances = sa.Table(
    "instances",
    metadata,
    _id("instance_id", primary_key=True),
    _name("service"),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("pid", sa.Integer(), nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("started_at", UtcDateTime(), nullable=False),
    sa.Column("heartbeat_at", UtcDateTime(), nullable=False),
    sa.Column("dropped_events", sa.Integer(), nullable=False),
    sa.Index(None, "heartbeat_at"),
)
"""One row for each process that wrote here: when it last did, and what it could not keep."""
