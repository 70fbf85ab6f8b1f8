"""How many records may wait, and what happens beyond: near the limit they are sampled, at the limit they are dropped."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from resilience import validation
from resilience.records.deferred import DeferredRecord
from resilience.records.records import CallOutcome, CallRecord, ErrorRecord, PayloadRecord, Record

SAMPLE_RATE: Final = 0.1
"""Share of the sampled records that get a row."""
_SAMPLING_FROM: Final = 0.8
"""Share of the queue limits from which records are sampled."""
_BASE_BYTES: Final = 512
"""Approximate size of a record without its texts."""
_MAX_FINGERPRINTS: Final = 10_000
"""How many fingerprints of errors are remembered. Further ones always count as new, so that their errors are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """Limits of the write queue; the arguments of `Recorder` describe them.

    Attributes:
        max_rows: maximum number of waiting records.
        max_bytes: approximate maximum memory of waiting records.
        flush_interval: seconds a record may wait for others to share its transaction.
        batch: number of records in a full transaction.
    """

    max_rows: int
    max_bytes: int
    flush_interval: float
    batch: int

    def __post_init__(self) -> None:
        validation.integer("Recorder", "max_rows", self.max_rows, low=1)
        validation.integer("Recorder", "max_bytes", self.max_bytes, low=1)
        validation.number("Recorder", "flush_interval", self.flush_interval, above=True, high=60.0)
        validation.integer("Recorder", "batch", self.batch, low=1, high=10_000)


class DropReason(Enum):
    """Why a record has no row; the value is part of its log line."""

    SAMPLED = "sampled"
    """It is represented by the one in ten that was kept."""
    DROPPED = "dropped"
    """The queue was full."""


def memory_size(record: Record | DeferredRecord) -> int:
    """Return the approximate number of bytes that a waiting record holds.

    A text that is not built yet, or that is not a string, counts as nothing.
    """
    if type(record) is ErrorRecord:
        try:
            return _BASE_BYTES + len(record.message) + len(record.stack or "")
        except TypeError:
            return _BASE_BYTES
    if isinstance(record, PayloadRecord):
        return _BASE_BYTES + sum(
            len(text) for text in (record.prompt, record.raw_output) if isinstance(text, str)
        )
    return _BASE_BYTES


class QueueUsage:
    """How many records wait, and whether the next one is kept.

    Args:
        limits: the limits of the queue.
        sample: returns random numbers from 0 to 1.

    Attributes:
        rows: number of waiting records.
        bytes: their approximate memory.
    """

    def __init__(self, limits: QueueLimits, sample: Callable[[], float] = random.random) -> None:
        self.rows = self.bytes = 0
        self._limits = limits
        self._sample = sample
        self._fingerprints: set[str] = set()

    def admit(self, record: Record) -> Record | DropReason:
        """Return the record to keep, with its sample rate, or why it is not kept."""
        # The fuller of the two limits decides.
        used = max(self.rows / self._limits.max_rows, self.bytes / self._limits.max_bytes)
        if used >= 1.0:
            return DropReason.DROPPED
        # Asked even while there is room: it remembers the fingerprints of errors that have a row.
        redundant = self._is_redundant(record)
        if not redundant or used < _SAMPLING_FROM:
            return record
        if isinstance(record, ErrorRecord | CallRecord) and self._sample() < SAMPLE_RATE:
            return replace(record, sample_rate=SAMPLE_RATE)
        return DropReason.SAMPLED

    def add(self, record: Record) -> None:
        """Count a record that was queued."""
        self.rows += 1
        self.bytes += memory_size(record)

    def remove(self, record: Record) -> None:
        """Count a record that has left the queue."""
        self.rows -= 1
        self.bytes -= memory_size(record)

    def _is_redundant(self, record: Record) -> bool:
        """Return whether a sample can stand for it: an error seen before, a call without incident, or content."""
        if isinstance(record, ErrorRecord):
            if record.fingerprint in self._fingerprints:
                return True
            if len(self._fingerprints) < _MAX_FINGERPRINTS:
                self._fingerprints.add(record.fingerprint)
            return False
        return isinstance(record, PayloadRecord) or (
            isinstance(record, CallRecord) and record.outcome is CallOutcome.OK
        )
