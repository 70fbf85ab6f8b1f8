"""Deletion of rows past their retention, in pieces so small that writers hardly wait.

One DELETE of 300,000 rows locks an SQLite file for seconds. Many small ones without a pause let the write-ahead log grow to gigabytes,
because a checkpoint can reset it only while no process reads or writes. Pieces of 1000 rows, a pause of 20 ms after each, and a
checkpoint after every tenth cost other writers 20 ms at the 99th percentile.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from resilience.history.retention import totals
from resilience.history.retention.policy import Retention
from resilience.history.schema import db_time, tables, upserts
from resilience.history.schema.engine import BEGIN, WAIT
from resilience.history.store import counter_rows
from resilience.history.store.database import Database
from resilience.records.transitions import COOL_DOWN, RESTORED, SHARED

PIECE: Final = 1000
"""Rows of one piece."""

_CHECKPOINT_EVERY: Final = 10
_PAGES: Final = 2000
"""Pages that one step of the vacuum returns to the disk."""
_BUSY: Final = 20
"""Milliseconds that a checkpoint waits for readers; another checkpoint follows soon."""

Removed = tuple[str, int]
"""A table, and how many of its rows were deleted."""


def prune(database: Database, retention: Retention, now: datetime | None = None) -> Iterator[Removed]:
    """Delete the rows that *retention* does not keep, piece by piece; yield the table and the number of rows of each piece.

    Args:
        database: the history.
        retention: how long each kind of row is kept.
        now: the present; by default the database's, read once at the start, so that a process whose clock is wrong deletes
            nothing that is still wanted.

    Raises:
        Exception: as `Database.write`; what was deleted before stays deleted.
    """
    pieces = 0
    now = now or database.do(db_time.read)
    # Each piece is a transaction of its own. The caller pauses at every yield, so that batches of writers get in between.
    for removed in _pieces(database, retention, now):
        yield removed
        pieces += 1
        if pieces % _CHECKPOINT_EVERY == 0:
            _checkpoint(database)
    if pieces and _is_file(database):
        yield from _shrink(database)
        _checkpoint(database)


def size(connection: sa.Connection) -> int:
    """Return the bytes of an SQLite file that are in use, without its free pages."""
    pages, free, page = (
        int(connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0)
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * page


def _pieces(database: Database, retention: Retention, now: datetime) -> Iterator[Removed]:
    for name, age in retention.ages():
        for table in _WITH.get(name, ()):
            yield from _older(database, table, now - min(age, _AGES.get(table, age)))
    if retention.minutes is not None:
        minutes = timedelta(days=retention.minutes)
        for table, age in (
            (tables.rollups, minutes),
            (tables.error_rollups, minutes),
            (tables.latencies, _SIZES),
        ):
            yield from _to_hours(database, table, now - min(minutes, age))
    if retention.max_bytes is not None and _is_file(database):
        yield from _larger(database, retention.max_bytes)


_WITH: Final = {
    "errors": (tables.errors,),
    "calls": (tables.calls,),
    "payloads": (tables.payloads,),
    "fallbacks": (tables.fallbacks,),
    "breaker_events": (tables.breaker_events,),
    "rollups": (*totals.COUNTERS, tables.error_groups, tables.instances, tables.policies),
}
_SIZES: Final = timedelta(days=1)
"""The age at which minutes of `latencies` become hours. They have a row for each size of a duration, about ten times those of others."""
_AGES: Final = {tables.latencies: timedelta(days=90)}
"""Tables that are kept for a shorter time than those of their kind, for the same reason."""
_TIMES: Final = {
    **{table: table.c.bucket_at for table in totals.COUNTERS},
    **{table: table.c.occurred_at for table in tables.metadata.sorted_tables if "occurred_at" in table.c},
    tables.calls: tables.calls.c.started_at,
    tables.error_groups: tables.error_groups.c.last_seen_at,
    tables.instances: tables.instances.c.heartbeat_at,
    tables.policies: tables.policies.c.first_seen_at,
}
_BY_SIZE: Final = (tables.errors, tables.calls, tables.payloads, tables.fallbacks)
_UNUSED: Final = sa.not_(
    sa.exists(sa.select(1).where(tables.instances.c.policy_id == tables.policies.c.policy_id))
)
_UNTOUCHED: Final = (tables.error_groups.c.status == "open") & tables.error_groups.c.note.is_(None)
_events: Final = tables.breaker_events.c
_later: Final = tables.breaker_events.alias("later")
_SUPERSEDED: Final = (
    (_events.scope != SHARED)
    | _events.rule.in_((RESTORED, COOL_DOWN))
    | sa.exists(
        sa.select(sa.literal(1)).where(
            *(_later.c[name] == _events[name] for name in ("namespace", "client", "scope")),
            _later.c.epoch > _events.epoch,
            _later.c.rule.not_in((RESTORED, COOL_DOWN)),
        )
    )
)
"""Transitions that a later one supersedes. The last one of a shared circuit stays, however old it is.

