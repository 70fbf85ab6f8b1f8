"""Records for the tests of the history."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from resilience.failure import ErrorCategory
from resilience.history import CallOutcome, CallRecord, ErrorRecord, FallbackRecord, new_id

NOON = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)


def error(**changes: Any) -> ErrorRecord:
    """Return a failed attempt."""
    given: dict[str, Any] = {
        "event_id": new_id(),
        "occurred_at": datetime.now(UTC),
        "request_id": "request-1",
        "call_id": "c" * 32,
        "function": "GenerateHypothesis",
        "client": "Primary",
        "attempt": 1,
        "category": ErrorCategory.RATE_LIMIT,
        "recoverable": True,
        "status": 429,
        "provider_code": "rate_limit_exceeded",
        "message": "Rate limit reached, please try again in 3s",
        "fingerprint": "f" * 32,
        "retry_after": 3.0,
        "duration": 0.25,
        "exception_type": "BamlClientHttpError",
    }
    return ErrorRecord(**given | changes)


def call(**changes: Any) -> CallRecord:
    """Return a call that succeeded at the first attempt."""
    given: dict[str, Any] = {
        "call_id": new_id(),
        "request_id": "request-1",
        "started_at": datetime.now(UTC),
        "duration": 0.5,
        "function": "GenerateHypothesis",
        "client": "Primary",
        "client_final": "Primary",
        "outcome": CallOutcome.OK,
        "attempts": 1,
        "retries": 0,
        "fallbacks": 0,
    }
    return CallRecord(**given | changes)


def fallback(**changes: Any) -> FallbackRecord:
    """Return a fallback from Primary to Secondary that succeeded."""
    given: dict[str, Any] = {
        "event_id": new_id(),
        "occurred_at": datetime.now(UTC),
        "request_id": "request-1",
        "call_id": "c" * 32,
        "function": "GenerateHypothesis",
        "from_client": "Primary",
        "to_client": "Secondary",
        "reason": ErrorCategory.RATE_LIMIT,
        "succeeded": True,
    }
    return FallbackRecord(**given | changes)


def eventually(happened: Callable[[], bool], *, within: float = 120.0) -> bool:
    """Wait for another thread or process, at most *within* seconds. Return whether it happened."""
    deadline = time.monotonic() + within
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
