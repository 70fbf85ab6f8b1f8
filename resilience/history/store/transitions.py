"""Transitions of shared circuits in SQL: each transition once, and the last one of each client.

A process records the transitions that it causes itself. Those of a process that was killed are copied from the store's log by any
other: `job_leases.acquire` gives the job to one process, with a cursor that says how far the log was read. `append` adds the missing
rows and moves the cursor, in one transaction. Each step may run twice, or in two processes at once. The primary key of
`breaker_events` and the cursor from which a copy started make sure that nothing changes then. So there is no leader, and a process
that dies delays the others by one period of the lease.

The log of a store has a limit, and a store may be emptied, so transitions that were not copied in time are lost. SQL shows that,
because each transition begins in the state in which the one before ended:

    SELECT client, occurred_at, was, from_state FROM (
        SELECT client, occurred_at, rule, from_state, lag(to_state) OVER (PARTITION BY client ORDER BY epoch) AS was
        FROM breaker_events WHERE namespace = 'resilience' AND scope = 'shared' AND rule <> 'cool_down') AS moves
    WHERE from_state <> was AND rule <> 'restored';

A `restored` transition begins a new series after the store lost the circuit. A gap between two equal states does not show.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from resilience.errors import HistoryError
from resilience.history.schema import db_time, rows, tolerant_types, upserts, urls
from resilience.history.schema.db_errors import missing_object
from resilience.history.schema.engine import BEGIN, open_engine
from resilience.history.schema.tables import breaker_events, maintenance, rollups
from resilience.history.schema.tables import instances as table
from resilience.history.store import instances
from resilience.records.records import TransitionRecord
from resilience.records.transitions import COOL_DOWN, RESTORED, SHARED

_HEARTBEAT_TIMEOUT: Final = timedelta(minutes=2)
"""A process whose heartbeat is older does not count as degraded: it may have ended."""
_LOCK_TIMEOUT: Final = 5.0
"""Seconds that a read waits while another process creates the file."""


def append(
    connection: sa.Connection,
    records: Sequence[TransitionRecord],
    *,
    instance_id: str,
    job: str,
    before: str,
    after: str,
) -> None:
    """Insert copied transitions that are missing, and move the cursor of the job unless another process moved it.

    Args:
        connection: the database, in a transaction that the caller commits.
        records: the copied transitions.
        instance_id: the process that copies.
        job: the name of the job.
        before: the cursor from which the copy started.
        after: the cursor at which it ended.
    """
    if records:
        connection.execute(
            upserts.insert(connection.dialect.name, breaker_events).on_conflict_do_nothing(),
            [rows.row(record, instance_id) for record in records],
        )
    # A slow copy is harmless: its rows exist already, and the cursor that a faster copy has moved stays where it is.
    connection.execute(
        sa.update(maintenance)
        .where(maintenance.c.job == job, maintenance.c.cursor == before)
        .values(cursor=after)
    )


def last_transitions(
    connection: sa.Connection, *, namespace: str, clients: Iterable[str] | None = None
) -> dict[str, TransitionRecord]:
    """Return the last transition of each shared circuit by client, restorations left out.

    Args:
        connection: the database.
        namespace: the namespace of the circuits.
        clients: clients to read; all by default.
    """
    # Restorations repeat an earlier order. The order itself says when it ends, so they are left out.
    conditions = [
        breaker_events.c.namespace == namespace,
        breaker_events.c.scope == SHARED,
        breaker_events.c.rule.not_in((RESTORED, COOL_DOWN)),
    ]
    if clients is not None:
        conditions.append(breaker_events.c.client.in_(list(clients)))
    # The last transition by epoch, not by time: epochs of a circuit only grow, and clocks may be set back.
    latest = (
        sa.select(breaker_events.c.client, sa.func.max(breaker_events.c.epoch).label("epoch"))
        .where(*conditions)
        .group_by(breaker_events.c.client)
        .subquery()
    )
    query = (
        sa.select(breaker_events)
        .join(
            latest,
            sa.and_(breaker_events.c.client == latest.c.client, breaker_events.c.epoch == latest.c.epoch),
        )
        .where(*conditions)
    )
    stored = connection.execute(query).mappings()
    found = (rows.record(TransitionRecord, dict(row)) for row in stored)
    return {record.client: record for record in found if record.client}


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitHistory:
    """What the history says about the circuits of a deployment, and about the processes that use them.

    Attributes:
        transitions: the last transition of each shared circuit, by client.
        clients: every client of the namespace that the history has rows of, sorted.
        processes: processes of the namespace with a recent heartbeat that have not left.
        degraded: those of them that cannot reach the store.
    """

    transitions: Mapping[str, TransitionRecord] = field(default_factory=dict)
    clients: tuple[str, ...] = ()
    processes: int = 0
    degraded: int = 0


def read_circuit_history(url: str | None, namespace: str) -> CircuitHistory:
    """Return what the history says about the circuits of a namespace.

    Creates nothing: without a database, or without tables in it, there are no transitions.

    Args:
        url: the database; None if no history is kept.
        namespace: the namespace of the circuits.

    Raises:
        HistoryError: the database cannot be read.
        ConfigurationError: *url* cannot be used.
    """
    parsed = None if url is None else urls.parse(url)
    if parsed is None or (urls.is_sqlite(parsed) and not urls.path(parsed).exists()):
        return CircuitHistory()
    engine = open_engine(parsed, wait=_LOCK_TIMEOUT)
    tolerant_types.read_tolerantly(engine)
    try:
        # On SQLite a deferred transaction: a read must not wait for writers, nor make them wait.
        with engine.connect().execution_options(**{BEGIN: "BEGIN"}) as connection:
            moves = last_transitions(connection, namespace=namespace)
            processes, degraded = _alive(connection, namespace)
            return CircuitHistory(
                transitions=moves,
                clients=tuple(sorted({*moves, *filter(None, _clients(connection, namespace))})),
                processes=processes,
                degraded=degraded,
            )
    except DBAPIError as exc:
        if missing_object(exc.orig) == "table":
            return CircuitHistory()
        msg = f"the history at {urls.shown(parsed)} cannot be read: {str(exc.orig).partition(chr(10))[0]}"
        raise HistoryError(msg) from exc
    finally:
        engine.dispose()


def _clients(connection: sa.Connection, namespace: str) -> Iterable[str]:
    """Return the clients that were asked; roll-ups are few rows, and kept longer than calls."""
    return connection.scalars(sa.select(rollups.c.client).where(rollups.c.namespace == namespace).distinct())


def _alive(connection: sa.Connection, namespace: str) -> tuple[int, int]:
    """Return how many processes are there, by their latest heartbeats, and how many of them cannot reach the store."""
    alive = instances.alive(db_time.read(connection) - _HEARTBEAT_TIMEOUT)
    these = alive & (table.c.namespace == namespace)
    processes = connection.scalar(sa.select(sa.func.count()).where(these))
    degraded = connection.scalar(sa.select(sa.func.count()).where(table.c.degraded, these))
    return int(processes or 0), int(degraded or 0)
