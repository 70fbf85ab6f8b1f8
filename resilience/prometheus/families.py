"""Metric families and their samples, before they are encoded. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from resilience.telemetry.names import Metric


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of the exposition: a value and its labels.

    Attributes:
        labels: label values by name, with the names OpenTelemetry uses (`error.type`).
        value: a count or a measurement.
        part: `bucket`, `sum` or `count` of a histogram; empty for counters and gauges.
    """

    labels: Mapping[str, str]
    value: float
    part: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric and its samples."""

    metric: Metric
    samples: tuple[Sample, ...]
