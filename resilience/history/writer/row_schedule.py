"""When the rows that wait must be in the database: soon, or for a clean call whose line is in a file within a second."""

from __future__ import annotations

import math

from resilience.history.writer.batch_wait import GATHER_SECONDS, wait_for_batch


class RowSchedule:
    """When the next transaction is due. Used by the writer thread alone; times are seconds of the monotonic clock.

    Args:
        interval: the flush interval in seconds.

    Attributes:
        due: when the rows that wait are due; 0 for at once.
    """

    def __init__(self, interval: float) -> None:
        self.due = 0.0
        self._interval = interval
        self._soon = self._transaction_time = 0.0
        self._began = self._taken_at = -math.inf
        self._in_files = False
        self._all_gather = True

    def batch_wait(self, now: float) -> float:
        """Return the seconds that a new record may wait for others, so that it is in the database within the flush interval.

        Where the lines of the last records are in files, a transaction does not begin before one interval after the last one.
        Such a record may be in the database later than the interval by the time that a transaction takes. Its line is in the
        file long before.
        """
        wait = wait_for_batch(self._interval, self._transaction_time)
        return max(wait, self._next(now) - now)

    def take(
        self, now: float, *, waited: float | None, gather: list[bool], waiting: bool, in_files: bool
    ) -> None:
        """Note that records were taken.

        Args:
            now: the time.
            waited: seconds that they have waited; None if their rows are due now.
            gather: of each record, whether its row may wait for others.
            waiting: whether rows waited before.
            in_files: whether their lines go to files.
        """
        soon = 0.0 if waited is None else max(now + self.batch_wait(now) - waited, self._next(now))
        due, self._all_gather = (self.due, self._all_gather) if waiting else (math.inf, True)
        for may_gather in gather:
            due = min(due, now + GATHER_SECONDS - self._interval if may_gather else soon)
        self._all_gather &= all(gather)
        if gather:
            self._in_files = in_files
            # Calls so rare that the next one comes after the rows are due: written now, they cost the thread no further wake-up.
            pause, self._taken_at = now - self._taken_at, now
            if self._all_gather and waiting and self._interval < pause and due - now <= pause:
                due = now
        self.due, self._soon = (soon if math.isinf(due) else due), soon

    def lines_lost(self) -> None:
        """Note that the lines of what was taken are not where another process would find them: a kill would lose rows that gather."""
        self._in_files = False
        self.due = min(self.due, self._soon)

    def at_once(self) -> None:
        """Note that a caller waits for the rows."""
        self.due = 0.0

    def written(self, began: float, now: float) -> None:
        """Note a transaction."""
        # A slowly decaying maximum: one slow transaction makes the next records come earlier for a while.
        self._began, self._transaction_time = began, max(now - began, 0.9 * self._transaction_time)

    def _next(self, now: float) -> float:
        """Return when the next transaction may begin; now, where rows are all that is left of a process that is killed."""
        return self._began + self._interval if self._in_files else now
