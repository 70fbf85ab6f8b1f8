"""The database's clock: the only one that leases, heartbeats and retention go by.

Processes that share a history have clocks of their own, and one of them may be wrong by a year: a virtual machine woken from
a snapshot, a board without a battery. If such a process pruned by its own clock, it would delete everything the others wrote.
If it stamped a lease, no other process would get the job until its time came. So every time that one process writes and another
compares is read from the database, and both sides of the comparison are.

A PostgreSQL server has a clock of its own. An SQLite file has the clock of the machine it is on, read by SQLite itself.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from resilience.history.schema.tables import UtcDateTime


def now(dialect: str) -> sa.ColumnElement[datetime]:
    """Return the SQL expression for the present, for use inside a statement.

    Args:
        dialect: `sqlite` or `postgresql`.
    """
    if dialect == "sqlite":
        # `%f` has milliseconds. Stored times have microseconds, and are compared as text: both need the same length.
        text = sa.func.strftime("%Y-%m-%d %H:%M:%f", "now").concat("000")
        return sa.type_coerce(text, UtcDateTime())
    # Not now(): that is the start of the transaction, which may have waited for a lock since.
    return sa.type_coerce(sa.func.clock_timestamp(), UtcDateTime())


def seconds(dialect: str, start: Any, end: Any) -> sa.ColumnElement[float]:
    """Return the SQL expression for the seconds from *start* to *end*; null if either is.

    Args:
        dialect: `sqlite` or `postgresql`.
        start: an expression for a time.
        end: an expression for a later time.
    """
    if dialect == "sqlite":
        days: sa.ColumnElement[float] = _julian_day(end) - _julian_day(start)
        return days * sa.literal(86400.0)
    return sa.cast(sa.extract("epoch", end - start), sa.Double())


def _julian_day(time: Any) -> sa.ColumnElement[float]:
    return sa.func.julianday(time, type_=sa.Double())


def read(connection: sa.Connection) -> datetime:
    """Return the present by the clock of the database, as an aware UTC datetime."""
    present: datetime = connection.execute(sa.select(now(connection.dialect.name))).scalar_one()
    return present
