"""The records of a call and of its circuit: plain, frozen values whose texts are redacted before a record is made.

A field is named like the SQL column and the log field that hold it, so adding a field means adding a column, see
`history/schema/tables.py`, and a migration. Durations are seconds. Times are timezone-aware UTC. Ids are UUIDv7 in hex.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from resilience.failure import ErrorCategory

DeferredText = str | Callable[[], str | None] | None
"""A text, or a function that returns it. The writer thread calls the function, because redaction takes time."""
NAMESPACE: Final = "resilience"
"""The namespace of a deployment that names none."""


# Closed lists: the tables check them, so a new member of these two enums needs a migration.
class Action(StrEnum):
    """What the execution did after a failed attempt."""

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
    """No client was called: every circuit refused."""
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRecord:
    """One failed attempt, or one refusal by a circuit.

    Attributes:
        event_id: id of this record.
        occurred_at: when the attempt ended.
        request_id: id of the request, the same in every record of it. One request may make several calls.
        function: the BAML function.
        client: the client that was tried.
        attempt: 1 for the first try on this client.
        category: the category of the failure.
        recoverable: whether the same request may succeed later.
        status: the HTTP status of the response; None without a response.
        provider_code: the provider's own error code.
        message: redacted message, at most 300 characters.
        fingerprint: equal for errors of one kind; see `fingerprint.py`.
        retry_after: the wait that the provider stated, seconds.
        backoff: the wait before the next attempt, seconds; None if none follows on this client.
        duration: how long the attempt took, seconds.
        action: what the execution did next.
        late: whether the circuit had changed its state before this result arrived, so that the result was ignored there.
        call_id: id of the call, as in `calls`.
        exception_type: the class name of the exception.
        provider_request_id: the provider's id of the request.
        provider: the provider type of the client (`openai`, `anthropic`, ...); None if unknown.
        model: the model that was called; None if unknown.
        input_tokens: tokens of the prompt, as reported by the provider.
        output_tokens: tokens of the answer, as reported by the provider.
        denied: why a retry that the category allows was not made: `budget` (the fleet's retry budget), `deadline`, or
            `retry_after` (a stated wait longer than `max_retry_after`); None if no retry was denied.
        breaker_state: the state of the client's circuit, as this process knew it.
        probe: whether the attempt was a probe, which finds out whether the client works again.
        trace_id: the OpenTelemetry trace, 32 hex digits.
        span_id: the OpenTelemetry span, 16 hex digits.
        sample_rate: share of such errors that get a row, from 0 to 1; below 1 only while the write queue is nearly full.
        stack: the frames where the exception was raised, without values and without its message; None unless enabled.
        detail: what a hook or the caller adds, redacted.
        fp_version: version of the rules that made the fingerprint.
        streamed: whether the call was a stream.
        time_to_first_token: time from the request to the first content of this attempt, seconds; None without content and for
            calls that are no stream.
        namespace: the namespace of the deployment.
    """

    # A new field needs a default or a column that may be null: `resilience
    # history import` reads log lines of earlier versions, which lack it.
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
    probe: bool = False
    trace_id: str | None = None
    span_id: str | None = None
    sample_rate: float = 1.0
    stack: str | None = None
    detail: Mapping[str, Any] | None = None
    fp_version: str = "v1"
    streamed: bool = False
    time_to_first_token: float | None = None
    namespace: str = NAMESPACE


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackRecord:
    """One fallback from a client to the next.

    Attributes:
        event_id: id of this record.
        occurred_at: when the fallback started.
        request_id: id of the request.
        call_id: id of the call, as in `calls`.
        function: the BAML function.
        from_client: the client that was left.
        to_client: the client that was tried next.
        reason: the category of the failure that led to the fallback.
        succeeded: whether the next client answered; None until that is known.
        position: 1 for the first fallback of a call, 2 for the second.
        fingerprint: fingerprint of the error that led to the fallback.
        duration: how long the next client took, with its retries, seconds; None until that is known.
        namespace: the namespace of the deployment.
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
    namespace: str = NAMESPACE


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One call, from its start to its answer or error.

    Attributes:
        call_id: id of this record.
        request_id: id of the request. One request may make several calls.
        started_at: when the call began.
        duration: how long the call took, with all attempts and waits, seconds.
        function: the BAML function.
        client: the primary client of the call.
        client_final: the client that answered; None if none did.
        outcome: how the call ended.
        attempts: how many attempts were made, on all clients.
        retries: how many of them were retries on the same client.
        fallbacks: how many fallbacks were made.
        recovery: time from the first failure to the answer, seconds; None without a failure or without an answer.
        fingerprint: fingerprint of the first error; None without one.
        input_tokens: tokens of the prompt, as reported by the provider.
        output_tokens: tokens of the answer, as reported by the provider.
        probe: whether it is no call but a probe that ran beside one: one attempt, whose answer was discarded.
        trace_id: the OpenTelemetry trace, 32 hex digits.
        span_id: the OpenTelemetry span, 16 hex digits.
        tags: what the caller says about the call, redacted.
        sample_rate: share of such calls that get a row, from 0 to 1; below 1 only while the write queue is nearly full.
        streamed: whether the call was a stream.
        time_to_first_token: time from the start of the call to the first content of the client that answered, seconds; None
            without an answer and for calls that are no stream.
        namespace: the namespace of the deployment.
        tenant: for whom the application made the call, as `set_tenant` says; None if it did not.
        answer_duration: how long the attempt took that answered, seconds; None if none did.
        failed_input_tokens: those of `input_tokens` that failed attempts used; None if they used none. Their error records have them.
        failed_output_tokens: those of `output_tokens` that failed attempts used; None if they used none.
    """

    call_id: str
    request_id: str
    started_at: datetime
    duration: float
    function: str
    client: str
    client_final: str | None
    outcome: CallOutcome
    attempts: int
    retries: int
    fallbacks: int
    recovery: float | None = None
    fingerprint: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    probe: bool = False
    trace_id: str | None = None
    span_id: str | None = None
    tags: Mapping[str, Any] | None = None
    sample_rate: float = 1.0
    streamed: bool = False
    time_to_first_token: float | None = None
    namespace: str = NAMESPACE
    tenant: str | None = None
    answer_duration: float | None = None
    failed_input_tokens: int | None = None
    failed_output_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRecord:
    """The start of a call. It goes to the logs only, where it shows calls whose process died; SQL has their end."""

    call_id: str
    request_id: str
    started_at: datetime
    function: str
    client: str
    trace_id: str | None = None
    span_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """A successful attempt of a call that had failed attempts, or a successful probe. Only logs have it: SQL has the call's row."""

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
    probe: bool = False
    trace_id: str | None = None
    span_id: str | None = None
    streamed: bool = False
    time_to_first_token: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionRecord:
    """One transition of a circuit from a state to another, or one cool-down. That of a shared circuit is kept once for the fleet.

    Namespace, client, scope and epoch together identify a transition. A cool-down leaves the state alone: both states are equal.

    Attributes:
        namespace: the namespace of the circuit.
        client: the client of the circuit.
        scope: `shared` for the fleet's circuit; for the local circuit of a process without a store, its instance_id.
        epoch: the circuit's new epoch; for a cool-down minus its end in milliseconds, which no epoch equals.
        occurred_at: when, by the store's clock.
        from_state: the state it left.
        to_state: the state it entered.
        rule: the rule that applied, as in `breaker.messages.TransitionRule`: `failure_rate`, `probe`, `operator`, `restored`,
            `cool_down` and others.
        reason: the failure category, or the reason that the operator gave.
        actor: the operator; empty if the circuit changed by itself.
        calls: results within the window at the transition.
        failures: how many of them failed.
        wait: how long the new state or the cool-down lasts, seconds; None if it does not end by time.
        indefinite: whether it is an operator's order that only another order ends.
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
    """The content of a failed attempt, kept only if the privacy level allows it.

    Its texts may still have to be redacted. `build` does that, on the writer thread.

    Attributes:
        event_id: id of the error it belongs to.
        occurred_at: as in the error.
        request_id: as in the error.
        prompt: the prompt, as far as the privacy level keeps it.
        raw_output: the answer, as far as the privacy level keeps it.
        prompt_hash: keyed hash of the prompt, equal for equal prompts.
        output_hash: keyed hash of the answer, equal for equal answers.
        privacy: the privacy level it was kept at.
        namespace: as in the error.
    """

    event_id: str
    occurred_at: datetime
    request_id: str
    prompt: DeferredText = None
    raw_output: DeferredText = None
    prompt_hash: DeferredText = None
    output_hash: DeferredText = None
    privacy: str = "hashed"
    namespace: str = NAMESPACE

    def build(self) -> PayloadRecord:
        """Return the record with its texts redacted, as it may be written.

        Raises:
            Exception: whatever a deferred text raises.
        """
        return replace(
            self,
            prompt=_text(self.prompt),
            raw_output=_text(self.raw_output),
            prompt_hash=_text(self.prompt_hash),
            output_hash=_text(self.output_hash),
        )


# A new kind of record needs a table in `rows.TABLES` and an entry in `log_events._FORMATS`, which
# may be empty. StartRecord and AttemptRecord are not among these, because they have no table.
Record = ErrorRecord | FallbackRecord | CallRecord | TransitionRecord | PayloadRecord
"""A record that becomes a row of SQL."""


def _text(text: DeferredText) -> str | None:
    return text() if callable(text) else text
