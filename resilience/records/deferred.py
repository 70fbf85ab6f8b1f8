"""Records that the writer thread builds: the caller passes on what they are built from, and continues."""

from __future__ import annotations

from collections.abc import Callable

from resilience.records.records import CallRecord, StartRecord


class DeferredRecord:
    """A record that is not built yet.

    A call that has just returned from its network wait runs with cold CPU caches, so building the record there would delay
    the caller. The writer thread builds many in a row.

    Args:
        factory: builds the record. Called once, on the writer thread.
    """

    __slots__ = ("_factory",)

    def __init__(self, factory: Callable[[], CallRecord | StartRecord]) -> None:
        self._factory = factory

    def build(self) -> CallRecord | StartRecord:
        """Build the record.

        Raises:
            Exception: whatever the factory raises.
        """
        return self._factory()
