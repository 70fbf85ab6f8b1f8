"""Spans and metrics of calls, for an application that has set a provider of either. Imported only then."""

from __future__ import annotations

import os
from collections.abc import Callable
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
from resilience.breaker import Transition
from resilience.failure import ErrorCategory
from resilience.records.records import Action, CallOutcome, CallRecord, ErrorRecord, FallbackRecord
from resilience.telemetry import messages, names
from resilience.telemetry.client_span import ClientSpan, CurrentSpan
from resilience.telemetry.instruments import Instruments, Runtimes
from resilience.telemetry.known_series import Known
from resilience.telemetry.trace import CallTrace
from resilience.version import package_version

_P = ParamSpec("_P")
_CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
# The variable also has the value event_only. It is not here, because content is put on spans alone.
_ON_SPANS: Final = frozenset({"true", "span_only", "span_and_event"})
_ANSWERED: Final = frozenset({CallOutcome.OK, CallOutcome.RECOVERED_RETRY, CallOutcome.RECOVERED_FALLBACK})


class CallTracer:
    """The tracer and the instruments in use.

    Attributes:
        tracer: None while the application has set no provider of spans.
        instruments: None while it has set no provider of metrics.
        on_error: called with every error of a provider, which goes no further.
        captures_content: whether the variable of the conventions asks for prompts and answers on spans.

    Args:
        runtimes: what the gauges read.
        on_error: as the attribute.
    """

    def __init__(self, runtimes: Runtimes, on_error: Callable[[Exception], None]) -> None:
        self.tracer: Tracer | None = None
        self.instruments: Instruments | None = None
        self.on_error = on_error
        self.captures_content = os.environ.get(_CAPTURE, "").lower() in _ON_SPANS
        self._runtimes = runtimes

    @property
    def complete(self) -> bool:
        """Whether both providers are in use, so that the search for them is over."""
        return self.tracer is not None and self.instruments is not None

    def add_providers(self, tracing: TracerProvider | None, metering: MeterProvider | None) -> None:
        """Use the providers that were missing until now. A provider in use stays: instruments are created once."""
        # Two threads may find different providers at once; the caller holds the lock of `Providers` here, so that no
        # instrument is created twice. The SDK warns of duplicates.
        version = package_version()
        if self.tracer is None and tracing is not None:
            self.tracer = tracing.get_tracer(names.SCOPE, version, schema_url=names.SCHEMA_URL)
        if self.instruments is None and metering is not None:
            meter = metering.get_meter(names.SCOPE, version, schema_url=names.SCHEMA_URL)
            self.instruments = Instruments(meter, self._runtimes)

    def add_zeros(self, known: Known) -> None:
        """Begin the series of counters that can be foreseen at 0."""
        if self.instruments is not None:
            self.instruments.add_zeros(known)

    def trace(self, function: str, client: str, *, keeps_texts: bool = True) -> CallTrace:
        """Return the callbacks for one call."""
        return CallSpans(self, function, client, keeps_texts=keeps_texts)

    def record_transition(self, transition: Transition) -> None:
        """Count a transition of a circuit."""
        if self.instruments is not None:
            self.instruments.record_transition(transition)

    def record_flush(self, seconds: float) -> None:
        """Measure a transaction of the history."""
        if self.instruments is not None:
            self.instruments.record_flush(seconds)


