"""What happens to records when too many wait: who is sampled, who is dropped, and how much room there is."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from resilience.records.deferred import DeferredRecord
from resilience.records.records import CallOutcome, CallRecord, ErrorRecord, PayloadRecord, Record

SHARE: Final = 0.1
"""The share of sampled records that is kept."""
_CROWDED: Final = 0.8
"""The part of the room beyond which records are sampled."""
_BARE: Final = 512
"""Bytes of a record without its texts."""
_KINDS: Final = 10_000
"""How many kinds of errors are remembered as seen; of further ones every error counts as the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """How much may wait, and for how long; see `Recorder`."""

    max_rows: int
    max_bytes: int
    flush_interval: float
    batch: int


class DropReason(Enum):
    """Why a record has no row; its value stands in the log line of it."""

    SAMPLED = "sampled"
    """One of ten stands for it."""
    DROPPED = "dropped"
    """There was no room."""


def size(record: Record | DeferredRecord) -> int:
    """About how many bytes a waiting record holds; a text that is still to be made, or is none, counts as nothing."""
    if type(record) is ErrorRecord:
        try:
            return _BARE + len(record.message) + len(record.stack or "")
        except TypeError:
            return _BARE
    if isinstance(record, PayloadRecord):
        return _BARE + sum(len(text) for text in (record.prompt, record.raw_output) if isinstance(text, str))
    return _BARE


class QueueUsage:
    """How many records wait, and what that means for the next one."""

    def __init__(self, limits: QueueLimits, draw: Callable[[], float] = random.random) -> None:
        self.rows = self.bytes = 0
        self._limits = limits
        self._draw = draw
        self._seen: set[str] = set()

    def admit(self, record: Record) -> Record | DropReason:
        """The record to keep, which says what share of its like is kept, or why there is none."""
        taken = max(self.rows / self._limits.max_rows, self.bytes / self._limits.max_bytes)
        if taken >= 1.0:
            return DropReason.DROPPED
        usual = self._usual(record)
        if not usual or taken < _CROWDED:
            return record
        if isinstance(record, ErrorRecord | CallRecord) and self._draw() < SHARE:
            return replace(record, sample_rate=SHARE)
        return DropReason.SAMPLED

    def came(self, record: Record) -> None:
        """One more waits."""
        self.rows += 1
        self.bytes += size(record)

    def went(self, record: Record) -> None:
        """One less waits."""
        self.rows -= 1
        self.bytes -= size(record)

    def _usual(self, record: Record) -> bool:
        """Is it of a kind that was seen before, or a call where nothing happened, or content?"""
        if isinstance(record, ErrorRecord):
            if record.fingerprint in self._seen:
                return True
            if len(self._seen) < _KINDS:
                self._seen.add(record.fingerprint)
            return False
        return isinstance(record, PayloadRecord) or (
            isinstance(record, CallRecord) and record.outcome is CallOutcome.OK
        )
