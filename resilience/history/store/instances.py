"""What a process says about itself in `instances`: who it is, that it is alive, what it could not store, and that it left."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from resilience import damage_counts
from resilience.history.schema import db_time, rows, tables, upserts
from resilience.history.schema.statements import execute
from resilience.history.store.process import Instance, WriterStats

_INT: Final = 2**31 - 1
DAMAGE: Final = {
    "damaged_circuits": damage_counts.CIRCUIT,
    "damaged_transitions": damage_counts.TRANSITION,
    "unreadable_lines": damage_counts.LOG_LINE,
}
"""The column of `instances` for each kind of damage."""


class Counted(NamedTuple):
    """Which records of a process the counters of a database have: those without rows, and those with rows, by their numbers."""

    after: int = 0
    through: int = 0
    rows_after: int = 0
    rows_through: int = 0


def counted(connection: sa.Connection, instance_ids: Iterable[str]) -> dict[str, Counted]:
    """Return, by process, which of its records are in the counters."""
    columns = tables.instances.c
    numbers = (
        columns.counted_from,
        columns.counted_through,
        columns.rows_counted_from,
        columns.rows_counted_through,
    )
    query = sa.select(columns.instance_id, *numbers).where(columns.instance_id.in_(tuple(instance_ids)))
    return {instance_id: Counted(*found) for instance_id, *found in connection.execute(query)}


def write(connection: sa.Connection, instance: Instance, stats: WriterStats, *, new_policy: bool) -> None:
    """Update the row of this process, or insert it.

    Args:
        connection: the database.
        instance: this process.
        stats: the state of its writer.
        new_policy: whether its settings may have no row yet.
    """
    dialect = connection.dialect.name
    # The policy first: a reader that finds its id in `instances` must find the row.
    if new_policy and stats.policy is not None:
        found = {"policy_id": stats.policy.policy_id, "settings": dict(stats.policy.settings)}
        connection.execute(_keeping_policy(dialect), found)
    execute(connection, _heartbeat(dialect, stats.leaving, stats.degraded), [_row(instance, stats)])


def touch(connection: sa.Connection, *, instance_id: str, degraded: bool) -> None:
    """Record that a process is alive, and whether it has lost the store of the circuits."""
    now = db_time.now(connection.dialect.name)
    changes = _degradation(connection.dialect.name, now, degraded)
    connection.execute(
        sa.update(tables.instances)
        .where(tables.instances.c.instance_id == instance_id)
        .values(heartbeat_at=now, degraded=degraded, ended_at=None, **changes)
    )


def alive(within: sa.ColumnElement[datetime] | datetime) -> sa.ColumnElement[bool]:
    """Return the condition that a process of `instances` has not left, and sent a heartbeat after *within*."""
    columns = tables.instances.c
    return columns.ended_at.is_(None) & (columns.heartbeat_at > within)


def _row(instance: Instance, stats: WriterStats) -> dict[str, Any]:
    """Return the row of *instance* but for the times, which the database stamps by its own clock."""
    return rows.fitted(
        tables.instances,
        {
            **instance.identity(),
            "dropped_events": min(stats.dropped, _INT),
            "sampled_events": min(stats.sampled, _INT),
            "queue_depth": min(stats.depth, _INT),
            # A process that leaves closes its store first. That is no trouble with the store.
            "degraded": stats.degraded and not stats.leaving,
            **{column: stats.damage.get(kind, 0) for column, kind in DAMAGE.items()},
            "policy_id": None if stats.policy is None else stats.policy.policy_id,
            "counted_through": stats.pending_counts.through if stats.pending_counts else 0,
            "rows_counted_through": stats.rows_counted_through,
            # Kept from the first batch on: what this process wrote before went to another database.
            "counted_from": stats.counted_before,
            "rows_counted_from": stats.rows_counted_before,
        },
    )


@cache
def _keeping_policy(dialect: str) -> sa.Executable:
    statement = upserts.insert(dialect, tables.policies).values(first_seen_at=db_time.now(dialect))
    return statement.on_conflict_do_nothing()


@cache
def _heartbeat(dialect: str, leaving: bool, degraded: bool) -> sa.Executable:  # noqa: FBT001 - a key of the cache
    # Cached by what the statement says, of which there are few: to build and compile it takes longer than to run it.
    degraded = degraded and not leaving
    now = db_time.now(dialect)
    statement = upserts.insert(dialect, tables.instances).values(
        heartbeat_at=now, ended_at=now if leaving else None, degraded_since=now if degraded else None
    )
    new: dict[str, Any] = {name: statement.excluded[name] for name in _CURRENT}
    new |= _degradation(dialect, statement.excluded["heartbeat_at"], degraded)
    stored = tables.instances.c.policy_id
    new["policy_id"] = sa.func.coalesce(statement.excluded["policy_id"], stored)
    # A batch without counts has 0 here, which must not replace the number of earlier counts. Nor may a batch of rows that
    # follow their counts set back the number of the last one counted.
    for name in ("counted_through", "rows_counted_through"):
        new[name] = upserts.greatest(dialect, tables.instances.c[name], statement.excluded[name])
    return upserts.upsert(statement, new)


_CURRENT: Final = (
    "heartbeat_at",
    "ended_at",
    "dropped_events",
    "sampled_events",
    "queue_depth",
    "degraded",
    *DAMAGE,
)


def _degradation(dialect: str, now: Any, degraded: bool) -> dict[str, Any]:  # noqa: FBT001 - as above
    """Return the changes of a row for a process that is degraded, or is not, at the time *now*."""
    # The stored value decides when a time of degradation began, and not this process: it knows of no commit that it did not see.
    # So a statement that is repeated adds no time twice.
    columns = tables.instances.c
    if degraded:
        return {"degraded_since": sa.func.coalesce(columns.degraded_since, now)}
    since = sa.func.coalesce(db_time.seconds(dialect, columns.degraded_since, now), 0.0)
    return {"degraded_since": None, "degraded_seconds": columns.degraded_seconds + since}
