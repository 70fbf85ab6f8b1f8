"""Exact counts by hour and tenant, for calls that name one."""

from __future__ import annotations

from datetime import timedelta

from resilience.history.schema.tables import tenant_rollups
from resilience.history.store.counter_rows import HOUR, CounterRows, minute_of
from resilience.history.store.rollups import OUTCOMES
from resilience.records.records import CallRecord, Record


class TenantRollups(CounterRows):
    """Counts that are to be added to `tenant_rollups`: by the hour, because tenants are many.

    Args:
        most: number of rows to hold in memory.
    """

    def __init__(self, most: int = 10_000) -> None:
        super().__init__(tenant_rollups, grain=HOUR, most=most)

    def add(self, record: Record) -> None:
        """Count *record* if it is a call, or a probe beside one, of a tenant. A probe costs tokens and is no call.

        Raises:
            ValueError: its time has no timezone.
            OverflowError: its duration is too long for a timedelta.
        """
        if not isinstance(record, CallRecord) or not record.tenant:
            return
        minute = minute_of(record.started_at + timedelta(seconds=record.duration))
        row = self.at(minute, record.namespace, record.tenant, record.client_final or record.client)
        row["input_tokens"] += record.input_tokens or 0
        row["output_tokens"] += record.output_tokens or 0
        if record.probe:
            return
        row["calls"] += 1
        column = OUTCOMES.get(record.outcome)
        if column in row:
            row[column] += 1
        if record.client_final is not None:
            row["answered_calls"] += 1
            row["duration_sum"] += record.duration
            row["duration_max"] = max(row["duration_max"], record.duration)
