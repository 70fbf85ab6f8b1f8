"""Turn what happens during one call into records, log events and spans."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from resilience.baml import Usage
from resilience.clock import Clock
from resilience.execution.call_result import CallResult
from resilience.execution.decision import Decision, Fail, Fallback, Retry
from resilience.failure import ErrorCategory, Failure
from resilience.history import (
    Action,
    AttemptRecord,
    CallRecord,
    DeferredRecord,
    ErrorRecord,
    FallbackRecord,
    Fingerprints,
    PayloadRecord,
    StartRecord,
    new_id,
)
from resilience.privacy import Content, Privacy
from resilience.records.records import NAMESPACE
from resilience.telemetry import CallTrace

RecordSink = Callable[[ErrorRecord | FallbackRecord | CallRecord | PayloadRecord | DeferredRecord], None]
EventSink = Callable[[StartRecord | AttemptRecord | DeferredRecord], None]

_NO_USAGE: Final = Usage()
_FINGERPRINTS: Final = Fingerprints()


@dataclass(slots=True)
class CallRecorder:
    """Makes the records of one call and hands them to the sinks, redacted.

    Records are redacted here, where they are made, so that every sink receives them redacted. The built-in rules have
    already been applied to a failure's message; a project's own rules are applied here, on the caller's thread (at most
    300 characters, with the result cached per message). Prompts and answers are handed on unredacted; the writer thread
    redacts them.

    Attributes:
        record: receives records; never blocks and never raises.
        clock: the time, for time stamps.
        call_id: the call's id.
        request_id: the id of the request that is being served, read at the start of the call; the call's own id where the
            application set none.
        function: the function that was called.
        privacy: how much is kept, and by which rules.
        trace: receives everything that is recorded, and what only spans and metrics need.
        log: receives events that only the logs keep; None without logs.
        fingerprints: names the kinds of errors.
        log_start: as `log`, where the start of each call is logged; else None.
        streamed: whether the call is a stream.
        is_probe: whether a probe beside a call is recorded, not a call.
        namespace: the namespace of the deployment.
        tenant: for whom the application makes the call; None if it does not say.
        first_error_at: time of the call's first error on the monotonic clock, in seconds.
        first_fingerprint: the fingerprint of that error.
        last_fingerprint: the fingerprint of the latest error.
        answer_duration: seconds of the attempt that answered; None before.
        failed_input_tokens: tokens of the prompt that attempts with an error record used.
        failed_output_tokens: tokens of the answer that they used.
    """

    record: RecordSink
    clock: Clock
    call_id: str
    request_id: str
    function: str
    privacy: Privacy = field(default_factory=Privacy)
    trace: CallTrace = field(default_factory=CallTrace)
    log: EventSink | None = None
    fingerprints: Fingerprints = _FINGERPRINTS
    log_start: EventSink | None = None
    streamed: bool = field(default=False, init=False)
    is_probe: bool = False
    namespace: str = NAMESPACE
    tenant: str | None = None
    first_error_at: float | None = field(default=None, init=False)
    first_fingerprint: str | None = field(default=None, init=False)
    last_fingerprint: str | None = field(default=None, init=False)
    answer_duration: float | None = field(default=None, init=False)
    failed_input_tokens: int | None = field(default=None, init=False)
    failed_output_tokens: int | None = field(default=None, init=False)

    def start(self, started_at: float, client: str) -> None:
        """Record the start of the call.

        Args:
            started_at: start in epoch seconds.
            client: the client that is asked first.
        """
        self.trace.on_start(self.request_id)
        if self.log_start is not None:
            self.log_start(DeferredRecord(partial(self._start_record, started_at, client)))

    def _start_record(self, started_at: float, client: str) -> StartRecord:
        return self.privacy.redactor.record(
            StartRecord(
                call_id=self.call_id,
                request_id=self.request_id,
                started_at=datetime.fromtimestamp(started_at, UTC),
                function=self.function,
                client=client,
                trace_id=self.trace.trace_id,
                span_id=self.trace.span_id,
            )
        )

    def answered(
        self,
        client: str,
        *,
        attempt: int,
        duration: float,
        usage: Usage,
        only_attempt: bool,
        first_token: float | None = None,
        is_probe: bool = False,
    ) -> None:
        """Record a successful attempt.

        Args:
            client: the client that answered.
            attempt: the number of the attempt on this client, from 1.
            duration: seconds the attempt took.
            usage: what it used.
            only_attempt: whether the call made no other attempt. Such an attempt gets no log line of its own, since the
                line of the call says the same. A probe gets one, which says that it is one.
            first_token: of a stream, seconds to the first content of the attempt; None without content.
            is_probe: whether it was a probe.
        """
        self.answer_duration = duration
        self.trace.on_answer(client, attempt=attempt, seconds=duration, usage=usage, first_token=first_token)
        if self.log is not None and (is_probe or not only_attempt):
            self._log(
                AttemptRecord(
                    occurred_at=self._now(),
                    request_id=self.request_id,
                    call_id=self.call_id,
                    function=self.function,
                    client=client,
                    attempt=attempt,
                    duration=duration,
                    provider=usage.provider,
                    model=usage.model,
                    input_tokens=usage.input_tokens,
                    output_tokens=usage.output_tokens,
                    probe=is_probe,
                    trace_id=self.trace.trace_id,
                    span_id=self.trace.attempt_span_id,
                    streamed=self.streamed,
                    time_to_first_token=first_token,
                )
            )

    def error(
        self,
        failure: Failure,
        *,
        client: str,
        attempt: int,
        decision: Decision | None,
        duration: float = 0.0,
        late: bool = False,
        state: str | None = None,
        content: Content | None = None,
        usage: Usage = _NO_USAGE,
        first_token: float | None = None,
        is_probe: bool = False,
    ) -> None:
        """Record a failed attempt, or a refusal that leads to no other client.

        Args:
            failure: what classification made of it.
            client: the client that failed or was not admitted.
            attempt: the number of the attempt on this client, from 1.
            decision: what follows; None if nothing was decided.
            duration: seconds the attempt took; 0 for a refusal.
            late: whether the circuit had changed since the attempt was admitted.
            state: the state of the client's circuit afterwards; None for a client without one.
            content: prompt and answer, where the privacy level keeps them.
            usage: what the attempt used.
            first_token: of a stream, seconds to the first content of the attempt; None without content.
            is_probe: whether it was a probe.
        """
        # Named before redaction by the project's rules: a rule that is added later must not split a group of errors.
        fingerprint, version = self.fingerprints.name(failure, self.function, client)
        self._remember(fingerprint, usage)
        record = self.privacy.redactor.record(
            ErrorRecord(
                event_id=new_id(),
                occurred_at=self._now(),
                request_id=self.request_id,
                call_id=self.call_id,
                function=self.function,
                client=client,
                attempt=attempt,
                category=failure.category,
                recoverable=failure.recoverable,
                status=failure.status,
                provider_code=failure.provider_code,
                provider_request_id=failure.provider_request_id,
                message=failure.message,
                exception_type=failure.exception_type,
                fingerprint=fingerprint,
                fp_version=version,
                retry_after=failure.retry_after,
                backoff=decision.delay if isinstance(decision, Retry) else None,
                duration=duration,
                action=_action(decision),
                denied=_denied(decision),
                late=late,
                breaker_state=state,
                **_used(usage),
                probe=is_probe,
                trace_id=self.trace.trace_id,
                detail=_CORRECTED if failure.corrected else None,
                span_id=self.trace.attempt_span_id,
                streamed=self.streamed,
                time_to_first_token=first_token,
                namespace=self.namespace,
            )
        )
        self._hand_on(record, content)

    def _hand_on(self, record: ErrorRecord, content: Content | None) -> None:
        """Hand the record of an error to the sinks and to telemetry, and its content to the history."""
        self.record(record)
        self.trace.on_failure(record)
        if content is None:
            return
        self.record(
            PayloadRecord(
                event_id=record.event_id,
                occurred_at=record.occurred_at,
                request_id=record.request_id,
                privacy=self.privacy.level.value,
                namespace=self.namespace,
                **self.privacy.defer(content),
            )
        )

    def record_content(self, content: Content) -> None:
        """Put *content* on the current span, redacted now, as far as the privacy level allows."""
        texts = self.privacy.defer(content)
        prompt, output = texts["prompt"], texts["raw_output"]
        self.trace.set_content(prompt and prompt(), output and output())

    def fallback(
        self, position: int, from_client: str, to_client: str, reason: ErrorCategory
    ) -> FallbackRecord:
        """Return the record of a fallback that starts now; pass it to `fallback_ended` when it is over.

        Args:
            position: 1 for the first fallback of the call.
            from_client: the client that did not answer.
            to_client: the client that is asked next.
            reason: the category of the failure.
        """
        return FallbackRecord(
            event_id=new_id(),
            occurred_at=self._now(),
            request_id=self.request_id,
            call_id=self.call_id,
            function=self.function,
            from_client=from_client,
            to_client=to_client,
            reason=reason,
            position=position,
            fingerprint=None if reason is ErrorCategory.CIRCUIT_OPEN else self.last_fingerprint,
            namespace=self.namespace,
        )

    def fallback_ended(self, fallback: FallbackRecord, *, succeeded: bool | None, duration: float) -> None:
        """Record the end of a fallback.

        Args:
            fallback: the record made at its start.
            succeeded: whether the client answered; None if the call was cut short.
            duration: seconds since its start.
        """
        ended = self.privacy.redactor.record(replace(fallback, succeeded=succeeded, duration=duration))
        self.record(ended)
        self.trace.on_fallback(ended)

    def end(self, result: CallResult) -> None:
        """Record the call itself.

        Its record is made on the writer thread, which takes the cost off the caller. Spans and metrics need it immediately.

        Args:
            result: how the call ended.
        """
        # Recovery is a property of the call: from its first error to its answer, waits and other clients included.
        if result.client_final is not None and self.first_error_at is not None:
            result.recovery = self.clock.monotonic() - self.first_error_at
        # Most calls have no span. Their record is made on the writer thread, which spares the caller the redaction.
        if not self.trace.enabled:
            self.record(DeferredRecord(partial(self.call_record, result)))
            return
        record = self.call_record(result)
        self.record(record)
        self.trace.on_end(record)

    def call_record(self, result: CallResult) -> CallRecord:
        """Return the record of the call, redacted.

        Args:
            result: how the call ended.
        """
        return self.privacy.redactor.record(
            CallRecord(
                call_id=self.call_id,
                request_id=self.request_id,
                started_at=datetime.fromtimestamp(result.started_at, UTC),
                duration=result.duration,
                function=self.function,
                client=result.client,
                client_final=result.client_final,
                outcome=result.outcome,
                attempts=result.attempts,
                retries=result.retries,
                fallbacks=result.fallbacks,
                recovery=result.recovery,
                fingerprint=self.first_fingerprint,
                input_tokens=_total(usage.input_tokens for usage in result.usages),
                output_tokens=_total(usage.output_tokens for usage in result.usages),
                probe=self.is_probe,
                trace_id=self.trace.trace_id,
                span_id=self.trace.span_id,
                streamed=self.streamed,
                time_to_first_token=result.time_to_first_token,
                namespace=self.namespace,
                tenant=self.tenant,
                answer_duration=None if result.client_final is None else self.answer_duration,
                failed_input_tokens=self.failed_input_tokens,
                failed_output_tokens=self.failed_output_tokens,
            )
        )

    def _remember(self, fingerprint: str, usage: Usage) -> None:
        # The record of the call has the tokens of all attempts. The counters must not book these to the client that answered.
        self.failed_input_tokens = _total((self.failed_input_tokens, usage.input_tokens))
        self.failed_output_tokens = _total((self.failed_output_tokens, usage.output_tokens))
        self.last_fingerprint = fingerprint
        if self.first_error_at is None:
            self.first_error_at, self.first_fingerprint = self.clock.monotonic(), fingerprint

    def _log(self, record: StartRecord | AttemptRecord) -> None:
        if self.log is not None:
            self.log(self.privacy.redactor.record(record))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.time(), UTC)


def _used(usage: Usage) -> dict[str, Any]:
    return {
        "provider": usage.provider,
        "model": usage.model,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
    }


_CORRECTED: Final = {"corrected": "by behaviour: the client refuses every request"}


def _total(counts: Iterable[int | None]) -> int | None:
    """Return the sum of the known counts; None when none is known."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _denied(decision: Decision | None) -> str | None:
    denied = decision.denied if isinstance(decision, Fallback | Fail) else None
    return None if denied is None else denied.value


def _action(decision: Decision | None) -> Action:
    if isinstance(decision, Retry):
        return Action.RETRY
    return Action.FALLBACK if isinstance(decision, Fallback) else Action.RAISE
