"""The records without a row: how many there are and why. They are still counted, and reported once a minute."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import Any, Final

from resilience import lifecycle
from resilience.history.store.counter_buffer import CounterBuffer
from resilience.history.writer.sampling import SAMPLE_RATE, DropReason
from resilience.records.deferred import DeferredRecord
from resilience.records.records import Record, StartRecord

_REPORT_INTERVAL: Final = 60.0
"""Shortest time between two reports, in seconds."""

_log = logging.getLogger("resilience")
_totals: Final[Counter[DropReason]] = Counter()
# The parent has counted these. In the child they would count a second time.
lifecycle.call_in_child(_totals.clear)


def dropped_by_process() -> int:
    """Return how many records this process has given up, those of closed recorders included. It never goes back."""
    return _totals[DropReason.DROPPED]


class DropCounter:
    """The records of one process that got no row. Safe from any thread and any signal handler.

    Attributes:
        counters: what these records add to the counters of the database.
        dropped: number of records given up.
        sampled: number of records represented by the one in ten that was kept.
    """

    def __init__(self) -> None:
        self.counters = CounterBuffer()
        self.dropped = self.sampled = 0
        # Re-entrant: a signal handler may record while the thread that it interrupts holds the lock.
        self._lock = threading.RLock()
        self._reported = {DropReason.DROPPED: 0, DropReason.SAMPLED: 0}
        self._reported_at = -_REPORT_INTERVAL

    def count_record(self, record: Record, reason: DropReason) -> dict[str, Any]:
        """Count *record*, also in the counters. Return the fields that its log line gets."""
        if reason is DropReason.DROPPED:
            self.add(1)
        else:
            with self._lock:
                self.sampled += 1
        try:
            number = self.counters.add(record)
        except Exception:  # noqa: BLE001 - a malformed record has nothing that could be counted
            return {"dropped_as": reason.value}
        return {"dropped_as": reason.value, "sequence": number}

    def count_refused(self, record: Record | DeferredRecord) -> None:
        """Count a record for which the queue had no room. Never raises.

        A deferred record is built first, because the counters need its fields.
        """
        try:
            built = record.build() if isinstance(record, DeferredRecord) else record
        except Exception:  # noqa: BLE001 - a malformed record is lost alone; its caller goes on
            self.add(1)
            return
        if isinstance(built, StartRecord):
            self.add(1)
        else:
            self.count_record(built, DropReason.DROPPED)

    def count_poison(self, record: Record, *, is_counted: bool) -> None:
        """Count a record that no database can keep. It has a warning of its own, so the next report leaves it out.

        Args:
            record: the record.
            is_counted: whether the counters include it already.
        """
        if is_counted:
            self.add(1)
        else:
            self.count_record(record, DropReason.DROPPED)
        self.mark_reported(1)

    def add(self, count: int) -> None:
        """Count *count* records as dropped, without the counters of the database."""
        with self._lock:
            self.dropped += count
            _totals[DropReason.DROPPED] += count

    def mark_reported(self, count: int) -> None:
        """Leave *count* dropped records out of the next report, because they had a warning of their own."""
        self._reported[DropReason.DROPPED] += count

    def report(self, now: float, *, last: bool = False) -> None:
        """Log how many records got no row since the last report, at most once a minute.

        Args:
            now: current time of the monotonic clock, in seconds.
            last: whether to report at once, because the writer is closing.
        """
        dropped = self.dropped - self._reported[DropReason.DROPPED]
        sampled = self.sampled - self._reported[DropReason.SAMPLED]
        if not (dropped or sampled) or (not last and now - self._reported_at < _REPORT_INTERVAL):
            return
        self._reported = {DropReason.DROPPED: self.dropped, DropReason.SAMPLED: self.sampled}
        self._reported_at = now
        if dropped:
            _log.warning("the history dropped %d records that could not be written", dropped)
        if sampled:
            _log.warning(
                "the history is nearly full: of %d errors of known kinds and clean calls it kept %d %%; all are counted",
                sampled,
                SAMPLE_RATE * 100,
            )
