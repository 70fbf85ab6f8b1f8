"""The metrics of the whole fleet for Prometheus, as text or as an ASGI application."""

from resilience.prometheus.exporter import Exposition, Reading

__all__ = ["Exposition", "Reading"]
