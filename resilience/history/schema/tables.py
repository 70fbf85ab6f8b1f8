"""The tables of the history, the same on SQLite and PostgreSQL.

A column is named like the field of the record that it stores. Durations are seconds, times are UTC, ids are UUIDv7 in hex, which
sort by time. Words whose list may grow (`category`, `reason`) are plain text; closed lists (`outcome`, `action`) are checked.

Every change here needs a migration in `migrations/versions`. The tests compare a migrated database with one that is created from
these tables, so one cannot be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from resilience.records.records import Action, CallOutcome

ROLLED = (
    "calls",
    "attempts",
    "errors",
    "failed_calls",
    "cancelled_calls",
    "rejected_calls",
    "retried_calls",
    "recovered_retry",
    "fallback_calls",
    "recovered_fallback",
    "input_tokens",
    "output_tokens",
)
"""The columns of `rollups` that are added up.

`attempts` and `errors` belong to the client that was tried, in the minute in which the attempt ended. So errors over attempts is
the error rate of a client. A refusal by a circuit is neither. All other columns belong to the primary client of the call, in the
minute in which the call ended.
"""

# Names by rule: a migration has to address constraints and indexes by name, and SQLite gives them none of its own.
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
    """An aware datetime, stored in UTC: `timestamptz` on PostgreSQL, and text on SQLite, which has no type for times.

    The text sorts like the time because all of it is UTC and of the same length.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return *value* as the driver takes it; refuse a time without a timezone."""
        if value is None:
            return None
        if value.tzinfo is None:
            msg = f"{value!r} has no timezone: give datetime.now(UTC)"
            raise ValueError(msg)
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return *value* in UTC, whatever the timezone of the session."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _id(name: str, **kwargs: Any) -> sa.Column[str]:
    return sa.Column(name, sa.CHAR(32), **kwargs)


def _name(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(200), nullable=nullable)


def _seconds(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double(), nullable=nullable, comment="seconds")


def _when(name: str, **kwargs: Any) -> sa.Column[datetime]:
    return sa.Column(name, UtcDateTime(), **{"nullable": False, **kwargs})


def _count(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def _sum(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0"))


def _share(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double(), nullable=False, server_default=sa.text("1"))


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())


def _stream() -> tuple[sa.Column[bool], sa.Column[float]]:
    return _flag("streamed"), _seconds("time_to_first_token", nullable=True)


def _json(name: str) -> sa.Column[Any]:
    # none_as_null: None is stored as NULL of SQL. Otherwise it would be the JSON value null, which IS NULL does not find.
    return sa.Column(
        name, sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
    )


def _trace() -> tuple[sa.Column[str], sa.Column[str]]:
    return sa.Column("trace_id", sa.CHAR(32)), sa.Column("span_id", sa.CHAR(16))


def _one_of(column: str, values: Iterable[str]) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


# There are no foreign keys between the tables. An error is written before its call, which has not ended yet,
# and each table has a retention of its own. Clients and fingerprints are indexed together with the time,
# since their queries have a window. `request_id` has an index in every table that v_request_timeline reads.
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
    _seconds("recovery", nullable=True),
    _id("fingerprint"),
    _count("input_tokens", nullable=True),
    _count("output_tokens", nullable=True),
    *_trace(),
    _json("tags"),
    # Server defaults are for rows that were written before the column existed. Records always give a value.
    _share("sample_rate"),
    *_stream(),
    _flag("probe"),
    _one_of("outcome", CallOutcome),
    sa.Index(None, "started_at"),
    sa.Index(None, "client", "started_at"),
    sa.Index(None, "request_id"),
)
"""One row for each call, and for each probe that ran beside a call."""

# Partial indexes: most calls are ok and few are traced, so these stay small and cost most inserts nothing.
_not_ok = calls.c.outcome != CallOutcome.OK.value
sa.Index("ix_calls_not_ok", calls.c.started_at, sqlite_where=_not_ok, postgresql_where=_not_ok)
_traced = calls.c.trace_id.is_not(None)
sa.Index("ix_calls_trace_id", calls.c.trace_id, sqlite_where=_traced, postgresql_where=_traced)

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
    _name("provider", nullable=True),
    _name("model", nullable=True),
    _count("input_tokens", nullable=True),
    _count("output_tokens", nullable=True),
    sa.Column("denied", sa.String(32)),
    sa.Column("breaker_state", sa.String(16)),
    *_trace(),
    _share("sample_rate"),
    sa.Column("stack", sa.Text()),
    _json("detail"),
    sa.Column("fp_version", sa.String(16), nullable=False, server_default="v1"),
    *_stream(),
    _flag("probe"),
    _one_of("action", Action),
    # v_top_errors_24h names this first index: see {index:...} in views.py.
    sa.Index(None, "occurred_at"),
    sa.Index(None, "client", "occurred_at"),
    sa.Index(None, "fingerprint", "occurred_at"),
    sa.Index(None, "call_id"),
    sa.Index(None, "request_id"),
)
"""One row for each failed attempt and each refusal by a circuit."""

_traced = errors.c.trace_id.is_not(None)
sa.Index("ix_errors_trace_id", errors.c.trace_id, sqlite_where=_traced, postgresql_where=_traced)

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
    sa.Column("position", sa.Integer(), nullable=False, server_default=sa.text("1")),
    _id("fingerprint"),
    _seconds("duration", nullable=True),
    sa.Index(None, "occurred_at"),
    sa.Index(None, "call_id"),
    sa.Index(None, "request_id"),
)
"""One row for each fallback from a client to the next; `succeeded` is null if the outcome is not known."""

breaker_events = sa.Table(
    "breaker_events",
    metadata,
    sa.Column("namespace", sa.String(100), primary_key=True),
    sa.Column("client", sa.String(200), primary_key=True),
    sa.Column("scope", sa.String(32), primary_key=True),
    # The epoch must stay the last column of the key: v_breaker_outages finds the next transition of a circuit by it.
    sa.Column("epoch", sa.BigInteger(), primary_key=True, autoincrement=False),
    _when("occurred_at"),
    sa.Column("from_state", sa.String(16), nullable=False),
    sa.Column("to_state", sa.String(16), nullable=False),
    sa.Column("rule", sa.String(32), nullable=False),
    sa.Column("reason", sa.String(500), nullable=False),
    _name("actor"),
    _count("calls"),
    _count("failures"),
    _seconds("wait", nullable=True),
    sa.Column("indefinite", sa.Boolean(), nullable=False),
    _id("instance_id", nullable=False),
    sa.Index(None, "client", "scope", "occurred_at"),
    sa.Index(None, "occurred_at"),
)
"""One row for each transition of a circuit.

