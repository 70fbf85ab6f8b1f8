"""What a process says about itself in `instances`: who it is, that it is alive, what it could not store, and that it left."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from resilience import damage
from resilience.history.schema import db_time, rows, tables, upserts
from resilience.history.schema.statements import execute
from resilience.history.store.counters import Counts
from resilience.records.ids import new_id
from resilience.records.records import NAMESPACE
from resilience.version import package_version

_INT: Final = 2**31 - 1
DAMAGE: Final = {
    "damaged_circuits": damage.CIRCUIT,
    "damaged_transitions": damage.TRANSITION,
    "unreadable_lines": damage.LOG_LINE,
}
"""The column of `instances` for each kind of damage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The settings that a process runs with, as `policies` has them.

    Attributes:
        policy_id: a digest of the settings.
        settings: the settings, without secrets.
    """

    policy_id: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterStats:
    """The state of the writer, as it is stored in `instances`.

    Attributes:
        dropped: records of this process that were dropped.
        sampled: records of this process that were sampled out.
        depth: records that wait in the queue.
        degraded: whether this process cannot reach the store of the circuits.
        leaving: whether this process ends. A later heartbeat takes that back.
        damage: how often it met each kind of `resilience.damage`.
        policy: the settings of this process; None if they are not known.
        pending_counts: counts of records without rows, to be added in the transaction of this batch.
        rows_counted_through: number of the last record of this batch, among those of this process that get a row.
        rows_are_counted: whether the records of this batch are in the counters already, see `Database.count`.
        counted_before: number of the last record that was counted before this batch, among those without rows.
        rows_counted_before: the same among those that get a row.
    """

    dropped: int = 0
    sampled: int = 0
    depth: int = 0
    degraded: bool = False
    leaving: bool = False
    damage: Mapping[str, int] = field(default_factory=dict)
    policy: Policy | None = None
    pending_counts: Counts | None = None
    rows_counted_through: int = 0
    rows_are_counted: bool = False
    counted_before: int = 0
    rows_counted_before: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """This process, as `instances` and every log line name it.

    Attributes:
        service: what the process is for, as its operator calls it.
        namespace: the namespace of its first handler.
        instance_id: its id; a forked child gets another one.
        host: name of the machine.
        pid: process id.
        started_at: when recording started in this process.
    """

    service: str = ""
    namespace: str = NAMESPACE
    instance_id: str = field(default_factory=new_id)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def identity(self) -> dict[str, Any]:
        """Return the part of its row in `instances` that never changes."""
        return {
            "instance_id": self.instance_id,
            "service": self.service,
            "namespace": self.namespace,
            "host": self.host,
            "pid": self.pid,
            "version": package_version(),
            "started_at": self.started_at,
        }

    def row(self, stats: WriterStats) -> dict[str, Any]:
        """Return its row in `instances` but for the times, which the database stamps by its own clock."""
        return rows.fitted(
            tables.instances,
            {
                **self.identity(),
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
    execute(connection, _heartbeat(dialect, stats.leaving, stats.degraded), [instance.row(stats)])


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
