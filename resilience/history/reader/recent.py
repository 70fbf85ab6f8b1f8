"""The latest records of this process, in memory: read without I/O."""

from __future__ import annotations

import threading
import weakref
from collections import Counter, deque
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from resilience import lifecycle, validation
from resilience.failure import ErrorCategory
from resilience.history.reader.summaries import LATEST, summarize_errors, summarize_fallbacks
from resilience.records.records import CallRecord, ErrorRecord, FallbackRecord
from resilience.times import Since, to_utc


class Recent:
    """The latest errors and fallbacks of this process, at most *maxlen* of each.

    Safe from any thread. A forked child starts empty: the inherited records are those of another process.

    Args:
        maxlen: number of errors, and of fallbacks, to hold.

    Raises:
        ValueError: *maxlen* is not a whole number from 1.
    """

    def __init__(self, maxlen: int = 1000) -> None:
        validation.integer("Recent", "maxlen", maxlen, low=1)
        self._maxlen = maxlen
        self._reset()
        _instances.add(self)

    def _reset(self) -> None:
        # Re-entrant: a signal handler may record on the thread that is recording at that moment.
        self._lock = threading.RLock()
        self._errors: deque[ErrorRecord] = deque(maxlen=self._maxlen)
        self._fallbacks: deque[FallbackRecord] = deque(maxlen=self._maxlen)

    def add(self, record: ErrorRecord | FallbackRecord | CallRecord) -> None:
        """Add *record*, and drop the oldest of its kind when there are more than *maxlen*. Calls are ignored."""
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
        """Return the errors that match every filter, newest first.

        Args:
            since: start of the window: an aware datetime, or a timedelta or seconds before now.
            client: name of the client.
            function: name of the BAML function.
            category: error category.
            limit: maximum number of errors; None returns all.

        Raises:
            ValueError: *since* has no timezone, or *limit* is negative.
        """
        if limit is not None:
            validation.integer("errors", "limit", limit)
        given = {"client": client, "function": function, "category": category}
        filters = [(name, value) for name, value in given.items() if value is not None]
        matching = [
            record
            for record in self._errors_since(since)
            if all(getattr(record, name) == value for name, value in filters)
        ]
        return matching[:limit]

    def error_summary(self, since: Since = None) -> dict[str, Any]:
        """Count the errors: `total_errors, by_category, by_client, by_function` and the ten `recent_errors`.

        Args:
            since: start of the window: an aware datetime, or a timedelta or seconds before now.

        Raises:
            ValueError: *since* has no timezone.
        """
        errors = self._errors_since(since)
        return summarize_errors(
            count(error.category.value for error in errors),
            count(error.client for error in errors),
            count(error.function for error in errors),
            errors[:LATEST],
        )

    def fallback_summary(self, since: Since = None) -> dict[str, Any]:
        """Count the fallbacks: `total_fallbacks, successful_fallbacks, success_rate, by_client, recent_fallbacks`.

        `by_client` counts by the client that was fallen back *to*. `success_rate` goes from 0.0 to 1.0; it leaves out
        fallbacks with an unknown outcome, and is 0.0 if there are no others.

        Args:
            since: start of the window: an aware datetime, or a timedelta or seconds before now.

        Raises:
            ValueError: *since* has no timezone.
        """
        start = to_utc("since", since, datetime.now(UTC))
        with self._lock:
            newest_first = list(reversed(self._fallbacks))
        fallbacks = [fallback for fallback in newest_first if start is None or fallback.occurred_at >= start]
        return {
            **summarize_fallbacks(Counter(fallback.succeeded for fallback in fallbacks), fallbacks[:LATEST]),
            "by_client": count(fallback.to_client for fallback in fallbacks),
        }

    def clear(self, older_than: Since = None) -> None:
        """Remove the records from before *older_than*; all of them by default.

        Args:
            older_than: an aware datetime, or a timedelta or seconds before now.

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
            newest_first = list(reversed(self._errors))
        return [error for error in newest_first if start is None or error.occurred_at >= start]


def count(names: Iterable[str]) -> dict[str, int]:
    """Return how often each name occurs, the most frequent first."""
    return dict(Counter(names).most_common())


_instances: weakref.WeakSet[Recent] = weakref.WeakSet()


def _reset_all() -> None:
    # The lock may be held by a thread that the child does not have: it is replaced together with the records.
    for recent in list(_instances):
        recent._reset()  # noqa: SLF001 - this module's own class


lifecycle.call_in_child(_reset_all)
