"""The columns that the tables are made of: types, names and defaults that mean the same in each."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from resilience.records.records import NAMESPACE

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


UNREADABLE: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""What a time reads as that is none."""


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

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:
        """Return the function that converts what a driver returns. A text that is no time reads as `UNREADABLE`.

        SQLite keeps any value in any column. One row that another program damaged must not hide all others.
        """
        convert = super().result_processor(dialect, coltype)
        if convert is None:
            return None

        def tolerant(value: Any) -> Any:
            try:
                return convert(value)
            except (ValueError, TypeError, OverflowError):
                return UNREADABLE

        return tolerant

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return *value* in UTC, whatever the timezone of the session."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Json(sa.types.TypeDecorator[Any]):
    """JSON: `jsonb` on PostgreSQL, and text on SQLite. None is NULL of SQL."""

    # none_as_null: otherwise None would be the JSON value null, which IS NULL does not find.
    impl = sa.JSON(none_as_null=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        """Return the type of *dialect*. That of PostgreSQL is imported for PostgreSQL alone: it takes longer than all tables."""
        if dialect.name != "postgresql":
            return dialect.type_descriptor(sa.JSON(none_as_null=True))
        from sqlalchemy.dialects.postgresql import JSONB  # noqa: PLC0415 - see above

        return dialect.type_descriptor(JSONB(none_as_null=True))


def identifier(name: str, **kwargs: Any) -> sa.Column[str]:
    """Return a column for a UUIDv7 or a digest in hex."""
    return sa.Column(name, sa.CHAR(32), **kwargs)


def name(name: str, *, nullable: bool = False) -> sa.Column[str]:
    """Return a column for the name of a client, a function or a class."""
    return sa.Column(name, sa.String(200), nullable=nullable)


def seconds(name: str, *, nullable: bool = False) -> sa.Column[float]:
    """Return a column for a duration in seconds."""
    return sa.Column(name, sa.Double(), nullable=nullable, comment="seconds")


def when(name: str, **kwargs: Any) -> sa.Column[datetime]:
    """Return a column for a time that every row has."""
    return sa.Column(name, UtcDateTime(), **{"nullable": False, **kwargs})


def count(name: str, *, nullable: bool = False) -> sa.Column[int]:
    """Return a column for a small number."""
    return sa.Column(name, sa.Integer(), nullable=nullable)


def total(name: str) -> sa.Column[int]:
    """Return a column for a sum of counts, 0 by default."""
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0"))


def share(name: str) -> sa.Column[float]:
    """Return a column for a share from 0 to 1, 1 by default."""
    return sa.Column(name, sa.Double(), nullable=False, server_default=sa.text("1"))


def flag(name: str) -> sa.Column[bool]:
    """Return a column that is true or false, false by default."""
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())


def stream() -> tuple[sa.Column[bool], sa.Column[float]]:
    """Return the columns of what is known of a stream."""
    return flag("streamed"), seconds("time_to_first_token", nullable=True)


def namespace(**kwargs: Any) -> sa.Column[str]:
    """Return the column for the namespace of a row."""
    # The tables of counters have it in their keys, because two deployments may name their clients alike.
    # A default: rows that are older than the column belong to the default namespace, and no row is rewritten for it.
    return sa.Column("namespace", sa.String(100), nullable=False, server_default=NAMESPACE, **kwargs)


def bucket(*labels: sa.Column[Any]) -> tuple[sa.Column[Any], ...]:
    """Return the key of a table of counters. Time comes first: windows and retention read and delete by time."""
    return (
        when("bucket_at", primary_key=True),
        sa.Column("grain", sa.Integer(), primary_key=True, autoincrement=False, comment="seconds"),
        namespace(primary_key=True),
        *labels,
    )


def label(name: str, length: int = 200) -> sa.Column[str]:
    """Return a column of the key of a counter."""
    return sa.Column(name, sa.String(length), primary_key=True)


def total_seconds(name: str) -> sa.Column[float]:
    """Return a column for a sum of durations in seconds, 0 by default."""
    return sa.Column(name, sa.Double(), nullable=False, server_default=sa.text("0"), comment="seconds")


def grain() -> sa.CheckConstraint:
    """Return the check of the column `grain`."""
    # TOTAL, MINUTE and HOUR of store/counter_rows.py.
    return sa.CheckConstraint("grain IN (0, 60, 3600)", name="grain")


def json(name: str) -> sa.Column[Any]:
    """Return a column for JSON."""
    return sa.Column(name, Json())


def trace() -> tuple[sa.Column[str], sa.Column[str]]:
    """Return the columns of the OpenTelemetry span of a row."""
    return sa.Column("trace_id", sa.CHAR(32)), sa.Column("span_id", sa.CHAR(16))


def one_of(column: str, values: Iterable[str]) -> sa.CheckConstraint:
    """Return the check that *column* has one of *values*."""
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


MAX_COUNT: Final = 10**15
"""A count, or a number of seconds, that no fleet reaches."""


def sound_sum(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """Return the sum of counts or seconds, without values that no fleet reaches; 0 without any.

    SQLite keeps any value in any column, and ends a statement whose sum of whole numbers is beyond 2^63. Decimal fractions have no
    such limit.
    """
    return sa.func.coalesce(sa.func.sum(sa.case((column.between(0, MAX_COUNT), 1.0 * column))), 0)
