"""Exact counts of durations by size, from which percentiles of the whole fleet are read.

The sizes grow by a factor of 2^(1/4), 19 %. So a hundred of them reach from a millisecond to nine hours, the counts of all processes add up,
and a percentile is wrong by the width of one at most. Percentiles themselves could not be added up.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final

from resilience.failure import ErrorCategory
from resilience.history.schema.tables import latencies
from resilience.history.store.counter_rows import CounterRows, minute_of
from resilience.records.records import CallRecord, ErrorRecord, Record

LOWEST: Final = -40
"""The bucket of everything up to 2^-10 seconds, about a millisecond."""
HIGHEST: Final = 60
"""The bucket of everything above 2^14.75 seconds, about seven hours."""
ATTEMPT_OK: Final = "attempt_ok"
ATTEMPT_FAILED: Final = "attempt_failed"
CALL: Final = "call"
FIRST_TOKEN: Final = "first_token"  # noqa: S105 - a kind of duration
_ROUNDING: Final = 1e-9


def bucket_of(seconds: float) -> int:
    """Return the bucket that counts a duration of *seconds*.

    Raises:
        ValueError: *seconds* is not a number.
    """
    if seconds <= 2 ** (LOWEST / 4):
        return LOWEST
    # The logarithm of a power of two may be a little too large, and then its own bucket would not hold it.
    return HIGHEST if seconds == math.inf else min(HIGHEST, math.ceil(4 * math.log2(seconds) - _ROUNDING))


class Latencies(CounterRows):
    """Counts that are to be added to `latencies`.

    Args:
        most: number of rows to hold in memory.
    """

    def __init__(self, most: int = 10_000) -> None:
        super().__init__(latencies, most=most)

    def add(self, record: Record) -> None:
        """Count the durations of *record* if it is a call or a failed attempt.

        Raises:
            ValueError: its time has no timezone, or a duration is not a number.
            OverflowError: its duration is too long for a timedelta.
        """
        if isinstance(record, ErrorRecord):
            if record.category is not ErrorCategory.CIRCUIT_OPEN:  # a refusal takes no time
                minute = minute_of(record.occurred_at)
                self._attempt(minute, record, record.client, record.duration, record.time_to_first_token)
        elif isinstance(record, CallRecord) and record.client_final is not None:
            self._call(record, record.client_final)

    def _call(self, record: CallRecord, client: str) -> None:
        minute = minute_of(record.started_at + timedelta(seconds=record.duration))
        attempt, first_token = record.answer_duration, record.time_to_first_token
        if attempt is None and record.attempts == 1:  # from a log line that is older than the field
            attempt = record.duration
        if attempt is not None:
            if first_token is not None:
                # The call has it from its own start. The answer ended call and attempt, so this is when the attempt began.
                first_token = max(0.0, first_token - (record.duration - attempt))
            self._attempt(minute, record, client, attempt, first_token)
        # A probe beside a call is an attempt that costs time and tokens. The caller waits for none of it.
        if not record.probe:
            self._count(minute, record.namespace, client, CALL, record.duration)

    def _attempt(
        self,
        minute: datetime,
        record: CallRecord | ErrorRecord,
        client: str,
        seconds: float,
        first_token: float | None,
    ) -> None:
        kind = ATTEMPT_OK if isinstance(record, CallRecord) else ATTEMPT_FAILED
        self._count(minute, record.namespace, client, kind, seconds)
        if first_token is not None:
            self._count(minute, record.namespace, client, FIRST_TOKEN, first_token)

    def _count(self, minute: datetime, namespace: str, client: str, kind: str, seconds: float) -> None:
        row = self.at(minute, namespace, client, kind, bucket_of(seconds))
        row["count"] += 1
        row["seconds"] += seconds
