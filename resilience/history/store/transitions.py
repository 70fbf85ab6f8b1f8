"""What the history remembers of the fleet's circuits: each move once, whichever process wrote it, and the last word on each client.

A process writes the moves it caused itself, as records. What one that was killed could not write, any other copies from the
store's log: `claim` gives the turn to one of them, with a cursor that says how far the log was read; `append` adds what is missing
and moves the cursor, in one transaction. Each step may be done twice or by two at once: the primary key of `breaker_events` and
the cursor it started from see to it that nothing changes then. So there is no leader, and whoever dies delays the rest by a while.

A log is capped, and a store may be emptied: moves that nobody copied in time are gone. That shows in SQL, because each move begins
where the one before it ended:

    SELECT client, occurred_at, was, from_state FROM (
        SELECT client, occurred_at, rule, from_state, lag(to_state) OVER (PARTITION BY client ORDER BY epoch) AS was
        FROM breaker_events WHERE namespace = 'resilience' AND scope = 'shared') AS moves
    WHERE from_state <> was AND rule <> 'restored';

(A `restored` move begins a new life after the store forgot the old one. What is missing between two equal states does not show.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from resilience.errors import HistoryError
from resilience.history.schema import db_time, rows, upserts, urls
from resilience.history.schema.db_errors import missing_object
from resilience.history.schema.engine import BEGIN, open_engine
from resilience.history.schema.tables import breaker_events, instances, maintenance
from resilience.records.records import TransitionRecord

SHARED: Final = "shared"
"""The scope of a circuit that lives in a store of many processes."""
RESTORED: Final = "restored"
"""The rule of a move that put back what a store had forgotten."""
_LASTING: Final = frozenset({"open", "forced_open", "disabled"})
_BEATS: Final = timedelta(minutes=2)
"""A process that wrote nothing for so long says nothing about how things stand."""
_BUSY: Final = 5.0  # seconds a read waits while the file is being set up


def heartbeat(connection: sa.Connection, *, instance_id: str, degraded: bool) -> None:
    """Record that a process is alive, and whether it has lost the store of the circuits."""
    connection.execute(
        sa.update(instances)
        .where(instances.c.instance_id == instance_id)
        .values(heartbeat_at=db_time.now(connection.dialect.name), degraded=degraded)
    )


def append(
    connection: sa.Connection,
    records: Sequence[TransitionRecord],
    *,
    instance_id: str,
    job: str,
    before: str,
    after: str,
) -> None:
    """Add those *records* that are missing, and move the *job*'s cursor from *before* to *after* unless another did."""
    if records:
        connection.execute(
            upserts.insert(connection.dialect.name, breaker_events).on_conflict_do_nothing(),
            [rows.row(record, instance_id) for record in records],
        )
    connection.execute(
        sa.update(maintenance)
        .where(maintenance.c.job == job, maintenance.c.cursor == before)
        .values(cursor=after)
    )


def last_moves(
    connection: sa.Connection, *, namespace: str, clients: Iterable[str] | None = None
) -> dict[str, TransitionRecord]:
    """The last move of each shared circuit that was more than a restoration: of the *clients* named, or of all."""
    mine = [
        breaker_events.c.namespace == namespace,
        breaker_events.c.scope == SHARED,
        breaker_events.c.rule != RESTORED,
    ]
    if clients is not None:
        mine.append(breaker_events.c.client.in_(list(clients)))
    latest = (
        sa.select(breaker_events.c.client, sa.func.max(breaker_events.c.epoch).label("epoch"))
        .where(*mine)
        .group_by(breaker_events.c.client)
        .subquery()
    )
    query = (
        sa.select(breaker_events)
        .join(
            latest,
            sa.and_(breaker_events.c.client == latest.c.client, breaker_events.c.epoch == latest.c.epoch),
        )
        .where(*mine)
    )
    found = connection.execute(query).mappings()
    return {row["client"]: rows.record(TransitionRecord, dict(row)) for row in found}


def lasting(move: TransitionRecord, now: datetime) -> float | None:
    """How many seconds longer a circuit must stay where this move put it; infinite without end, None when it need not."""
    if move.to_state not in _LASTING:
        return None
    if move.indefinite:
        return float("inf")
    left = move.wait - (now - move.occurred_at).total_seconds() if move.wait is not None else 0.0
    return left if left > 0 else None


def remembered(url: str | None, namespace: str) -> tuple[dict[str, TransitionRecord], int]:
    """Read the last move of every circuit, and how many processes lately said that the store was away for them.

    Makes nothing: a database that is not there, or has no tables yet, remembers nothing.

    Raises:
        HistoryError: the database cannot be read.
        ConfigurationError: *url* cannot be used.
    """
    parsed = None if url is None else urls.parse(url)
    if parsed is None or (urls.is_sqlite(parsed) and not urls.path(parsed).exists()):
        return {}, 0
    engine = open_engine(parsed, wait=_BUSY)
    try:
        with engine.connect().execution_options(**{BEGIN: "BEGIN"}) as connection:
            return last_moves(connection, namespace=namespace), _degraded(connection)
    except DBAPIError as exc:
        if missing_object(exc.orig) == "table":
            return {}, 0
        msg = f"the history at {urls.shown(parsed)} cannot be read: {str(exc.orig).partition(chr(10))[0]}"
        raise HistoryError(msg) from exc
    finally:
        engine.dispose()


def _degraded(connection: sa.Connection) -> int:
    alive = instances.c.heartbeat_at > db_time.read(connection) - _BEATS
    count = sa.select(sa.func.count()).where(instances.c.degraded, alive)
    return int(connection.scalar(count) or 0)
