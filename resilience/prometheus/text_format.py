"""The text format of Prometheus, version 0.0.4. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from resilience.telemetry.names import Kind, Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})
_HELP_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n"})
_NOT_IN_A_LABEL: Final = re.compile(r"[^a-zA-Z0-9_]")


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: a value and its labels.

    Attributes:
        labels: by name, as OpenTelemetry spells it.
        value: a count or a measurement.
        part: `sum` or `count` of a histogram.
    """

    labels: Mapping[str, str]
    value: float
    part: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric and its samples."""

    metric: Metric
    samples: tuple[Sample, ...]


def text(families: Iterable[Family]) -> str:
    """Write *families* one after another; those without samples are left out."""
    return "".join(line + "\n" for family in families if family.samples for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    metric = family.metric
    name = metric.prometheus
    # sums and counts without buckets are what Prometheus calls a summary
    kind = "summary" if metric.kind is Kind.HISTOGRAM else metric.kind.value
    yield f"# HELP {name} {metric.help.translate(_HELP_ESCAPES)}"
    yield f"# TYPE {name} {kind}"
    for sample in family.samples:
        suffix = f"_{sample.part}" if sample.part else ""
        yield f"{name}{suffix}{_labels(sample.labels)} {_number(sample.value)}"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    told = ",".join(
        f'{_NOT_IN_A_LABEL.sub("_", name)}="{value.translate(_ESCAPES)}"' for name, value in labels.items()
    )
    return f"{{{told}}}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
