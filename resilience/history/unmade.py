"""Records that are made where they are written: the caller hands over what they are made of, and goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from resilience.history.record import CallRecord, StartRecord


@dataclass(frozen=True, slots=True)
class Unmade:
    """A record to be: making one takes a call that just woke from its network wait a tenth of a millisecond.

    Attributes:
        make: makes it, once, on the writer thread.
    """

    make: Callable[[], CallRecord | StartRecord]

    def opened(self) -> CallRecord | StartRecord:
        """The record."""
        return self.make()
