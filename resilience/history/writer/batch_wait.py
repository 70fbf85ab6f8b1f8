"""The wait of the writer thread until a batch is complete, and what ends it early."""

from __future__ import annotations

from typing import Final

from resilience.background import Wakeup
from resilience.records.log_events import Loggable
from resilience.records.records import CallOutcome, CallRecord

GATHER_SECONDS: Final = 1.0
"""Seconds that the rows of clean calls may wait for others where their log lines are in a file: a process that is killed loses
only rows that the next writer imports from there. One transaction a second costs a tenth of ten, in CPU and in writes."""
_LINES_WITHIN: Final = 0.01
"""Seconds until an error is in the logs. They are what is left of a process that is killed."""
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
    """Two signals that cut the wait for a batch short. Safe to set in any thread and any signal handler."""

    def __init__(self) -> None:
        self._line_due, self._flush_now = Wakeup(), Wakeup()

    def end_for_line(self) -> None:
        """End the wait for the log line of an error."""
        self._line_due.set()

    def end(self) -> None:
        """End the wait: a batch is full, or a caller flushes."""
        self._flush_now.set()  # first: the thread looks at it after the other signal has ended its wait
        self._line_due.set()

    def wait(self, seconds: float) -> float | None:
        """Wait until a batch is complete. Return the seconds waited if an error ended the wait early, else None.

        An error must be in the logs soon. It gets `_LINES_WITHIN` to be joined by others, and the rows wait on after the log
        lines were written.

        Args:
            seconds: longest time to wait.
        """
        if not self._line_due.wait(seconds):
            return None
        within = min(seconds, _LINES_WITHIN)
        return None if self._flush_now.wait(within) else within
