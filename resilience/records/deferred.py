"""Records that are made where they are written: the caller hands over what they are made of, and goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from resilience.records.records import CallRecord, StartRecord


@dataclass(frozen=True, slots=True)
class DeferredRecord:
    """A record to be. A call that has just woken from its network wait runs cold, and had better not make it itself.

    Attributes:
        make: makes it, once, on the writer thread.
    """

    make: Callable[[], CallRecord | StartRecord]

    def opened(self) -> CallRecord | StartRecord:
        """The record."""
        return self.make()
