"""Spans and metrics of calls through OpenTelemetry's API, and the names that Prometheus shares with them.

Nothing here can fail a call or change its answer. Without a provider of spans or metrics nothing here happens: an
application that sets a provider has imported the OpenTelemetry API, and this package never imports it first.
"""

from resilience.telemetry.providers import (
    declare,
    record_flush,
    record_transition,
    trace,
    unwatch,
    use,
    watch,
)
from resilience.telemetry.trace import NO_TRACE, CallTrace

__all__ = [
    "NO_TRACE",
    "CallTrace",
    "declare",
    "record_flush",
    "record_transition",
    "trace",
    "unwatch",
    "use",
    "watch",
]
