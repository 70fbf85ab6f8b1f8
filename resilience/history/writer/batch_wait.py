"""The wait of the writer thread until a batch is complete, and what ends it early."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from resilience.background import Wakeup
from resilience.records.log_events import Loggable
from resilience.records.records import CallOutcome, CallRecord

GATHER_SECONDS: Final = 1.0
"""Seconds that the rows of clean calls may wait for others where their log lines are in a file: a process that is killed loses
only rows that the next writer imports from there. One transaction a second costs a tenth of ten, in CPU and in writes."""
_LINES_WITHIN: Final = 0.01
"""Seconds until an error is in the logs. They are what is left of a process that is killed."""
_PAUSE: Final = 0.1
"""Seconds without a record after which the next one counts as the first."""
_SWITCH_INTERVAL: Final = 0.005
"""Seconds another thread may keep the interpreter before the woken one runs, see `sys.getswitchinterval`."""


def wait_for_batch(interval: float, transaction_time: float) -> float:
    """Return the seconds that a new record may wait for others, so that it is in the database within *interval*.

    Subtracted are the transaction itself, the one before it, which the record may have had to wait for, and the time
    until a woken thread runs. At least half of the interval remains, or slow databases would get tiny batches.

    Args:
        interval: the flush interval in seconds.
        transaction_time: seconds that a transaction takes.
    """
    return max(interval / 2, interval - 2 * transaction_time - _SWITCH_INTERVAL)


def may_gather(record: Loggable) -> bool:
    """Return whether the row of *record* may wait `GATHER_SECONDS` where its line is in a file: that of a clean call."""
    return isinstance(record, CallRecord) and record.outcome is CallOutcome.OK


class BatchWait:
    """Two signals that cut the wait for a batch short. Safe to set in any thread and any signal handler.

    Args:
        now: the monotonic clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._line_due, self._flush_now = Wakeup(), Wakeup()
        self._ended = float("-inf")

    def end_for_line(self) -> None:
        """End the wait for the log line of an error."""
        self._line_due.set()

    def end(self) -> None:
        """End the wait: a batch is full, or a caller flushes."""
        self._flush_now.set()  # first: the thread looks at it after the other signal has ended its wait
        self._line_due.set()

    def wait(self, seconds: float, *, lines_first: bool = False) -> float | None:
        """Wait until a batch is complete. Return the seconds waited if only the log lines are to be written then, else None.

        An error must be in the logs soon. It gets `_LINES_WITHIN` to be joined by others, and the rows wait on after the log
        lines were written.

        Args:
            seconds: longest time to wait.
            lines_first: whether the first record after a pause does not wait with its lines. At a few calls a second no other comes
                in time to share the write, and the end of the wait would only wake the thread once more.
        """
        after_pause = lines_first and self._now() - self._ended > max(seconds, _PAUSE)
        is_due = self._line_due.wait(0.0 if after_pause else seconds)
        self._ended = self._now()
        if not is_due:
            return 0.0 if after_pause else None
        within = min(seconds, _LINES_WITHIN)
        return None if self._flush_now.wait(within) else within
