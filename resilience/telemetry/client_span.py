"""The span of one client within a call, and what its metrics need."""

from __future__ import annotations

from time import perf_counter

from opentelemetry import context
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context

from resilience.baml import Usage
from resilience.failure import ErrorCategory
from resilience.records.records import ErrorRecord
from resilience.telemetry import names


class CurrentSpan:
    """A span that is the current one from its creation until `close`."""

    __slots__ = ("_context", "_token", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self._context = set_span_in_context(span)
        self._token = context.attach(self._context)

    def ids(self) -> tuple[str | None, str | None]:
        """Return the ids of trace and span as records keep them; None for a span without valid ids."""
        ids = self.span.get_span_context()
        return (f"{ids.trace_id:032x}", f"{ids.span_id:016x}") if ids.is_valid else (None, None)

    def close(self) -> None:
        """Make the previous span current again, and end this one."""
        # A coroutine that is garbage-collected instead of awaited is closed in a foreign context. Detaching there would
        # log an error and could change that context's span.
        if context.get_current() is self._context:
            context.detach(self._token)
        self.span.end()


class ClientSpan:
    """The attempts of a call on one client: one span, and the labels of its metrics.

    Attributes:
        client: the client's name.
        started: when it was asked first, in seconds of `perf_counter`.
        attempts: attempts so far.
        current: its span; None where only metrics are wanted.
        provider: the provider, in the words of the semantic conventions.
        model: the model that was asked.
        input_tokens: tokens read, of all attempts: all of them are paid.
        output_tokens: tokens written, of all attempts.
        time_to_first_token: of a stream, seconds to the first content of the latest attempt that had any; None without.
    """

    __slots__ = (
        "attempts",
        "client",
        "current",
        "input_tokens",
        "model",
        "output_tokens",
        "provider",
        "started",
        "time_to_first_token",
    )

    def __init__(self, client: str) -> None:
        self.client = client
        self.started = perf_counter()
        self.attempts = 1
        self.current: CurrentSpan | None = None
        self.provider: str | None = None
        self.model: str | None = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.time_to_first_token: float | None = None

    def add_usage(self, usage: Usage | ErrorRecord) -> None:
        """Add the tokens of one attempt; its provider and model replace those known so far."""
        if usage.provider is not None:
            self.provider = names.PROVIDERS.get(usage.provider, usage.provider)
        self.model = usage.model or self.model
        self.input_tokens = _sum(self.input_tokens, usage.input_tokens)
        self.output_tokens = _sum(self.output_tokens, usage.output_tokens)

    def labels(self, error_type: str | None) -> dict[str, str]:
        """Return the labels of its metrics; *error_type* is None for an answer."""
        labels = {
            names.OPERATION: names.CHAT,
            names.PROVIDER: self.provider,
            names.REQUEST_MODEL: self.model,
            names.ERROR_TYPE: error_type,
        }
        return {name: value for name, value in labels.items() if value is not None}

    def close(self, error_type: str | None) -> None:
        """End its span with the attributes known by now.

        Args:
            error_type: the failure category; None for an answer. A cancelled call is no error of the client.
        """
        if self.current is None:
            return
        span = self.current.span
        try:
            if self.model is not None:
                # The conventions name the span by the model, which is known only after the first attempt.
                span.update_name(f"chat {self.model}")
            span.set_attributes({**self.labels(error_type), **self._counts()})
            if self.time_to_first_token is not None:
                stream = {names.STREAM: True, names.TIME_TO_FIRST_CHUNK: self.time_to_first_token}
                span.set_attributes(stream)
            if error_type is not None and error_type != ErrorCategory.CANCELLED.value:
                span.set_status(Status(StatusCode.ERROR, error_type))
        finally:
            self.current.close()

    def _counts(self) -> dict[str, int]:
        counts = {
            names.ATTEMPTS: self.attempts,
            names.INPUT_TOKENS: self.input_tokens,
            names.OUTPUT_TOKENS: self.output_tokens,
        }
        return {name: value for name, value in counts.items() if value is not None}


def _sum(total: int | None, count: int | None) -> int | None:
    """Add *count*; None means that no attempt has stated one."""
    return total if count is None else count + (total or 0)
