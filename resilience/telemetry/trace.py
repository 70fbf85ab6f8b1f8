"""The callbacks of a call for telemetry. The base class here ignores them all."""

from __future__ import annotations

from resilience.baml import Usage
from resilience.records.records import CallRecord, ErrorRecord, FallbackRecord


class CallTrace:
    """Callbacks for one call, in this order: `on_start`; then `on_attempt`, `on_answer`, `on_failure`, `on_fallback`; `on_end`.

    Attributes:
        trace_id: the trace the call is part of, 32 hex digits; None without one.
        span_id: the span of the call, 16 hex digits; the caller's own span where no provider makes one.
        attempt_span_id: the span of the client that is being asked; the call's own span between two clients.
    """

    __slots__ = ("attempt_span_id", "span_id", "trace_id")

    def __init__(self, trace_id: str | None = None, span_id: str | None = None) -> None:
        self.trace_id = trace_id
        self.span_id = self.attempt_span_id = span_id

    def on_start(self, request_id: str) -> None:
        """Handle the start of the call, in the task that makes it."""

    def on_attempt(self, client: str) -> None:
        """Handle the start of an attempt on *client*: its circuit has admitted it."""

    def on_answer(
        self, client: str, *, attempt: int, seconds: float, usage: Usage, first_token: float | None = None
    ) -> None:
        """Handle an attempt that was answered.

        Args:
            client: the client that answered.
            attempt: number of the attempt on this client, from 1.
            seconds: how long the attempt took.
            usage: model, provider and tokens of the attempt.
            first_token: of a stream, seconds to the first content of the attempt; None for calls without a stream.
        """

    @property
    def enabled(self) -> bool:
        """Whether `on_end` does anything, so that the caller builds its record."""
        return False

    @property
    def wants_content(self) -> bool:
        """Whether prompts and answers are to be put on spans."""
        return False

    def set_content(self, prompt: str | None, answer: str | None) -> None:
        """Handle prompt and answer of the attempt that is ending, redacted. Called only where `wants_content`."""

    def on_failure(self, record: ErrorRecord) -> None:
        """Handle an attempt that failed or that a circuit refused."""

    def on_fallback(self, record: FallbackRecord) -> None:
        """Handle a fallback that has ended: whether the next client answered is known."""

    def on_end(self, record: CallRecord) -> None:
        """Handle the end of the call."""


NO_TRACE = CallTrace()
"""For calls without any provider; shared, because it keeps nothing."""