The primary key identifies a transition, so the transition of a shared circuit has one row, no matter how many processes write it.
"""

error_groups = sa.Table(
    "error_groups",
    metadata,
    _id("fingerprint", primary_key=True),
    sa.Column("fp_version", sa.String(16), nullable=False),
    sa.Column("category", sa.String(32), nullable=False),
    _name("exception_type"),
    sa.Column("title", sa.String(300), nullable=False),
    _when("first_seen_at"),
    _when("last_seen_at"),
    _sum("count"),
    sa.Column("status", sa.String(16), nullable=False, server_default="open"),
    sa.Column("note", sa.Text()),
    _one_of("status", ("open", "muted", "resolved")),
    sa.Index(None, "last_seen_at"),
)
"""One row for each kind of error. `count` is exact, even if rows of `errors` were sampled or pruned."""

rollups = sa.Table(
    "rollups",
    metadata,
    # Time comes first in the key: windows and retention read and delete by time.
    _when("bucket_at", primary_key=True),
    sa.Column("grain", sa.Integer(), primary_key=True, autoincrement=False, comment="seconds"),
    sa.Column("client", sa.String(200), primary_key=True),
    sa.Column("function", sa.String(200), primary_key=True),
    *map(_sum, ROLLED),
    sa.Column("duration_sum", sa.Double(), nullable=False, server_default=sa.text("0"), comment="seconds"),
    sa.Column("duration_max", sa.Double(), nullable=False, server_default=sa.text("0"), comment="seconds"),
    # The two grains of store/rollups.py: MINUTE and HOUR.
    sa.CheckConstraint("grain IN (60, 3600)", name="grain"),
)
"""Exact counts by minute, client and function: the denominators of all rates. Old minutes are added up to hours."""

# Content is in a table of its own: it is large, it is kept for a shorter time, and most queries of errors do not need it.
payloads = sa.Table(
    "payloads",
    metadata,
    _id("event_id", primary_key=True),
    _when("occurred_at"),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("prompt", sa.Text()),
    sa.Column("raw_output", sa.Text()),
    sa.Column("prompt_hash", sa.String(64)),
    sa.Column("output_hash", sa.String(64)),
    sa.Column("privacy", sa.String(16), nullable=False),
    sa.Index(None, "occurred_at"),
    sa.Index(None, "request_id"),
)
"""Prompts and answers of failed attempts. Empty unless the privacy level keeps content."""

maintenance = sa.Table(
    "maintenance",
    metadata,
    sa.Column("job", sa.String(200), primary_key=True),
    _when("last_run_at"),
    sa.Column("owner", sa.CHAR(32), nullable=False),
    sa.Column("cursor", sa.Text(), nullable=False),
)
"""One row for each job that one process does for all: its lease and its cursor, see `store/job_leases.py`."""

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
    sa.Column("sampled_events", sa.Integer(), nullable=False, server_default=sa.text("0")),
    sa.Column("queue_depth", sa.Integer(), nullable=False, server_default=sa.text("0")),
    sa.Column("degraded", sa.Boolean(), nullable=False, server_default=sa.false()),
    _sum("counted_through"),
    _sum("rows_counted_through"),
    sa.Index(None, "heartbeat_at"),
)
"""One row for each process that writes here: its last heartbeat, and what it could not store.

`counted_through` is the sequence number up to which its records without rows (`dropped_events`, `sampled_events`) are in the counters.
`rows_counted_through` is the number up to which its records with rows are counted: those of the rows that are here, and at the end
of a process also those whose rows follow.
"""
