"""What telemetry costs a clean call: `python -m benchmarks.telemetry [--json] [--calls N]`.

All that a call tells on its way is told around nothing, so that telemetry is all there is to be timed: where nobody has imported
OpenTelemetry, where nobody has set a provider, and with the SDK's own (no exporter). A BAML call on loopback takes some 900 us.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import timeit
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from resilience import telemetry
from resilience.baml import Usage
from resilience.history import CallOutcome, CallRecord, new_id

CALL = CallRecord(
    call_id=new_id(),
    request_id=new_id(),
    started_at=datetime.now(UTC),
    duration=0.1,
    function="Function",
    client="Primary",
    client_final="Primary",
    outcome=CallOutcome.OK,
    attempts=1,
    retries=0,
    fallbacks=0,
    input_tokens=100,
    output_tokens=77,
)
USAGE = Usage(provider="openai", input_tokens=100, output_tokens=77)
REPEATS = 5


def told() -> None:
    """What a call with one attempt tells."""
    trace = telemetry.trace("Function", "Primary")
    trace.begin(CALL.request_id)
    trace.asking("Primary")
    if not trace.wants_content:
        trace.answered("Primary", attempt=1, seconds=0.1, usage=USAGE)
    trace.end(CALL)


def measure(calls: int) -> dict[str, float]:
    """Microseconds of processor time a call, the best of five runs each; the order matters, for nothing is un-imported."""

    def timed() -> float:
        return round(
            min(timeit.repeat(told, timer=time.process_time, number=calls, repeat=REPEATS)) / calls * 1e6, 2
        )

    found = {}
    if "opentelemetry" not in sys.modules:
        found["OpenTelemetry not imported"] = timed()
    importlib.import_module("opentelemetry.metrics")
    importlib.import_module("opentelemetry.trace")
    found["no provider set"] = timed()
    sdk: Callable[[str], Any] = importlib.import_module
    spans = sdk("opentelemetry.sdk.trace").TracerProvider(shutdown_on_exit=False)
    reader = sdk("opentelemetry.sdk.metrics.export").InMemoryMetricReader()
    metrics = sdk("opentelemetry.sdk.metrics").MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    telemetry.use(meter_provider=metrics)
    found["metrics"] = timed()
    telemetry.use(tracer_provider=spans, meter_provider=metrics)
    found["metrics and spans"] = timed()
    return found


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--calls", type=int, default=5000)
    options = parser.parse_args()
    found = measure(options.calls)
    if options.json:
        print(json.dumps(found))
        return
    for name, cost in found.items():
        print(f"{name:28} {cost:8.2f} us a call")


if __name__ == "__main__":
    main()
