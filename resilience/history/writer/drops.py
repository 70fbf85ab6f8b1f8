"""The records that have no row: how many, why, counted all the same, and said once a minute."""

from __future__ import annotations

import logging
import threading
from typing import Any, Final

from resilience.history.store.counters import CounterBuffer
from resilience.history.writer.sampling import SHARE, DropReason
from resilience.records.deferred import DeferredRecord
from resilience.records.records import Record, StartRecord

_MINUTE: Final = 60.0

_log = logging.getLogger("resilience")


class DropCounter:
    """What one process could not keep. Safe from any thread.

    Attributes:
        tally: what the counters are to be told of them.
        dropped: how many were given up.
        sampled: for how many one of ten stands.
    """

    def __init__(self) -> None:
        self.tally = CounterBuffer()
        self.dropped = self.sampled = 0
        self._lock = threading.RLock()  # re-entrant: a signal handler may record
        self._told = {DropReason.DROPPED: 0, DropReason.SAMPLED: 0}
        self._told_at = -_MINUTE

    def lose(self, record: Record, why: DropReason) -> dict[str, Any]:
        """Count *record*; gives what its log line is to say of it."""
        self.drop(1) if why is DropReason.DROPPED else self._sample()
        try:
            number = self.tally.add(record)
        except Exception:  # noqa: BLE001 - a record made wrongly, of which there is nothing to count
            return {"dropped_as": why.value}
        return {"dropped_as": why.value, "sequence": number}

    def refuse(self, record: Record | DeferredRecord) -> None:
        """Count what came when there was no room; it is made for that, where the counters are to have it. Never raises."""
        try:
            made = record.build() if isinstance(record, DeferredRecord) else record
        except Exception:  # noqa: BLE001 - a record made wrongly is its own loss, not the caller's
            self.drop(1)
            return
        if isinstance(made, StartRecord):
            self.drop(1)
        else:
            self.lose(made, DropReason.DROPPED)

    def drop(self, count: int) -> None:
        """Count records that were given up, in no counter but `instances`."""
        with self._lock:
            self.dropped += count

    def said(self, count: int) -> None:
        """So many were given up with a warning of their own."""
        self._told[DropReason.DROPPED] += count

    def tell(self, now: float, *, last: bool = False) -> None:
        """Say what was lost since the last time, at most once a minute."""
        dropped, sampled = (
            self.dropped - self._told[DropReason.DROPPED],
            self.sampled - self._told[DropReason.SAMPLED],
        )
        if not (dropped or sampled) or (not last and now - self._told_at < _MINUTE):
            return
        self._told = {DropReason.DROPPED: self.dropped, DropReason.SAMPLED: self.sampled}
        self._told_at = now
        if dropped:
            _log.warning("the history dropped %d records that could not be written", dropped)
        if sampled:
            _log.warning(
                "the history is nearly full: of %d errors of known kinds and clean calls it kept %d %%; all are counted",
                sampled,
                SHARE * 100,
            )

    def _sample(self) -> None:
        with self._lock:
            self.sampled += 1
