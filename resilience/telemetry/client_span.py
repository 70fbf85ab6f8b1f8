"""A span that is current while it is open, and what one client's turn tells by it."""

from __future__ import annotations

from time import perf_counter

from opentelemetry import context
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context

from resilience.baml import Usage
from resilience.failure import ErrorCategory
from resilience.records.records import ErrorRecord
from resilience.telemetry import names


class OpenSpan:
    """A span that is current from here until `close`."""

    __slots__ = ("_context", "_token", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self._context = set_span_in_context(span)
        self._token = context.attach(self._context)

    def ids(self) -> tuple[str | None, str | None]:
        """Trace and span, as records keep them."""
        found = self.span.get_span_context()
        return (f"{found.trace_id:032x}", f"{found.span_id:016x}") if found.is_valid else (None, None)

    def close(self) -> None:
        """Give the place back to the span before, and end this one.

        A coroutine that is thrown away instead of being awaited ends in a context that is not ours: it stays as it is.
        """
        if context.get_current() is self._context:
            context.detach(self._token)
        self.span.end()


class ClientSpan:
    """One client's turn: what its span and its metrics tell in the end."""

    __slots__ = ("attempts", "began", "client", "input_tokens", "model", "open", "output_tokens", "provider")

    def __init__(self, client: str) -> None:
        self.client = client
        self.began = perf_counter()
        self.attempts = 1
        self.open: OpenSpan | None = None
        self.provider: str | None = None
        self.model: str | None = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None

    def used(self, what: Usage | ErrorRecord) -> None:
        """Add what one attempt used; tokens are those of all attempts, for all of them are paid."""
        if what.provider is not None:
            self.provider = names.PROVIDERS.get(what.provider, what.provider)
        self.model = what.model or self.model
        self.input_tokens = _sum(self.input_tokens, what.input_tokens)
        self.output_tokens = _sum(self.output_tokens, what.output_tokens)

    def labels(self, error_type: str | None) -> dict[str, str]:
        """The few words its metrics are sorted by."""
        told = {
            names.OPERATION: names.CHAT,
            names.PROVIDER: self.provider,
            names.REQUEST_MODEL: self.model,
            names.ERROR_TYPE: error_type,
        }
        return {name: value for name, value in told.items() if value is not None}

    def close(self, error_type: str | None) -> None:
        """End its span."""
        if self.open is None:
            return
        span = self.open.span
        try:
            if self.model is not None:
                span.update_name(f"chat {self.model}")
            span.set_attributes({**self.labels(error_type), **self._counts()})
            if error_type is not None and error_type != ErrorCategory.CANCELLED.value:
                span.set_status(Status(StatusCode.ERROR, error_type))
        finally:
            self.open.close()

    def _counts(self) -> dict[str, int]:
        told = {
            names.ATTEMPTS: self.attempts,
            names.INPUT_TOKENS: self.input_tokens,
            names.OUTPUT_TOKENS: self.output_tokens,
        }
        return {name: value for name, value in told.items() if value is not None}


def _sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else other + (one or 0)
