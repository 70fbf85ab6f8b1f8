"""CPU time of telemetry per clean call: `python -m benchmarks.telemetry [--json] [--calls N]`.

The callbacks of a call run without the call itself, so that only telemetry is measured: where OpenTelemetry is not imported,
where no provider is set, and with the providers of the SDK (no exporter). A BAML call on loopback takes about 900 us.
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


def run_callbacks() -> None:
    """Run the callbacks of a call with one attempt."""
    trace = telemetry.trace("Function", "Primary")
    trace.on_start(CALL.request_id)
    trace.on_attempt("Primary")
    if not trace.wants_content:
        trace.on_answer("Primary", attempt=1, seconds=0.1, usage=USAGE)
    trace.on_end(CALL)


def measure(calls: int) -> dict[str, float]:
    """Return microseconds of CPU time per call, the best of five runs each.

    The order of the cases matters: an import cannot be undone.
    """

    def timed() -> float:
        return round(
            min(timeit.repeat(run_callbacks, timer=time.process_time, number=calls, repeat=REPEATS))
            / calls
            * 1e6,
            2,
        )

    costs = {}
    if "opentelemetry" not in sys.modules:
        costs["OpenTelemetry not imported"] = timed()
    importlib.import_module("opentelemetry.metrics")
    importlib.import_module("opentelemetry.trace")
    costs["no provider set"] = timed()
    sdk: Callable[[str], Any] = importlib.import_module
    spans = sdk("opentelemetry.sdk.trace").TracerProvider(shutdown_on_exit=False)
    reader = sdk("opentelemetry.sdk.metrics.export").InMemoryMetricReader()
    metrics = sdk("opentelemetry.sdk.metrics").MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    telemetry.use(meter_provider=metrics)
    costs["metrics"] = timed()
    telemetry.use(tracer_provider=spans, meter_provider=metrics)
    costs["metrics and spans"] = timed()
    return costs


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--calls", type=int, default=5000)
    options = parser.parse_args()
    costs = measure(options.calls)
    if options.json:
        print(json.dumps(costs))
        return
    for name, cost in costs.items():
        print(f"{name:28} {cost:8.2f} us per call")


if __name__ == "__main__":
    main()
