"""Metric families as the text formats of Prometheus. The only module that imports `prometheus_client`.

The exporter imports this module when an `Exposition` is created: the package stays importable without the extra.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.core import Metric as ClientMetric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry

from resilience.prometheus.families import Family
from resilience.terminal import escape_controls

_NOT_IN_A_LABEL: Final = re.compile(r"[^a-zA-Z0-9_]")
_COUNTER_SUFFIX: Final = "_total"


class FamilyCollector:
    """A collector in the sense of `prometheus_client`: it yields families that were read beforehand."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[ClientMetric]:
        """Convert each family that has samples."""
        return (_metric(family) for family in self._families if family.samples)


def encode(families: Sequence[Family], accept: str = "") -> tuple[bytes, str]:
    """Encode *families* in the format that a scraper accepts.

    Args:
        families: what to write, in this order; families without samples are left out.
        accept: value of the HTTP header `Accept`. OpenMetrics where it asks for that, else the classic text format 0.0.4.

    Returns:
        The text and its content type.
    """
    # A registry of our own: the library's global one holds the metrics of this process, not of the fleet.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FamilyCollector(families))
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


def _metric(family: Family) -> ClientMetric:
    metric = family.metric
    name = metric.prometheus
    # The library appends `_total` to the family name of a counter itself; sample names are written as given.
    converted = ClientMetric(name.removesuffix(_COUNTER_SUFFIX), metric.help, metric.kind.value)
    for sample in family.samples:
        labels = {
            _NOT_IN_A_LABEL.sub("_", label): _encodable(value) for label, value in sample.labels.items()
        }
        converted.add_sample(f"{name}_{sample.part}" if sample.part else name, labels, sample.value)
    return converted


def _encodable(value: str) -> str:
    """Return a label value that UTF-8 can hold, without control characters.

    One odd name of a client must not cost all metrics, nor move the cursor of a terminal that shows them.
    """
    return escape_controls(value)
