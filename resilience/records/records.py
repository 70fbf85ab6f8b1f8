"""What is kept of a call: plain values, redacted before they are born."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from resilience.failure import ErrorCategory

Told = str | Callable[[], str | None] | None
"""A text, or what gives one on the writer thread."""


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
        provider: the kind of API that was asked (`openai`, `anthropic`, ...), where known.
        model: the model that was asked, where known.
        input_tokens: tokens of the prompt, where the provider said so.
        output_tokens: tokens of the answer, where the provider said so.
        denied: what kept a retry from being made that the category would have had: `budget` (the fleet's), `deadline` or
            `retry_after` (a stated wait longer than `max_retry_after`); None when nothing did.
        breaker_state: where the client's circuit stood, by this process's view.
        trace_id: the OpenTelemetry trace, 32 hex digits.
        span_id: the OpenTelemetry span, 16 hex digits.
        sample_rate: the share of such errors that is kept; below 1 only while the recorder is nearly full.
        stack: where the exception was raised: frames only, no values and no message; None unless asked for.
        detail: what a hook or the caller adds, redacted.
        fp_version: which rules made the fingerprint.
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
    provider: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    denied: str | None = None
    breaker_state: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    sample_rate: float = 1.0
    stack: str | None = None
    detail: Mapping[str, Any] | None = None
    fp_version: str = "v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackRecord:
    """One step from a client to the next. `succeeded` is None until the next client has answered or failed.

    Attributes:
        position: 1 for the first fallback of a call, 2 for the second.
        fingerprint: of the error that led to it.
        duration: how long the next client's turn took, seconds; None until it is over.
    """

    event_id: str
    occurred_at: datetime
    request_id: str
    call_id: str
    function: str
    from_client: str
    to_client: str
    reason: ErrorCategory
    succeeded: bool | None = None
    position: int = 1
    fingerprint: str | None = None
    duration: float | None = None


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
    recovery: float | None = None
    """From the first failure to the answer, seconds; None for a call without failure or without answer."""
    fingerprint: str | None = None
    """Of the call's first error; None without one."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    trace_id: str | None = None
    span_id: str | None = None
    tags: Mapping[str, Any] | None = None
    """What the caller said about the call, redacted."""
    sample_rate: float = 1.0
    """The share of such calls that is kept; below 1 only while the recorder is nearly full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRecord:
    """A call has begun. Only the logs are told, so that a call whose process dies has left a trace; SQL keeps its end."""

    call_id: str
    request_id: str
    started_at: datetime
    function: str
    client: str
    trace_id: str | None = None
    span_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """An attempt that brought the answer after others had failed. Only the logs are told: SQL has it in the call's row."""

    occurred_at: datetime
    request_id: str
    call_id: str
    function: str
    client: str
    attempt: int
    duration: float
    provider: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    trace_id: str | None = None
    span_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionRecord:
    """One move of a circuit from a state to another. A fleet's move is kept once, whoever saw it.

    Attributes:
        namespace: the deployment whose circuit it is.
        client: whose circuit.
        scope: `shared` for the fleet's circuit; the instance_id of the process whose own circuit stood in for it.
        epoch: the circuit's new epoch; with the three above it names the move.
        occurred_at: by the store's clock, timezone-aware UTC.
        from_state: where it stood.
        to_state: where it went.
        rule: what moved it (`consecutive_failures`, `failure_rate`, `slow_call_rate`, `probe`, `lapsed`, `operator`, `restored`).
        reason: the failure category, or the operator's words.
        actor: the operator; empty when it was no one.
        calls: results within the window at the move.
        failures: those of them that failed.
        wait: how long the new state is to last, seconds; None when time does not end it.
        indefinite: an operator's order that only another order ends.
    """

    namespace: str
    client: str
    scope: str
    epoch: int
    occurred_at: datetime
    from_state: str
    to_state: str
    rule: str
    reason: str = ""
    actor: str = ""
    calls: int = 0
    failures: int = 0
    wait: float | None = None
    indefinite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadRecord:
    """The content of a failed attempt, kept only where the privacy level says so.

    Until it is `opened` its texts are still to be redacted, which takes its time and is done on the writer thread.

    Attributes:
        event_id: of the error it belongs to.
        occurred_at: as the error's.
        request_id: as the error's.
        prompt: what was asked, as far as the level keeps it.
        raw_output: what was answered, as far as the level keeps it.
        prompt_hash: keyed, so that repeats can be matched.
        output_hash: keyed, so that repeats can be matched.
        privacy: the level it was kept at.
    """

    event_id: str
    occurred_at: datetime
    request_id: str
    prompt: Told = None
    raw_output: Told = None
    prompt_hash: Told = None
    output_hash: Told = None
    privacy: str = "hashed"

    def opened(self) -> PayloadRecord:
        """The record as it may be written down."""
        return replace(
            self,
            prompt=_text(self.prompt),
            raw_output=_text(self.raw_output),
            prompt_hash=_text(self.prompt_hash),
            output_hash=_text(self.output_hash),
        )


def _text(told: Told) -> str | None:
    return told() if callable(told) else told
