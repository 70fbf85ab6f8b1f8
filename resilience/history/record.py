"""What is kept of a call: plain values, redacted before they are born."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from resilience.failure import ErrorCategory


class Action(StrEnum):
    """What happened after a failed attempt."""

    RETRY = "retry"
    FALLBACK = "fallback"
    RAISE = "raise"


class CallOutcome(StrEnum):
    """How a call ended."""

    OK = "ok"
    RECOVERED_RETRY = "recovered_retry"
    RECOVERED_FALLBACK = "recovered_fallback"
    FAILED = "failed"
    REJECTED = "rejected"
    """No client was asked: every circuit refused."""
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRecord:
    """One failed attempt, or one refusal, as kept. Durations are seconds, times are UTC.

    Attributes:
        event_id: a UUIDv7 in hex, so that ids sort by time.
        occurred_at: when the attempt ended, timezone-aware UTC.
        request_id: the id of the user's call, the same on every record of it.
        function: the BAML function.
        client: the client that was tried.
        attempt: 1 for the first try on this client.
        category: the kind of failure.
        recoverable: may the same request succeed later?
        status: the HTTP status the provider sent, if any.
        provider_code: the provider's own code for it.
        message: redacted, at most 300 characters.
        fingerprint: equal for errors of one kind; see `fingerprint.py`.
        retry_after: the wait the provider stated, seconds.
        backoff: the wait we chose before the next try, seconds; None without one.
        duration: how long the attempt took, seconds.
        action: what happened next.
        late: the circuit had moved on before this result came; it changed nothing there.
        call_id: the row of `calls` this belongs to.
        exception_type: the class name of the exception.
        provider_request_id: the provider's id of the request.
    """

    event_id: str
    occurred_at: datetime
    request_id: str
    function: str
    client: str
    attempt: int
    category: ErrorCategory
    recoverable: bool
    status: int | None = None
    provider_code: str | None = None
    message: str = ""
    fingerprint: str = ""
    retry_after: float | None = None
    backoff: float | None = None
    duration: float = 0.0
    action: Action = Action.RAISE
    late: bool = False
    call_id: str = ""
    exception_type: str = ""
    provider_request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackRecord:
    """One step from a client to the next. `succeeded` is None until the next client has answered or failed."""

    event_id: str
    occurred_at: datetime
    request_id: str
    call_id: str
    function: str
    from_client: str
    to_client: str
    reason: ErrorCategory
    succeeded: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One request of the user, from its start to its answer or error. Durations are seconds."""

    call_id: str
    request_id: str
    started_at: datetime
    duration: float
    function: str
    client: str
    """The client that was to answer."""
    client_final: str | None
    """The client that did answer; None when none did."""
    outcome: CallOutcome
    attempts: int
    retries: int
    fallbacks: int
