"""This process's latest records, at hand without I/O."""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter, deque
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from resilience import validation
from resilience.failure import ErrorCategory
from resilience.records.records import CallRecord, ErrorRecord, FallbackRecord
from resilience.times import Since, to_utc

_LATEST = 10
"""How many records a summary shows."""


class Recent:
    """The latest errors and fallbacks of this process, newest first, at most *maxlen* of each.

    Safe from any thread. A forked child starts empty: what it inherits are another process's records.
    """

    def __init__(self, maxlen: int = 1000) -> None:
        validation.integer("Recent", "maxlen", maxlen, low=1)
        self._maxlen = maxlen
        self._forget()
        _alive.add(self)

    def _forget(self) -> None:
        self._lock = (
            threading.RLock()
        )  # re-entrant: a signal handler may record while this thread is recording
        self._errors: deque[ErrorRecord] = deque(maxlen=self._maxlen)
        self._fallbacks: deque[FallbackRecord] = deque(maxlen=self._maxlen)

    def add(self, record: ErrorRecord | FallbackRecord | CallRecord) -> None:
        """Keep *record*; the oldest one goes when the room is full. Calls are not kept here."""
        if isinstance(record, ErrorRecord):
            with self._lock:
                self._errors.append(record)
        elif isinstance(record, FallbackRecord):
            with self._lock:
                self._fallbacks.append(record)

    def errors(
        self,
        *,
        since: Since = None,
        client: str | None = None,
        function: str | None = None,
        category: ErrorCategory | str | None = None,
        limit: int | None = 100,
    ) -> list[ErrorRecord]:
        """The latest errors that match everything given, newest first, at most *limit* (None: all of them).

        Raises:
            ValueError: *since* has no timezone, or *limit* is negative.
        """
        if limit is not None:
            validation.integer("errors", "limit", limit)
        wanted = {"client": client, "function": function, "category": category}
        filters = [(name, value) for name, value in wanted.items() if value is not None]
        found = [
            record
            for record in self._errors_since(since)
            if all(getattr(record, name) == value for name, value in filters)
        ]
        return found[:limit]

    def error_summary(self, since: Since = None) -> dict[str, Any]:
        """Count the errors: `total_errors, by_category, by_client, by_function` and the ten `recent_errors`.

        Raises:
            ValueError: *since* has no timezone.
        """
        errors = self._errors_since(since)
        return {
            "total_errors": len(errors),
            "by_category": counted(error.category.value for error in errors),
            "by_client": counted(error.client for error in errors),
            "by_function": counted(error.function for error in errors),
            "recent_errors": errors[:_LATEST],
        }

    def fallback_summary(self, since: Since = None) -> dict[str, Any]:
        """Count the fallbacks: `total_fallbacks, successful_fallbacks, success_rate, by_client, recent_fallbacks`.

        `by_client` counts by the client that was fallen back *to*. `success_rate` is 0.0 to 1.0 of those whose end is
        known, and 0.0 when there are none.

        Raises:
            ValueError: *since* has no timezone.
        """
        start = to_utc("since", since, datetime.now(UTC))
        with self._lock:
            kept = list(reversed(self._fallbacks))
        fallbacks = [hop for hop in kept if start is None or hop.occurred_at >= start]
        known = [hop.succeeded for hop in fallbacks if hop.succeeded is not None]
        return {
            "total_fallbacks": len(fallbacks),
            "successful_fallbacks": sum(known),
            "success_rate": sum(known) / len(known) if known else 0.0,
            "by_client": counted(hop.to_client for hop in fallbacks),
            "recent_fallbacks": fallbacks[:_LATEST],
        }

    def clear(self, older_than: Since = None) -> None:
        """Forget everything, or what happened before *older_than*.

        Raises:
            ValueError: *older_than* has no timezone.
        """
        end = to_utc("older_than", older_than, datetime.now(UTC))
        with self._lock:
            self._errors = deque((e for e in self._errors if end and e.occurred_at >= end), self._maxlen)
            self._fallbacks = deque(
                (f for f in self._fallbacks if end and f.occurred_at >= end), self._maxlen
            )

    def _errors_since(self, since: Since) -> list[ErrorRecord]:
        start = to_utc("since", since, datetime.now(UTC))
        with self._lock:
            kept = list(reversed(self._errors))
        return [error for error in kept if start is None or error.occurred_at >= start]


def counted(names: Iterable[str]) -> dict[str, int]:
    """How often each name occurs, the most frequent first."""
    return dict(Counter(names).most_common())


_alive: weakref.WeakSet[Recent] = weakref.WeakSet()


def _forget_all() -> None:
    for recent in list(_alive):
        recent._forget()  # noqa: SLF001 - the same room, after a fork


os.register_at_fork(after_in_child=_forget_all)
