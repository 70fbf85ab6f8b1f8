"""Exact counts of failed attempts and of refusals, by what the execution did next."""

from __future__ import annotations

from resilience.failure import ErrorCategory
from resilience.history.schema.tables import error_rollups
from resilience.history.store.counter_rows import CounterRows, minute_of
from resilience.records.records import Action, ErrorRecord, FallbackRecord, Record


class ErrorRollups(CounterRows):
    """Counts that are to be added to `error_rollups`.

    Args:
        most: number of rows to hold in memory.
    """

    def __init__(self, most: int = 10_000) -> None:
        super().__init__(error_rollups, most=most)

    def add(self, record: Record) -> None:
        """Count *record* if it is an error, or a fallback that a refusal led to: such a refusal has no record of its own.

        Raises:
            ValueError: its time has no timezone.
        """
        if isinstance(record, ErrorRecord):
            row = self._at(record, record.client, record.category, record.action, record.denied or "")
            row["count"] += 1
            row["exhausted"] += is_exhausted(record)
        elif isinstance(record, FallbackRecord) and record.reason is ErrorCategory.CIRCUIT_OPEN:
            self._at(record, record.from_client, record.reason, Action.FALLBACK, "")["count"] += 1

    def _at(
        self, record: ErrorRecord | FallbackRecord, client: str, category: str, action: str, denied: str
    ) -> dict[str, int]:
        minute = minute_of(record.occurred_at)
        return self.at(minute, record.namespace, client, record.function, category, action, denied)


def is_exhausted(error: ErrorRecord) -> bool:
    """Return whether *error* was the last of several tries of a recoverable failure.

    `labels.retry_result` of the telemetry has the same rule.
    """
    return (
        error.recoverable
        and error.attempt > 1
        and error.action is not Action.RETRY
        and error.denied is None
        and error.category is not ErrorCategory.CIRCUIT_OPEN
    )
