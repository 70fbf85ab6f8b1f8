"""What the history costs: `python -m benchmarks.history [--json]`.

The caller's share of one `record` while the writer thread is at work, the rows one process writes, and the share of
redaction and fingerprints. Medians of several rounds in one run; no number here is a test.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from resilience.failure import ErrorCategory, Failure
from resilience.history import CallOutcome, CallRecord, ErrorRecord, Recent, Recorder, fingerprint, new_id
from resilience.logs import JsonLines
from resilience.redaction import redact

ROUNDS = 5
RATE = 2000
"""Records a second in the paced measurement: ten times what a busy agent process would fail at."""
MESSAGE = (
    "Rate limit reached for gpt-4o in organization org-AbC123 on tokens per min (TPM): Limit 30000, Used 14567, "
    "Requested 24754. Please try again in 18.642s. Visit https://platform.openai.com/account/rate-limits to learn more. "
    "Request id: req_011CSHoEeqs5C35K2UUqR7Fy"
)


def error() -> ErrorRecord:
    """A record of the usual size."""
    return ErrorRecord(
        event_id=new_id(),
        occurred_at=datetime.now(UTC),
        request_id=new_id(),
        call_id=new_id(),
        function="GenerateHypothesis",
        client="Primary",
        attempt=1,
        category=ErrorCategory.RATE_LIMIT,
        recoverable=True,
        status=429,
        provider_code="rate_limit_exceeded",
        message=MESSAGE,
        fingerprint="f" * 32,
        retry_after=18.642,
        backoff=18.642,
        duration=0.25,
    )


def call() -> CallRecord:
    """A clean call."""
    return CallRecord(
        call_id=new_id(),
        request_id=new_id(),
        started_at=datetime.now(UTC),
        duration=0.5,
        function="GenerateHypothesis",
        client="Primary",
        client_final="Primary",
        outcome=CallOutcome.OK,
        attempts=1,
        retries=0,
        fallbacks=0,
    )


def per_call(work: Callable[[], object], times: int) -> float:
    """Microseconds of one *work*, the median of the rounds."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(times):
            work()
        rounds.append((time.perf_counter() - start) / times * 1e6)
    return statistics.median(rounds)


def paced(recorder: Recorder, keep: Callable[[], ErrorRecord | CallRecord], seconds: float) -> list[float]:
    """Microseconds of each `record` at a steady rate, while the writer thread writes."""
    costs = []
    begin = time.perf_counter()
    for number in range(int(RATE * seconds)):
        record = keep()
        while time.perf_counter() < begin + number / RATE:
            time.sleep(0.0001)
        start = time.perf_counter()
        recorder.record(record)
        costs.append((time.perf_counter() - start) * 1e6)
    return costs


def throughput(folder: Path, rows: int = 8000) -> float:
    """Rows a second of one process, from the first `record` to the end of the flush; each round on the same database."""
    rounds = []
    for _ in range(ROUNDS):
        recorder = Recorder(f"sqlite:///{folder}/throughput.db")
        recorder.record(error())
        recorder.flush(60)
        records = [error() for _ in range(rows)]
        start = time.perf_counter()
        for record in records:
            recorder.record(record)
        if not recorder.flush(60) or recorder.dropped:
            msg = "rows were lost: the machine is too busy to measure on"
            raise RuntimeError(msg)
        rounds.append(rows / (time.perf_counter() - start))
        recorder.close()
    return statistics.median(rounds)


def measure(folder: Path) -> dict[str, float]:
    """All the numbers, by name."""
    recent, kept = Recent(), error()
    failure = Failure(
        category=ErrorCategory.RATE_LIMIT, recoverable=True, counts_against_client=False, message=MESSAGE
    )
    told = {
        "redact a provider message, us": per_call(lambda: redact(MESSAGE), 2000),
        "redact 50 kB, us": per_call(lambda: redact(MESSAGE * 180), 5),
        "fingerprint, us": per_call(lambda: fingerprint(failure, "GenerateHypothesis"), 2000),
        "new_id, us": per_call(new_id, 10_000),
        "Recent.add, us": per_call(lambda: recent.add(kept), 10_000),
    }
    recorder = Recorder(f"sqlite:///{folder}/paced.db", sinks=[JsonLines(folder / "logs")])
    start = time.perf_counter()
    recorder.record(error())
    told["record, first of a process (starts the thread), us"] = (time.perf_counter() - start) * 1e6
    recorder.flush(60)
    for name, keep in (("an error", error), ("a call", call)):
        costs = sorted(paced(recorder, keep, 2.0))
        told[f"record of {name} at {RATE}/s with SQL and logs, p50, us"] = costs[len(costs) // 2]
        told[f"record of {name} at {RATE}/s with SQL and logs, p99, us"] = costs[len(costs) * 99 // 100]
    recorder.close(60)
    told["rows/s, one process, SQLite"] = throughput(folder)
    return told


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = measure(Path(folder))
    if arguments.json:
        print(json.dumps({name: round(value, 3) for name, value in told.items()}))
        return
    for name, value in told.items():
        print(f"{name:<70}{value:>12,.2f}")


if __name__ == "__main__":
    main()