After a store has lost its circuits, they are restored from what `transitions.last_transitions` returns, also an operator's order
without an end. The two must agree on which transitions count.
"""


def _time(table: sa.Table) -> sa.ColumnElement[datetime]:
    return _TIMES[table]


def _older(database: Database, table: sa.Table, before: datetime) -> Iterator[Removed]:
    deleted = PIECE
    while deleted == PIECE:
        with database.begin() as connection:
            deleted = _delete(connection, table, before)
        if deleted:
            yield table.name, deleted


def _delete(connection: sa.Connection, table: sa.Table, before: datetime) -> int:
    """Delete one piece of a table, and keep what its rows counted. Return how many rows it were."""
    deleted = connection.execute(_deleting(table), {"before": before, "piece": PIECE})
    if not totals.columns(table):
        return deleted.rowcount
    # Read as they are deleted: a second statement could see other rows, because another process may prune or import meanwhile.
    removed = [dict(row) for row in deleted.mappings()]
    totals.keep(connection, table, removed)
    return len(removed)


@cache
def _deleting(table: sa.Table) -> sa.Executable:
    """Return the DELETE of one piece of a table, the oldest rows first."""
    key = sa.tuple_(*table.primary_key) if len(table.primary_key) > 1 else next(iter(table.primary_key))
    time = _time(table)
    oldest = sa.select(*table.primary_key).where(time < sa.bindparam("before"))
    if table is tables.error_groups:  # an operator's note or status is not ours to delete
        oldest = oldest.where(_UNTOUCHED)
    if table is tables.breaker_events:
        oldest = oldest.where(_SUPERSEDED)
    if table is tables.policies:
        oldest = oldest.where(_UNUSED)
    if table in totals.COUNTERS:
        oldest = oldest.where(table.c.grain != counter_rows.TOTAL)
    # SQLite and PostgreSQL have no DELETE with LIMIT in common, so the keys of one piece are selected first.
    oldest = oldest.order_by(time).limit(sa.bindparam("piece"))
    statement = sa.delete(table).where(key.in_(oldest))
    return statement.returning(*totals.columns(table)) if totals.columns(table) else statement


def _to_hours(database: Database, table: sa.Table, before: datetime) -> Iterator[Removed]:
    """Add up counts by minute before *before* to counts by hour, one hour in a piece."""
    limit = before.replace(minute=0, second=0, microsecond=0)
    when = table.c.bucket_at
    minutes = table.c.grain == counter_rows.MINUTE
    oldest = sa.select(sa.func.min(when)).where(minutes)
    while True:
        with database.begin() as connection:
            # In one transaction the minutes of an hour are added to the row of the hour and deleted, so each is counted once at any time.
            first = connection.scalar(oldest)
            if first is None or first >= limit:
                return
            hour = first.replace(minute=0, second=0, microsecond=0)
            these = minutes & (when >= hour) & (when < hour + timedelta(hours=1))
            # The hour may have a row already, if minutes came late, for example from an import. The statement adds to it.
            connection.execute(_sum_to_hour(connection.dialect.name, table, hour, these))
            deleted = connection.execute(sa.delete(table).where(these)).rowcount
            if not deleted:
                # On SQLite another program may have put anything there. A time that is none has no hour, and would stay the oldest.
                unreadable = minutes & (when == oldest.scalar_subquery())
                deleted = connection.execute(sa.delete(table).where(unreadable)).rowcount
        yield table.name, deleted


def _sum_to_hour(
    dialect: str, table: sa.Table, hour: datetime, these: sa.ColumnElement[bool]
) -> sa.Executable:
    """Return the statement that adds the rows of *these* to the row of their hour, by their labels."""
    when: Any = sa.literal(hour, table.c.bucket_at.type)
    labels = [table.c[name] for name in counter_rows.shape(table).labels]
    keys = (when.label("bucket_at"), sa.literal(counter_rows.HOUR).label("grain"), *labels)
    total = sa.select(*keys, *counter_rows.summed(table)).where(these).group_by(*labels)
    statement = upserts.insert(dialect, table).from_select(list(total.selected_columns.keys()), total)
    return counter_rows.added(dialect, statement)


def _larger(database: Database, most: int) -> Iterator[Removed]:
    """Delete the oldest rows of all tables until the file has at most *most* bytes in use."""
    while True:
        with database.begin() as connection:
            if size(connection) <= most:
                return
            oldest = {
                table: time
                for table in _BY_SIZE
                if (time := connection.scalar(sa.select(sa.func.min(_time(table))))) is not None
            }
            # Any age: the table with the oldest row of all gives up one piece, whatever its retention. The next one does if
            # another program has left nothing but times that are none, which sort behind all others.
            for table in sorted(oldest, key=lambda table: oldest[table]):
                before = datetime.max.replace(tzinfo=oldest[table].tzinfo)
                if deleted := _delete(connection, table, before):
                    break
            else:
                return
        yield table.name, deleted


# --- the file ---------------------------------------------------------------------------------------------------


def _is_file(database: Database) -> bool:
    return database.opened().dialect.name == "sqlite"


def _shrink(database: Database) -> Iterator[Removed]:
    """Return free pages to the disk. They may still hold the text of deleted rows, which must not outlive its retention."""
    free, before = 0, -1
    while free != before:  # equal if none are left, or if the file was created without incremental vacuum
        with _outside(database) as connection:
            before = int(connection.exec_driver_sql("PRAGMA freelist_count").scalar() or 0)
            raw: Any = connection.connection.driver_connection
            # The pragma frees one page each time a row is fetched, and SQLAlchemy fetches none of a statement without results.
            raw.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
            free = int(connection.exec_driver_sql("PRAGMA freelist_count").scalar() or 0)
        yield "pages", before - free
    with _outside(database) as connection:
        # Refresh the statistics of the query planner if the tables have changed much.
        connection.exec_driver_sql("PRAGMA optimize").close()


def _checkpoint(database: Database) -> None:
    """Move the write-ahead log into the file and truncate it, unless a reader is in the way."""
    if _is_file(database):
        with _outside(database) as connection:
            connection.info.pop(WAIT, None)  # the next transaction sets its own
            connection.exec_driver_sql(f"PRAGMA busy_timeout={_BUSY}")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _outside(database: Database) -> Any:
    """Return a connection outside of a transaction, which pragmas such as `wal_checkpoint` need."""
    return database.opened().connect().execution_options(**{BEGIN: None})
