"""The one process of many that prunes: by a lease in `maintenance`, hourly, on the writer thread when it has nothing to do."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from resilience.history.retention.policy import Retention
from resilience.history.retention.pruning import PAUSE, prune
from resilience.history.store import job_leases
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
        if self._round is None:
            lease = partial(job_leases.acquire, job=JOB, owner=self._owner, period=_EVERY)
            if self._database.do(lease) is None:
                return False
            self._round = prune(self._database, self._retention)
        if next(self._round, None) is not None:
            return True
        self._round = None
        return False
