"""Exact counts by minute, client and function: the denominators of all rates."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from resilience.failure import ErrorCategory
from resilience.history.schema.tables import rollups
from resilience.history.store.counter_rows import HOUR, MINUTE, OTHERS, CounterRows, minute_of
from resilience.records.records import CallOutcome, CallRecord, ErrorRecord, Record

__all__ = ["HOUR", "MINUTE", "OTHERS", "Rollups"]


class Rollups(CounterRows):
    """Counts that are to be added to `rollups`.

    Args:
        most: number of rows to hold in memory.
    """

    def __init__(self, most: int = 10_000) -> None:
        super().__init__(rollups, most=most)

    def add(self, record: Record) -> None:
        """Count *record* if it is a call or an error.

        Raises:
            ValueError: its time has no timezone.
            OverflowError: its duration is too long for a timedelta.
        """
        if isinstance(record, CallRecord):
            self._call(record)
        # A refusal by a circuit sent no request, so it is neither an attempt nor an error of the client.
        elif isinstance(record, ErrorRecord) and record.category is not ErrorCategory.CIRCUIT_OPEN:
            # By the end of the attempt. A call is counted at its own end, which may be minutes later.
            row = self.at(minute_of(record.occurred_at), record.namespace, record.client, record.function)
            row["errors"] += 1
            row["attempts"] += 1
            row["input_tokens"] += record.input_tokens or 0
            row["output_tokens"] += record.output_tokens or 0

    def _call(self, call: CallRecord) -> None:
        minute = minute_of(call.started_at + timedelta(seconds=call.duration))
        row = self.at(minute, call.namespace, call.client, call.function)
        answered = row
        if call.client_final is not None:
            answered = self.at(minute, call.namespace, call.client_final, call.function)
            # Failed attempts are counted by their errors. The successful one has no record of its own.
            answered["attempts"] += 1
        # What failed attempts used is booked with their errors, at the clients that were asked.
        answered["input_tokens"] += max(0, (call.input_tokens or 0) - (call.failed_input_tokens or 0))
        answered["output_tokens"] += max(0, (call.output_tokens or 0) - (call.failed_output_tokens or 0))
        if call.probe:  # beside a call: an attempt that costs tokens, but not what the application asked for
            return
        row["calls"] += 1
        row["retried_calls"] += call.retries > 0
        row["fallback_calls"] += call.fallbacks > 0
        column = OUTCOMES.get(call.outcome)
        if column is not None:
            row[column] += 1
        if call.client_final is not None:
            answered["answered_calls"] += 1
            answered["duration_sum"] += call.duration
            answered["duration_max"] = max(answered["duration_max"], call.duration)


OUTCOMES: Final = {
    CallOutcome.FAILED: "failed_calls",
    CallOutcome.CANCELLED: "cancelled_calls",
    CallOutcome.REJECTED: "rejected_calls",
    CallOutcome.RECOVERED_RETRY: "recovered_retry",
    CallOutcome.RECOVERED_FALLBACK: "recovered_fallback",
}
"""The column that counts an outcome. Calls that are `ok` are the rest."""
