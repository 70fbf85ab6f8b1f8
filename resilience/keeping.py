"""Turns what happened on the way of a call into the records that are kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from resilience.baml import Usage
from resilience.clock import Clock
from resilience.decision import Again, NextClient, Raise, Step
from resilience.failure import ErrorCategory, Failure
from resilience.history import (
    Action,
    AttemptRecord,
    CallOutcome,
    CallRecord,
    ErrorRecord,
    FallbackRecord,
    Fingerprints,
    PayloadRecord,
    StartRecord,
    Unmade,
    new_id,
)
from resilience.privacy import Content, Privacy
from resilience.telemetry import CallTrace

Keep = Callable[[ErrorRecord | FallbackRecord | CallRecord | PayloadRecord | Unmade], None]
Tell = Callable[[StartRecord | AttemptRecord | Unmade], None]

_NO_USAGE: Final = Usage()
_FINGERPRINTS: Final = Fingerprints()


@dataclass(slots=True)
class Ending:
    """How a call ended.

    Attributes:
        outcome: how.
        began: when it began, epoch seconds.
        duration: how long it took, seconds.
        client: who was to answer.
        client_final: who did.
        attempts: how many were made on all clients.
        retries: how many of them asked the same client again.
        fallbacks: steps to another client.
        used: what its attempts used, failed ones included.
        recovery: seconds from its first error to its answer.
    """

    outcome: CallOutcome
    began: float
    duration: float
    client: str
    client_final: str | None
    attempts: int
    retries: int
    fallbacks: int
    used: Sequence[Usage]
    recovery: float | None = None


@dataclass(slots=True)
class Ledger:
    """Keeps the records of one call, which are redacted here, at birth: whatever gets them, gets them so.

    The built-in rules have seen a failure's message already; a project's own see it here, in the caller's thread (at most
    300 characters, and what was said before is remembered). Content is handed on sealed, for the writer thread to redact.

    Attributes:
        keep: where records go; never blocks and never raises.
        clock: for the stamps people read.
        call_id: the call's id.
        request_id: the id of the request it serves, captured at its start; the call's own when nobody named one.
        function: the function that was called.
        privacy: how much is kept, and by which rules.
        trace: told of everything that is kept, and of what only spans and metrics need.
        tell: where goes what only the logs are told; None without logs.
        fingerprints: names the kinds of failures.
        failed_at: when the call's first error was kept, in seconds of the monotonic clock.
        first: the fingerprint of that error.
        latest: the fingerprint of the last one.
    """

    keep: Keep
    clock: Clock
    call_id: str
    request_id: str
    function: str
    privacy: Privacy = field(default_factory=Privacy)
    trace: CallTrace = field(default_factory=CallTrace)
    tell: Tell | None = None
    fingerprints: Fingerprints = _FINGERPRINTS
    failed_at: float | None = field(default=None, init=False)
    first: str | None = field(default=None, init=False)
    latest: str | None = field(default=None, init=False)

    def begin(self, began: float, client: str) -> None:
        """The call begins, in the task that makes it, at *began* in epoch seconds; *client* is to answer."""
        self.trace.begin(self.request_id)
        if self.tell is not None:
            self.tell(Unmade(partial(self._start, began, client)))

    def _start(self, began: float, client: str) -> StartRecord:
        return self.privacy.redactor.record(
            StartRecord(
                call_id=self.call_id,
                request_id=self.request_id,
                started_at=datetime.fromtimestamp(began, UTC),
                function=self.function,
                client=client,
                trace_id=self.trace.trace_id,
                span_id=self.trace.span_id,
            )
        )

    def answered(self, client: str, *, attempt: int, seconds: float, usage: Usage, alone: bool) -> None:
        """An attempt brought the answer; a call's only one (*alone*) needs no line, the call's own says it all."""
        self.trace.answered(client, attempt=attempt, seconds=seconds, usage=usage)
        if self.tell is not None and not alone:
            self._tell(
                AttemptRecord(
                    occurred_at=self._now(),
                    request_id=self.request_id,
                    call_id=self.call_id,
                    function=self.function,
                    client=client,
                    attempt=attempt,
                    duration=seconds,
                    provider=usage.provider,
                    model=usage.model,
                    input_tokens=usage.input_tokens,
                    output_tokens=usage.output_tokens,
                    trace_id=self.trace.trace_id,
                    span_id=self.trace.attempt_span_id,
                )
            )

    def error(
        self,
        failure: Failure,
        *,
        client: str,
        attempt: int,
        step: Step | None,
        duration: float = 0.0,
        late: bool = False,
        state: str | None = None,
        content: Content | None = None,
        usage: Usage = _NO_USAGE,
    ) -> None:
        """Keep a failed attempt or a refusal, and what followed; its *content* as far as the privacy level has it."""
        named, version = self.fingerprints.name(failure, self.function, client)
        self._remember(named)
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
                fingerprint=named,
                fp_version=version,
                retry_after=failure.retry_after,
                backoff=step.delay if isinstance(step, Again) else None,
                duration=duration,
                action=_action(step),
                denied=_denied(step),
                late=late,
                breaker_state=state,
                provider=usage.provider,
                model=usage.model,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                trace_id=self.trace.trace_id,
                span_id=self.trace.attempt_span_id,
            )
        )
        self.keep(record)
        self.trace.failed(record)
        if content is not None:
            self._payload(record, content)

    def _payload(self, record: ErrorRecord, content: Content) -> None:
        self.keep(
            PayloadRecord(
                event_id=record.event_id,
                occurred_at=record.occurred_at,
                request_id=record.request_id,
                privacy=self.privacy.level.value,
                **self.privacy.seal(content),
            )
        )

    def show(self, content: Content) -> None:
        """Give *content* to the spans, redacted now, as far as the privacy level shows it."""
        sealed = self.privacy.seal(content)
        asked, answered = sealed["prompt"], sealed["raw_output"]
        self.trace.content(asked and asked(), answered and answered())

    def hop(self, number: int, from_client: str, to_client: str, reason: ErrorCategory) -> FallbackRecord:
        """Begin the record of a call's step of this *number* to another client; it is kept once that has answered or failed."""
        return FallbackRecord(
            event_id=new_id(),
            occurred_at=self._now(),
            request_id=self.request_id,
            call_id=self.call_id,
            function=self.function,
            from_client=from_client,
            to_client=to_client,
            reason=reason,
            hop=number,
            fingerprint=None if reason is ErrorCategory.CIRCUIT_OPEN else self.latest,
        )

    def hopped(self, hop: FallbackRecord, *, succeeded: bool | None, seconds: float) -> None:
        """Keep a step to another client, whose turn took so many *seconds*."""
        hop = self.privacy.redactor.record(replace(hop, succeeded=succeeded, duration=seconds))
        self.keep(hop)
        self.trace.fell_over(hop)

    def end(self, ending: Ending) -> None:
        """Keep the call itself. Its record is made on the writer thread, unless spans and metrics want it now."""
        if ending.client_final is not None and self.failed_at is not None:
            ending.recovery = self.clock.monotonic() - self.failed_at
        if not self.trace.listens:
            self.keep(Unmade(partial(self._call, ending)))
            return
        record = self._call(ending)
        self.keep(record)
        self.trace.end(record)

    def _call(self, ending: Ending) -> CallRecord:
        return self.privacy.redactor.record(
            CallRecord(
                call_id=self.call_id,
                request_id=self.request_id,
                started_at=datetime.fromtimestamp(ending.began, UTC),
                duration=ending.duration,
                function=self.function,
                client=ending.client,
                client_final=ending.client_final,
                outcome=ending.outcome,
                attempts=ending.attempts,
                retries=ending.retries,
                fallbacks=ending.fallbacks,
                recovery=ending.recovery,
                fingerprint=self.first,
                input_tokens=_total(each.input_tokens for each in ending.used),
                output_tokens=_total(each.output_tokens for each in ending.used),
                trace_id=self.trace.trace_id,
                span_id=self.trace.span_id,
            )
        )

    def _remember(self, named: str) -> None:
        self.latest = named
        if self.failed_at is None:
            self.failed_at, self.first = self.clock.monotonic(), named

    def _tell(self, record: StartRecord | AttemptRecord) -> None:
        if self.tell is not None:
            self.tell(self.privacy.redactor.record(record))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.time(), UTC)


def _total(counts: Iterable[int | None]) -> int | None:
    """The sum of those that are known; None when none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _denied(step: Step | None) -> str | None:
    denied = step.denied if isinstance(step, NextClient | Raise) else None
    return None if denied is None else denied.value


def _action(step: Step | None) -> Action:
    if isinstance(step, Again):
        return Action.RETRY
    return Action.FALLBACK if isinstance(step, NextClient) else Action.RAISE
