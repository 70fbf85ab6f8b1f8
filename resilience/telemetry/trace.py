"""What a call tells telemetry on its way; this one listens to nothing."""

from __future__ import annotations

from resilience.baml import Usage
from resilience.records.records import CallRecord, ErrorRecord, FallbackRecord


class CallTrace:
    """Told of one call as it happens, in this order: `begin`, then `asking`, `answered`, `failed`, `fell_over`, and `end`.

    Attributes:
        trace_id: the trace the call is part of, 32 hex digits; None without one.
        span_id: the span that stands for the call, 16 hex digits, or the caller's own where we make none.
        attempt_span_id: the span of the client that is being asked.
    """

    __slots__ = ("attempt_span_id", "span_id", "trace_id")

    def __init__(self, trace_id: str | None = None, span_id: str | None = None) -> None:
        self.trace_id = trace_id
        self.span_id = self.attempt_span_id = span_id

    def begin(self, request_id: str) -> None:
        """The call begins, in the task that makes it."""

    def asking(self, client: str) -> None:
        """An attempt on *client* begins: its circuit has admitted it."""

    def answered(self, client: str, *, attempt: int, seconds: float, usage: Usage) -> None:
        """The attempt brought the answer."""

    @property
    def enabled(self) -> bool:
        """Is somebody told when the call is over?"""
        return False

    @property
    def wants_content(self) -> bool:
        """Has somebody asked for prompts and answers on spans?"""
        return False

    def content(self, asked: str | None, answered: str | None) -> None:
        """What the attempt that is ending asked and was answered, redacted; only where it is wanted."""

    def failed(self, record: ErrorRecord) -> None:
        """An attempt failed, or a circuit refused."""

    def on_fallback(self, record: FallbackRecord) -> None:
        """Another client had its turn."""

    def end(self, record: CallRecord) -> None:
        """The call is over."""


NOTHING = CallTrace()
"""For calls nobody traces."""
