"""Histograms of durations from the counts of the history. Pure.

The history counts durations in buckets that grow by 19 %. Every second one is a bucket of Prometheus here, from 8 ms to 4 minutes:
32 series for each client and kind, and percentiles that are wrong by at most 41 %, mostly by far less, since Prometheus interpolates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

from resilience.prometheus.families import Sample

_FIRST: Final = -28  # 2^(-28/4) s = 7.8 ms
_LAST: Final = 32  # 2^(32/4) s = 256 s
_STEP: Final = 2
# Text, and not computed from a float at each scrape: a bound that changes in its last digit is another series.
# OpenMetrics writes whole numbers with a point.
BOUNDS: Final = tuple(
    (bucket, str(float(f"{2 ** (bucket / 4):.6g}"))) for bucket in range(_FIRST, _LAST + 1, _STEP)
)
"""Buckets of the history, each with the bound that Prometheus shows."""


def histogram(labels: Mapping[str, str], counts: Mapping[int, tuple[int, float]]) -> Iterator[Sample]:
    """Yield the samples of one histogram.

    Args:
        labels: its labels without `le`.
        counts: number of durations and their sum in seconds, by bucket of the history.
    """
    for bucket, bound in BOUNDS:
        below = sum(count for each, (count, _) in counts.items() if each <= bucket)
        yield Sample({**labels, "le": bound}, below, "bucket")
    number = sum(count for count, _ in counts.values())
    yield Sample({**labels, "le": "+Inf"}, number, "bucket")
    yield Sample(labels, number, "count")
    yield Sample(labels, math.fsum(seconds for _, seconds in counts.values()), "sum")
