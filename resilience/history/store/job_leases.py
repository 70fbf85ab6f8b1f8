"""Leases for jobs that one process does for the whole fleet: pruning, and copying circuit events.

A lease is a row of `maintenance`: who has the job, and since when. It lasts for the job's period and is never given back, so
the job runs about once in a period and a process that dies delays it by one period at most. Two processes may do a job at the
same time nevertheless, for example when one of them hung for longer than a period. Every job must be safe to do twice.
"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from resilience.history.schema import db_time, upserts
from resilience.history.schema.tables import maintenance


def acquire(connection: sa.Connection, *, job: str, owner: str, period: float) -> str | None:
    """Acquire the lease of *job* for *owner*, unless a process acquired it less than *period* seconds ago.

    All times are the database's. One statement reads and takes the lease, so of several processes that ask at the same time
    exactly one gets it.

    Args:
        connection: the database, in a transaction that the caller commits.
        job: name of the job.
        owner: the process, as in `instances`.
        period: length of the lease, seconds.

    Returns:
        The job's cursor, which says how far it got, empty for a new job; None if another process holds the lease.
    """
    now, span = db_time.read(connection), timedelta(seconds=period)
    acquired_at = maintenance.c.last_run_at
    statement = upserts.insert(connection.dialect.name, maintenance).values(
        job=job, last_run_at=now, owner=owner, cursor=""
    )
    # A lease from more than one period ahead was stamped by a clock that has been corrected since. It is no lease:
    # otherwise it would block the job until that time comes.
    expired = (acquired_at <= now - span) | (acquired_at > now + span)
    lease = statement.on_conflict_do_update(
        index_elements=["job"], set_={"last_run_at": now, "owner": owner}, where=expired
    ).returning(maintenance.c.cursor)
    cursor: str | None = connection.execute(lease).scalar_one_or_none()
    return cursor