def _contain_errors(
    method: Callable[Concatenate[CallSpans, _P], None],
) -> Callable[Concatenate[CallSpans, _P], None]:
    """Keep what a provider, a processor or an exporter raises from the call."""

    def guarded(self: CallSpans, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as exc:  # noqa: BLE001 - telemetry must not fail a call, whatever it raises
            self._tracer.on_error(exc)

    return guarded


class CallSpans(CallTrace):
    """One call as a span, with a child span for each client that is asked."""

    __slots__ = ("_call", "_client", "_client_span", "_function", "_keeps_texts", "_last_error", "_tracer")

    def __init__(self, tracer: CallTracer, function: str, client: str, *, keeps_texts: bool = True) -> None:
        super().__init__()
        self._keeps_texts = keeps_texts
        self._tracer = tracer
        self._function = function
        self._client = client
        self._call: CurrentSpan | None = None
        self._client_span: ClientSpan | None = None
        self._last_error: ErrorRecord | None = None

    @_contain_errors
    def on_start(self, request_id: str) -> None:
        """Start the call's span as a child of the caller's, and make it current."""
        otel_tracer = self._tracer.tracer
        if otel_tracer is None:
            return
        attributes = {names.FUNCTION: self._function, names.CLIENT: self._client}
        if self._keeps_texts:
            attributes[names.REQUEST_ID] = request_id
        self._call = CurrentSpan(
            otel_tracer.start_span(f"baml {self._function}", kind=SpanKind.INTERNAL, attributes=attributes)
        )
        # Records keep these ids. A sampler may drop the span, but its ids are valid all the same.
        self.trace_id, self.span_id = self._call.ids()
        self.attempt_span_id = self.span_id

    @_contain_errors
    def on_attempt(self, client: str) -> None:
        """Start the client's span at its first attempt; count later attempts on it."""
        if self._client_span is not None:
            self._client_span.attempts += 1
            return
        # Made without a provider of spans too: the metrics take their labels and their duration from it.
        self._client_span = ClientSpan(client)
        otel_tracer = self._tracer.tracer
        if otel_tracer is not None:
            attributes = {names.OPERATION: names.CHAT, names.CLIENT: client, names.FUNCTION: self._function}
            self._client_span.current = CurrentSpan(
                otel_tracer.start_span(f"chat {client}", kind=SpanKind.CLIENT, attributes=attributes)
            )
            _, self.attempt_span_id = self._client_span.current.ids()

    @_contain_errors
    def on_answer(
        self, client: str, *, attempt: int, seconds: float, usage: Usage, first_token: float | None = None
    ) -> None:
        """End the client's span without an error."""
        instruments = self._tracer.instruments
        if instruments is not None:
            instruments.record_answer(client, self._function, attempt, seconds)
        if self._client_span is not None:
            self._add_usage(self._client_span, usage)
            self._add_first_token(self._client_span, first_token, None)
            self._end_client_span(None)

    @property
    def enabled(self) -> bool:
        """True: the span and the metrics of the call are completed in `on_end`."""
        return True

    @property
    def wants_content(self) -> bool:
        """Whether the variable of the conventions asks for content, and there is a span for it."""
        return (
            self._tracer.captures_content
            and self._client_span is not None
            and self._client_span.current is not None
        )

    @_contain_errors
    def set_content(self, prompt: str | None, answer: str | None) -> None:
        """Put prompt and answer on the client's span, as messages in JSON."""
        if self._client_span is not None and self._client_span.current is not None:
            attributes = {
                names.INPUT_MESSAGES: messages.input_messages(prompt),
                names.OUTPUT_MESSAGES: messages.output_messages(answer),
            }
            span = self._client_span.current.span
            span.set_attributes({name: value for name, value in attributes.items() if value is not None})

    @_contain_errors
    def on_failure(self, record: ErrorRecord) -> None:
        """Add the failure as an event. The client's span ends unless the client is asked again."""
        self._last_error = record
        was_asked = record.category is not ErrorCategory.CIRCUIT_OPEN
        if self._tracer.instruments is not None:
            self._tracer.instruments.record_failure(record)
        if self._client_span is not None and was_asked:
            self._add_usage(self._client_span, record)
            self._add_first_token(self._client_span, record.time_to_first_token, record.category.value)
        # A refused attempt has no client span: its event goes to the span of the call.
        span = self._innermost_span()
        if span is not None:
            _add_failure(span, record, with_texts=self._keeps_texts)
        if record.action is not Action.RETRY:
            self._end_client_span(record.category.value)

    @_contain_errors
    def on_fallback(self, record: FallbackRecord) -> None:
        """Add the fallback as an event of the call's span, at the time it happened."""
        if self._tracer.instruments is not None:
            self._tracer.instruments.record_fallback(record)
        if self._call is not None:
            attributes = {
                names.FROM_CLIENT: record.from_client,
                names.TO_CLIENT: record.to_client,
                names.ERROR_TYPE: record.reason.value,
            }
            # The callback comes when the next client has answered or failed, so the event is dated back to its start.
            nanoseconds = int(record.occurred_at.timestamp() * 1e9)
            self._call.span.add_event(names.FALLBACK_EVENT, attributes, timestamp=nanoseconds)

    @_contain_errors
    def on_end(self, record: CallRecord) -> None:
        """End the spans, in the task that started them."""
        try:
            cut = (
                ErrorCategory.CANCELLED if record.outcome is CallOutcome.CANCELLED else ErrorCategory.TIMEOUT
            )
            self._end_client_span(cut.value)  # still open: the call was cancelled or reached its deadline
            if self._tracer.instruments is not None:
                self._tracer.instruments.record_call(record)
        # Whatever a metric raised, the span must end here: it would stay the current one of the caller's task.
        finally:
            if self._call is not None:
                self._complete(self._call.span, record)
                self._call.close()

    def _complete(self, span: Span, record: CallRecord) -> None:
        """Set the attributes and the status that are known at the end of the call."""
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
        # Without a failure that was raised, the deadline ended the call.
        final = self._last_error is not None and self._last_error.action is Action.RAISE
        category = (
            self._last_error.category if self._last_error is not None and final else ErrorCategory.TIMEOUT
        )
        span.set_attribute(names.ERROR_TYPE, category.value)
        span.set_status(Status(StatusCode.ERROR, category.value))

    def _add_usage(self, client_span: ClientSpan, usage: Usage | ErrorRecord) -> None:
        client_span.add_usage(usage)
        if self._tracer.instruments is not None:
            self._tracer.instruments.record_tokens(
                client_span.labels(None), usage.input_tokens, usage.output_tokens
            )

    def _add_first_token(
        self, client_span: ClientSpan, seconds: float | None, error_type: str | None
    ) -> None:
        if seconds is None:
            return
        client_span.time_to_first_token = seconds
        if self._tracer.instruments is not None:
            self._tracer.instruments.record_first_token(
                client_span.client, client_span.labels(error_type), seconds
            )

    def _innermost_span(self) -> Span | None:
        """Return the innermost open span; None without a provider of spans."""
        inner = self._client_span.current if self._client_span is not None else None
        current = inner or self._call
        return None if current is None else current.span

    def _end_client_span(self, error_type: str | None) -> None:
        # Removed before anything below can raise: `on_end` must not end the same span a second time.
        client_span, self._client_span = self._client_span, None
        if client_span is None:
            return
        self.attempt_span_id = self.span_id
        try:
            if self._tracer.instruments is not None:
                self._tracer.instruments.record_operation(
                    client_span.labels(error_type), perf_counter() - client_span.started
                )
        finally:
            client_span.close(error_type)


def _add_failure(span: Span, record: ErrorRecord, *, with_texts: bool) -> None:
    """Add the failure as an event; the failure that ends the call also as an exception, with the redacted message.

    `Span.record_exception` would put the exception's own text on the span, which may hold the prompt.
    """
    refused = record.category is ErrorCategory.CIRCUIT_OPEN
    attributes: dict[str, Any] = {
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
    span.add_event(event, {name: value for name, value in attributes.items() if value is not None})
    if record.action is Action.RAISE and with_texts:
        text = {names.EXCEPTION_TYPE: record.exception_type, names.EXCEPTION_MESSAGE: record.message}
        span.add_event(names.EXCEPTION_EVENT, text)
