"""Spans and metrics of a call, for an application that has set a provider of either. Imported only then."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, Concatenate, Final, ParamSpec

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
)

from resilience.baml import Usage
from resilience.breaker import Breaker, Transition
from resilience.failure import ErrorCategory
from resilience.history import Recorder
from resilience.records.records import Action, CallOutcome, CallRecord, ErrorRecord, FallbackRecord
from resilience.telemetry import messages, names
from resilience.telemetry.client_span import ClientSpan, OpenSpan
from resilience.telemetry.instruments import Instruments
from resilience.telemetry.trace import CallTrace
from resilience.version import package_version

_P = ParamSpec("_P")
_CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_ON_SPANS: Final = frozenset({"true", "span_only", "span_and_event"})
_ANSWERED: Final = frozenset({CallOutcome.OK, CallOutcome.RECOVERED_RETRY, CallOutcome.RECOVERED_FALLBACK})


class CallTracer:
    """The tracer and the instruments in use.

    Args:
        rooms: what the gauges read.
        trouble: told of every error of a provider, which then goes no further.
    """

    def __init__(
        self, rooms: Mapping[int, tuple[Breaker, Recorder]], trouble: Callable[[Exception], None]
    ) -> None:
        self.tracer: Tracer | None = None
        self.instruments: Instruments | None = None
        self.trouble = trouble
        self.content = os.environ.get(_CAPTURE, "").lower() in _ON_SPANS
        self._rooms = rooms

    @property
    def complete(self) -> bool:
        """Is there nothing more to look for?"""
        return self.tracer is not None and self.instruments is not None

    def listen(self, tracing: TracerProvider | None, metering: MeterProvider | None) -> None:
        """Take up the providers that were missing so far."""
        version = package_version()
        if self.tracer is None and tracing is not None:
            self.tracer = tracing.get_tracer(names.SCOPE, version, schema_url=names.SCHEMA_URL)
        if self.instruments is None and metering is not None:
            meter = metering.get_meter(names.SCOPE, version, schema_url=names.SCHEMA_URL)
            self.instruments = Instruments(meter, self._rooms)

    def trace(self, function: str, client: str) -> CallTrace:
        """Follow one call."""
        return CallSpans(self, function, client)

    def transition(self, moved: Transition) -> None:
        """Count a move of a circuit."""
        if self.instruments is not None:
            self.instruments.moved(moved)

    def flushed(self, seconds: float) -> None:
        """Measure a transaction of the history."""
        if self.instruments is not None:
            self.instruments.flushed(seconds)


def _harmless(
    method: Callable[Concatenate[CallSpans, _P], None],
) -> Callable[Concatenate[CallSpans, _P], None]:
    """Whatever a provider, a processor or an exporter raises stays here."""

    def guarded(self: CallSpans, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as exc:  # noqa: BLE001 - the law of this room
            self._live.trouble(exc)

    return guarded


class CallSpans(CallTrace):
    """One call as a span, with a span for each client that is asked."""

    __slots__ = ("_call", "_client", "_function", "_last", "_live", "_turn")

    def __init__(self, live: CallTracer, function: str, client: str) -> None:
        super().__init__()
        self._live = live
        self._function = function
        self._client = client
        self._call: OpenSpan | None = None
        self._turn: ClientSpan | None = None
        self._last: ErrorRecord | None = None

    @_harmless
    def begin(self, request_id: str) -> None:
        """Start the call's span below the caller's, and make it current."""
        tracer = self._live.tracer
        if tracer is None:
            return
        told = {names.FUNCTION: self._function, names.CLIENT: self._client, names.REQUEST_ID: request_id}
        self._call = OpenSpan(
            tracer.start_span(f"baml {self._function}", kind=SpanKind.INTERNAL, attributes=told)
        )
        self.trace_id, self.span_id = self._call.ids()
        self.attempt_span_id = self.span_id

    @_harmless
    def asking(self, client: str) -> None:
        """Start the client's span at its first attempt."""
        if self._turn is not None:
            self._turn.attempts += 1
            return
        self._turn = ClientSpan(client)
        tracer = self._live.tracer
        if tracer is not None:
            told = {names.OPERATION: names.CHAT, names.CLIENT: client, names.FUNCTION: self._function}
            self._turn.open = OpenSpan(
                tracer.start_span(f"chat {client}", kind=SpanKind.CLIENT, attributes=told)
            )
            _, self.attempt_span_id = self._turn.open.ids()

    @_harmless
    def answered(self, client: str, *, attempt: int, seconds: float, usage: Usage) -> None:
        """End the client's span: it has answered."""
        instruments = self._live.instruments
        if instruments is not None:
            instruments.answered(client, self._function, attempt, seconds)
        if self._turn is not None:
            self._used(self._turn, usage)
            self._end_turn(None)

    @property
    def enabled(self) -> bool:
        """Is somebody told when the call is over?"""
        return True

    @property
    def wants_content(self) -> bool:
        """The conventions' own variable says so, and there is a span to put it on."""
        return self._live.content and self._turn is not None and self._turn.open is not None

    @_harmless
    def content(self, asked: str | None, answered: str | None) -> None:
        """Put it on the client's span."""
        if self._turn is not None and self._turn.open is not None:
            told = {
                names.INPUT_MESSAGES: messages.asked(asked),
                names.OUTPUT_MESSAGES: messages.answered(answered),
            }
            span = self._turn.open.span
            span.set_attributes({name: value for name, value in told.items() if value is not None})

    @_harmless
    def failed(self, record: ErrorRecord) -> None:
        """Tell what failed as an event; the client's span ends unless it is asked again."""
        self._last = record
        asked = record.category is not ErrorCategory.CIRCUIT_OPEN
        if self._live.instruments is not None:
            self._live.instruments.failed(record)
        if self._turn is not None and asked:
            self._used(self._turn, record)
        span = self._span()
        if span is not None:
            _tell_failed(span, record)
        if record.action is not Action.RETRY:
            self._end_turn(record.category.value)

    @_harmless
    def on_fallback(self, record: FallbackRecord) -> None:
        """Tell of the step on the call's span, at the time it was made."""
        if self._live.instruments is not None:
            self._live.instruments.on_fallback(record)
        if self._call is not None:
            told = {
                names.FROM_CLIENT: record.from_client,
                names.TO_CLIENT: record.to_client,
                names.ERROR_TYPE: record.reason.value,
            }
            at = int(record.occurred_at.timestamp() * 1e9)
            self._call.span.add_event(names.FALLBACK_EVENT, told, timestamp=at)

    @_harmless
    def end(self, record: CallRecord) -> None:
        """End the spans, in the task that began them."""
        try:
            cut = (
                ErrorCategory.CANCELLED if record.outcome is CallOutcome.CANCELLED else ErrorCategory.TIMEOUT
            )
            self._end_turn(cut.value)  # a turn that is still open was cut short
            if self._live.instruments is not None:
                self._live.instruments.ended(record)
        finally:
            if self._call is not None:
                self._tell_ended(self._call.span, record)
                self._call.close()

    def _tell_ended(self, span: Span, record: CallRecord) -> None:
        span.set_attribute(names.OUTCOME, record.outcome.value)
        span.set_attribute(names.ATTEMPTS, record.attempts)
        span.set_attribute(names.FALLBACKS, record.fallbacks)
        if record.client_final is not None:
            span.set_attribute(names.CLIENT_FINAL, record.client_final)
        if record.outcome in _ANSWERED:
            return
        if record.outcome is CallOutcome.CANCELLED:
            span.set_attribute(names.ERROR_TYPE, ErrorCategory.CANCELLED.value)
            return
        final = self._last is not None and self._last.action is Action.RAISE
        category = self._last.category if self._last is not None and final else ErrorCategory.TIMEOUT
        span.set_attribute(names.ERROR_TYPE, category.value)
        span.set_status(Status(StatusCode.ERROR, category.value))

    def _used(self, turn: ClientSpan, what: Usage | ErrorRecord) -> None:
        turn.used(what)
        if self._live.instruments is not None:
            self._live.instruments.used(turn.labels(None), what.input_tokens, what.output_tokens)

    def _span(self) -> Span | None:
        """The innermost span that is open."""
        inner = self._turn.open if self._turn is not None else None
        opened = inner or self._call
        return None if opened is None else opened.span

    def _end_turn(self, error_type: str | None) -> None:
        turn, self._turn = self._turn, None
        if turn is None:
            return
        self.attempt_span_id = self.span_id
        try:
            if self._live.instruments is not None:
                self._live.instruments.turn(turn.labels(error_type), perf_counter() - turn.began)
        finally:
            turn.close(error_type)


def _tell_failed(span: Span, record: ErrorRecord) -> None:
    refused = record.category is ErrorCategory.CIRCUIT_OPEN
    told: dict[str, Any] = {
        names.CLIENT: record.client,
        names.ATTEMPT: record.attempt,
        names.ERROR_TYPE: record.category.value,
        names.ACTION: record.action.value,
        names.STATUS: record.status,
        names.BACKOFF: record.backoff,
        names.RETRY_AFTER: record.retry_after,
        names.DENIED: record.denied,
    }
    event = names.REFUSED_EVENT if refused else names.ATTEMPT_EVENT
    span.add_event(event, {name: value for name, value in told.items() if value is not None})
    if record.action is Action.RAISE:
        text = {names.EXCEPTION_TYPE: record.exception_type, names.EXCEPTION_MESSAGE: record.message}
        span.add_event(names.EXCEPTION_EVENT, text)
