"""The one process of many that prunes: by a lease in `maintenance`, hourly, on the writer thread when it has nothing to do."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from resilience.history.retention.policy import Retention
from resilience.history.retention.pruning import PAUSE, prune
from resilience.history.schema import tables, upserts
from resilience.history.store.database import Database

JOB: Final = "retention"
_EVERY: Final = 3600.0
_FIRST: Final = 60.0
"""Seconds a process lives before it offers itself: those that end sooner have no time to spare."""

_log = logging.getLogger("resilience")


class RetentionJob:
    """What keeps the history small.

    Args:
        database: whose writer thread this runs on.
        retention: what to keep.
        owner: this process, in `instances`.
        now: the monotonic clock.
    """

    def __init__(
        self,
        database: Database,
        retention: Retention,
        owner: str,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._retention = retention
        self._owner = owner
        self._now = now
        self._due = now() + _FIRST
        self._round: Iterator[Any] | None = None

    def nap(self) -> float:
        """Seconds until there is something to do."""
        return max(0.0, self._due - self._now())

    def step(self) -> None:
        """Do a small piece, if it is time. Never raises: what went wrong is tried again in an hour."""
        if self.nap() > 0:
            return
        try:
            self._due = self._now() + (PAUSE if self._goes_on() else _EVERY)
        except Exception as exc:  # noqa: BLE001 - the history goes on growing, the writer goes on writing
            _log.debug("pruning the history was put off: %s", type(exc).__name__)
            self._round, self._due = None, self._now() + _EVERY

    def _goes_on(self) -> bool:
        now = datetime.now(UTC)
        if self._round is None:
            with self._database.opened().begin() as connection:
                if not claim(connection, JOB, self._owner, timedelta(seconds=_EVERY), now):
                    return False
            self._round = prune(self._database, self._retention, now)
        if next(self._round, None) is not None:
            return True
        self._round = None
        return False


def claim(connection: sa.Connection, job: str, owner: str, every: timedelta, now: datetime) -> bool:
    """Is it *owner* who does *job* now? One process in each span of *every* hears yes.

    A row from the future, left by a clock that was wrong, keeps nobody away.
    """
    statement = upserts.insert(connection.dialect.name, tables.maintenance).values(
        job=job, last_run_at=now, owner=owner, cursor=""
    )
    last = tables.maintenance.c.last_run_at
    won = statement.on_conflict_do_update(
        index_elements=["job"],
        set_={"last_run_at": now, "owner": owner},
        where=(last <= now - every) | (last > now + every),
    )
    return connection.execute(won.execution_options(preserve_rowcount=True)).rowcount == 1
