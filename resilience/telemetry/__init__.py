"""Spans and metrics through OpenTelemetry's API, for those who have it; and the text of Prometheus, for those who do not.

Nothing here can fail a call or change its answer, and without a provider of spans or metrics nothing here happens: the
OpenTelemetry API is imported by whoever sets a provider, never by us first.
"""

from resilience.telemetry.providers import flushed, trace, transition, unwatch, use, watch
from resilience.telemetry.trace import CallTrace

__all__ = ["CallTrace", "flushed", "trace", "transition", "unwatch", "use", "watch"]
