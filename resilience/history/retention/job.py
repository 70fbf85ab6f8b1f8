"""The hourly retention job. One process of many does it, on its writer thread, in pieces between batches.

A lease in `maintenance` decides which process, see `store/job_leases.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from resilience import lifecycle
from resilience.history.retention.policy import Retention

if TYPE_CHECKING:
    from resilience.history.store.database import Database

JOB: Final = "retention"
_PERIOD: Final = 3600.0
"""Seconds from one job to the next, of all processes together."""
PAUSE: Final = 0.02
"""Seconds between two pieces."""
_FIRST: Final = 60.0
"""Seconds that a process lives before it takes the job. Scripts that end sooner should not have to prune."""

_log = logging.getLogger("resilience")


class RetentionJob:
    """The retention job of one process.

    Args:
        database: returns the connection of the writer thread, on which the job runs.
        retention: how long rows are kept.
        owner: this process, as in `instances`.
        now: the monotonic clock, seconds.
    """

    def __init__(
        self,
        database: Callable[[], Database],
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

    def seconds_until_due(self) -> float:
        """Return the seconds until `step` has something to do."""
        return max(0.0, self._due - self._now())

    def step(self) -> None:
        """Delete one piece, if it is time. Never raises: after an error the job is tried again in an hour."""
        if self.seconds_until_due() > 0:
            return
        try:
            # The next piece comes after a pause, the next round after a period.
            self._due = self._now() + (PAUSE if self._delete_piece() else _PERIOD)
        # The lease stays with this process until it expires. Another one takes the job then, if this one still cannot.
        except Exception as exc:  # noqa: BLE001 - an error here must not end the thread that writes
            _log.debug("pruning the history failed, it is tried again in an hour: %s", type(exc).__name__)
            self._round, self._due = None, self._now() + _PERIOD

    def _delete_piece(self) -> bool:
        """Delete the next piece of a round, or begin one. Return whether the round goes on."""
        if self._round is None:
            # Here: most processes end before their first round.
            with lifecycle.importing():
                from resilience.history.retention.pruning import prune  # noqa: PLC0415
                from resilience.history.store import job_leases  # noqa: PLC0415

            database = self._database()
            lease = partial(job_leases.acquire, job=JOB, owner=self._owner, period=_PERIOD)
            if database.do(lease) is None:
                return False
            self._round = prune(database, self._retention)
        if next(self._round, None) is not None:
            return True
        self._round = None
        return False
