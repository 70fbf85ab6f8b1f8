"""The wait of the writer thread until a batch is complete, and what ends it early."""

from __future__ import annotations

from typing import Final

from resilience.background import Wakeup

_LINES_WITHIN: Final = 0.01
"""Seconds until an error is in the logs. They are what is left of a process that is killed."""


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
