"""The fleet's metrics for Prometheus, read from the history and the circuit store at each scrape."""

from resilience.prometheus.exporter import Exposition, Reading

__all__ = ["Exposition", "Reading"]
