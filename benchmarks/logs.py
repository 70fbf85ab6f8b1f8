"""Measure the cost of the logs, and the lines that rotation loses: `python -m benchmarks.logs [--json]`.

Three measurements: the caller's time for a call's records with and without logs; the writer thread's CPU for each line; eight
processes that append to one file and rotate it, beside the standard library's `RotatingFileHandler` in the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import logging
import logging.handlers
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.history import call, error
from resilience.history import Recorder, StartRecord, new_id
from resilience.logs import JsonLines, LogPolicy
from resilience.records.log_events import lines

ROUNDS = 5
BATCH = 100
"""Records in a batch of the writer thread, as under load."""
WRITERS = 8
LINES = 5_000
"""Lines of each writer."""
TEXT = "x" * 250
ROTATION = LogPolicy(max_bytes=1_000_000, backups=10_000, total_bytes=10_000_000_000)


def start(at: datetime, call_id: str) -> StartRecord:
    """Return the record of a call's start, which only the logs get."""
    return StartRecord(
        call_id=call_id,
        request_id=call_id,
        started_at=at,
        function="GenerateHypothesis",
        client="Primary",
    )


def median(work: Callable[[], float]) -> float:
    """Return the median of the rounds, after a round of warm-up."""
    work()
    return statistics.median(work() for _ in range(ROUNDS))


# --- the caller's time for a call -------------------------------------------------------------------------------


def caller(folder: Path, *, logs: bool, starts: bool) -> float:
    """Return the caller's microseconds for the records of a call, while the writer thread sleeps."""
    recorder = Recorder(
        None, sinks=[JsonLines(folder / "caller")] if logs else (), flush_interval=60.0, batch=10_000
    )
    recorder.record(call())
    ended, now, call_id = call(), datetime.now(UTC), new_id()

    def round_() -> float:
        begun = time.perf_counter()
        for _ in range(2000):
            if starts:
                recorder.log(start(now, call_id))
            recorder.record(ended)
        spent = (time.perf_counter() - begun) / 2000 * 1e6
        recorder.flush(20)
        return spent

    try:
        return median(round_)
    finally:
        recorder.close()


# --- the writer thread's CPU for a line ------------------------------------------------------------------------


def writer(folder: Path) -> dict[str, float]:
    """Return microseconds of CPU for each line: to make it from a record, and to write it in a batch."""
    now, call_id = datetime.now(UTC), new_id()
    records = [
        start(now, call_id) if at % 3 == 0 else error() if at % 30 == 1 else call() for at in range(BATCH)
    ]
    made = [line for record in records for line in lines(record, "i" * 32, 7)]
    logs = JsonLines(folder / "writer")

    def making() -> float:
        begun = time.thread_time()
        for _ in range(50):
            for record in records:
                list(lines(record, "i" * 32, 7))
        return (time.thread_time() - begun) / (50 * len(made)) * 1e6

    def writing() -> float:
        begun = time.thread_time()
        for _ in range(50):
            logs.write(made)
        return (time.thread_time() - begun) / (50 * len(made)) * 1e6

    return {"make": median(making), "write": median(writing)}


# --- lines lost by rotation ----------------------------------------------------------------------------------------


def ours(folder: Path, number: int) -> None:
    """Write this process's lines through JsonLines, five at a time."""
    logs = JsonLines(folder, ROTATION)
    for first in range(0, LINES, 5):
        logs.write([("errors", {"writer": number, "n": n, "text": TEXT}) for n in range(first, first + 5)])


def theirs(folder: Path, number: int) -> None:
    """Write this process's lines through the standard library."""
    handler = logging.handlers.RotatingFileHandler(
        folder / "errors.jsonl", maxBytes=ROTATION.max_bytes, backupCount=10_000
    )
    with contextlib.redirect_stderr(io.StringIO()):  # the handler prints tracebacks about missing files
        for n in range(LINES):
            message = json.dumps({"writer": number, "n": n, "text": TEXT})
            handler.emit(logging.makeLogRecord({"msg": message}))
    handler.close()


def rotation(write: Callable[[Path, int], None], folder: Path) -> dict[str, Any]:
    """Run eight processes at once, and count their lines that are missing, torn or doubled."""
    folder.mkdir()
    processes = [
        multiprocessing.get_context("fork").Process(target=write, args=(folder, number))
        for number in range(WRITERS)
    ]
    begun = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    took = time.perf_counter() - begun
    torn, seen = 0, []
    for text in all_lines(folder):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            torn += 1
        else:
            seen.append((line["writer"], line["n"]))
    total = WRITERS * LINES
    return {
        "lost": total - len(set(seen)),
        "lost_percent": round(100 * (total - len(set(seen))) / total, 1),
        "torn": torn,
        "twice": len(seen) - len(set(seen)),
        "files": len(list(folder.glob("errors.jsonl*"))),
        "klines_s": round(total / took / 1000, 1),
    }


def all_lines(folder: Path) -> Iterator[bytes]:
    """Return every line of every file."""
    for path in folder.glob("errors.jsonl*"):
        text = path.read_bytes()
        yield from (gzip.decompress(text) if path.suffix == ".gz" else text).splitlines()


def measure(folder: Path) -> dict[str, Any]:
    """Run all measurements."""
    return {
        "caller_us_per_call": {
            "no logs": round(caller(folder, logs=False, starts=False), 2),
            "logs": round(caller(folder, logs=True, starts=False), 2),
            "logs and call.start": round(caller(folder, logs=True, starts=True), 2),
        },
        "writer_us_per_line": {name: round(cost, 2) for name, cost in writer(folder).items()},
        "rotation": {
            "JsonLines": rotation(ours, folder / "ours"),
            "RotatingFileHandler": rotation(theirs, folder / "theirs"),
        },
        "cpus": os.cpu_count(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder))
    if options.json:
        print(json.dumps(results))
        return
    for name, cost in results["caller_us_per_call"].items():
        print(f"caller, {name:28} {cost:8.2f} us a call")
    for name, cost in results["writer_us_per_line"].items():
        print(f"writer thread, {name:21} {cost:8.2f} us a line")
    print(f"\n{WRITERS} processes, {WRITERS * LINES} lines of 300 B, rotation at 1 MB, nothing to be deleted")
    print(f"{'':22} {'lost':>7} {'%':>6} {'torn':>6} {'twice':>6} {'files':>6} {'klines/s':>9}")
    for name, row in results["rotation"].items():
        print(
            f"{name:22} {row['lost']:7} {row['lost_percent']:6} {row['torn']:6} {row['twice']:6} "
            f"{row['files']:6} {row['klines_s']:9}"
        )


if __name__ == "__main__":
    main()
