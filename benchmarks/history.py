"""What the history costs: `python -m benchmarks.history [--json] [--rounds N]`.

Measures what one `record` costs its caller while the writer thread works, how many rows one process and eight processes write to
SQLite and to PostgreSQL, what a SIGKILL loses, and the share of redaction and fingerprints. All figures are medians of several
rounds in one run, and none of them is a test. `benchmarks.queries` measures reading.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from resilience.failure import ErrorCategory, Failure
from resilience.history import CallOutcome, CallRecord, ErrorRecord, Recent, Recorder, fingerprint, new_id
from resilience.history.schema import migrations, tables, urls
from resilience.history.schema.engine import open_engine
from resilience.logs import JsonLines
from resilience.redaction import redact

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.postgres import Postgres

FORK: Any = multiprocessing.get_context("fork")  # typeshed knows no Process of a context
ROUNDS = 5
RATE = 2000
"""Records a second in the paced measurement: ten times the failures of a busy agent process in an outage."""
MESSAGE = (
    "Rate limit reached for gpt-4o in organization org-AbC123 on tokens per min (TPM): Limit 30000, Used 14567, "
    "Requested 24754. Please try again in 18.642s. Visit https://platform.openai.com/account/rate-limits to learn more. "
    "Request id: req_011CSHoEeqs5C35K2UUqR7Fy"
)


def error() -> ErrorRecord:
    """Return an error record of the usual size."""
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
    """Return the record of a call without failures."""
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
    """Return the microseconds of one call of *work*, as the median of the rounds."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(times):
            work()
        rounds.append((time.perf_counter() - start) / times * 1e6)
    return statistics.median(rounds)


def paced(recorder: Recorder, keep: Callable[[], ErrorRecord | CallRecord], seconds: float) -> list[float]:
    """Return the microseconds of each `record` at a steady rate, while the writer thread writes."""
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


def rows_each_second(url: str, processes: int, rounds: int, rows: int = 8000) -> float:
    """Return the rows a second of several processes on one database, from the first `record` to the end of the last flush."""
    migrations.upgrade(url)
    rates = []
    for _ in range(rounds):
        start = FORK.Barrier(processes + 1)
        share = rows // processes
        workers = [FORK.Process(target=write_rows, args=(url, share, start)) for _ in range(processes)]
        for worker in workers:
            worker.start()
        start.wait(60)
        began = time.perf_counter()
        for worker in workers:
            worker.join()
        if any(worker.exitcode for worker in workers):
            msg = "rows were lost: the machine is too busy to measure on"
            raise RuntimeError(msg)
        rates.append(share * processes / (time.perf_counter() - began))
    return statistics.median(rates)


def write_rows(url: str, rows: int, start: Any) -> None:
    """Connect, wait for the other processes, write."""
    recorder = Recorder(url)
    recorder.record(error())
    recorder.flush(60)
    records = [error() for _ in range(rows)]
    start.wait(60)
    for record in records:
        recorder.record(record)
    if not recorder.flush(60) or recorder.dropped or recorder.sampled:
        os._exit(1)
    os._exit(0)


def lost_by_sigkill(url: str, rounds: int, rate: int = 300) -> float:
    """Return how many milliseconds of records are lost when a process is killed at a random moment, at *rate* records a second."""
    migrations.upgrade(url)
    engine = open_engine(urls.parse(url), wait=5.0)
    lost = []
    for _ in range(rounds):
        acknowledged = FORK.Value("i", 0)
        victim = FORK.Process(target=record_for_ever, args=(url, rate, acknowledged))
        with engine.connect() as connection:
            before = int(connection.scalar(sa.select(sa.func.count()).select_from(tables.errors)) or 0)
        victim.start()
        time.sleep(1.0 + random.random() / 2)  # noqa: S311 - any moment
        victim.kill()
        victim.join()
        with engine.connect() as connection:
            after = int(connection.scalar(sa.select(sa.func.count()).select_from(tables.errors)) or 0)
        lost.append((acknowledged.value - (after - before)) / rate * 1000)
    engine.dispose()
    return float(max(lost))


def record_for_ever(url: str, rate: int, acknowledged: Any) -> None:
    """Record at a steady rate, and publish the number of records after each."""
    recorder = Recorder(url)
    while True:
        recorder.record(error())
        acknowledged.value += 1
        time.sleep(1 / rate)


def of_the_writer(name: str, url: str, logs: Path, rounds: int) -> dict[str, float]:
    """Return the figures of one database."""
    migrations.upgrade(url)
    figures: dict[str, float] = {}
    recorder = Recorder(url, sinks=[JsonLines(logs)])
    start = time.perf_counter()
    recorder.record(error())
    figures[f"{name}: record, first of a process (starts the thread), us"] = (
        time.perf_counter() - start
    ) * 1e6
    recorder.flush(60)
    for what, keep in (("an error", error), ("a call", call)):
        costs = sorted(paced(recorder, keep, 2.0))
        figures[f"{name}: record of {what} at {RATE}/s, with logs, p50, us"] = costs[len(costs) // 2]
        figures[f"{name}: record of {what} at {RATE}/s, with logs, p99, us"] = costs[len(costs) * 99 // 100]
    recorder.close(60)
    for processes in (1, 8):
        figures[f"{name}: rows/s, {processes} processes"] = rows_each_second(url, processes, rounds)
    figures[f"{name}: lost by SIGKILL at 300/s, worst of {2 * rounds}, ms"] = lost_by_sigkill(url, 2 * rounds)
    return figures


def full_queue() -> dict[str, float]:
    """Return the cost of `record` while the database is away and the queue is full."""
    recorder = Recorder("sqlite:////dev/null/x.db", max_rows=500)
    for _ in range(2000):
        recorder.record(error())
    recorder.flush(10)
    costs = sorted(paced(recorder, error, 1.0))
    recorder.close(1)
    return {
        "record, database away and queue full, p50, us": costs[len(costs) // 2],
        "record, database away and queue full, p99, us": costs[len(costs) * 99 // 100],
    }


def measure(folder: Path, rounds: int) -> dict[str, float]:
    """Return all figures by name."""
    recent, kept = Recent(), error()
    failure = Failure(
        category=ErrorCategory.RATE_LIMIT, recoverable=True, counts_against_client=False, message=MESSAGE
    )
    figures = {
        "redact a provider message, us": per_call(lambda: redact(MESSAGE), 2000),
        "redact 50 kB, us": per_call(lambda: redact(MESSAGE * 180), 5),
        "fingerprint, us": per_call(lambda: fingerprint(failure, "GenerateHypothesis"), 2000),
        "new_id, us": per_call(new_id, 10_000),
        "Recent.add, us": per_call(lambda: recent.add(kept), 10_000),
    }
    figures |= of_the_writer("SQLite", f"sqlite:///{folder}/history.db", folder / "logs", rounds)
    with Postgres() as server:
        figures |= of_the_writer("PostgreSQL", server.create(), folder / "more-logs", rounds)
    return figures | full_queue()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each measurement of rows")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), arguments.rounds)
    if arguments.json:
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
        return
    for name, value in figures.items():
        print(f"{name:<70}{value:>12,.2f}")


if __name__ == "__main__":
    main()
