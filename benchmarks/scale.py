"""Whether size changes anything: `python -m benchmarks.scale [PART ...] [--rows N] [--json]`.

- `history`: fills an SQLite history with N calls and a fifth as many errors, and measures what the writer writes a second, what one
  small batch costs it, what `resilience status` reads, and every view and query; the writer and `status` on an empty file as well.
- `storm`: one process records 1,000 errors a second for ten seconds, with logs. The counters must have each of them.
- `exit`: 16 processes with circuits in Redis close at the same moment.

Rows are made inside SQLite, and indexes after them: ten million take a few minutes and 10 GB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from benchmarks import queries
from benchmarks.servers import shared_redis
from resilience import BAMLErrorHandler, Settings
from resilience.failure import ErrorCategory
from resilience.history import CallOutcome, CallRecord, ErrorRecord, Recorder, SyncHistory, new_id
from resilience.history.schema import migrations, urls
from resilience.history.schema.engine import open_engine
from resilience.logs import JsonLines
from resilience.ops.reading import read

Figures = dict[str, float]
_BATCHES: Final = 40
_ROWS: Final = 4000
_RATE: Final = 1000
_SECONDS: Final = 10
_PROCESSES: Final = 16
_SMALL: Final = [table for table in queries.MADE if table[0].name not in {"calls", "errors"}]
_MOST_SMALL: Final = 1_000_000
"""The tables of counters and events grow with time and with trouble, not with calls: they are filled as for this many errors."""

# Rows as `queries.calls` and `queries.errors` make them, evenly over a month, in the form in which the driver stores them.
_NUMBERS: Final = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :rows)"
_ID: Final = "printf('%012x7%03x8%015x', :start + i * :step, i % 4096, i)"
_AT: Final = "strftime('%Y-%m-%d %H:%M:%f000', (:start + i * :step) / 1000.0, 'unixepoch')"
_CALLS: Final = f"""
{_NUMBERS} INSERT INTO calls (call_id, request_id, started_at, duration, function, client, client_final, outcome, attempts, retries,
fallbacks, instance_id, input_tokens, output_tokens) SELECT {_ID}, 'request-' || i, {_AT}, 0.1 + i % 97 / 50.0, 'Function' || (i % 8),
'Client' || (i % 6), 'Client' || (i % 6), CASE i % 25 WHEN 1 THEN 'failed' WHEN 2 THEN 'recovered_retry' WHEN 3 THEN
'recovered_fallback' ELSE 'ok' END, 1, 0, 0, '{"1" * 32}', 100, 200 FROM n
"""  # noqa: S608 - all of it is of this file
_ERRORS: Final = f"""
{_NUMBERS} INSERT INTO errors (event_id, occurred_at, request_id, call_id, function, client, attempt, category, recoverable, status,
exception_type, message, fingerprint, duration, action, late, instance_id) SELECT {_ID}, {_AT}, 'request-' || (i * 5),
printf('%032x', i), 'Function' || (i % 8), 'Client' || (i % 6), 1, CASE i % 3 WHEN 0 THEN 'timeout' ELSE 'rate_limit' END, 1, 429,
'BamlClientHttpError', 'Rate limit reached for the model on tokens per minute: limit 30000, used 14567.', printf('%032x', i % 1200),
0.5, 'retry', 0, '{"1" * 32}' FROM n
"""  # noqa: S608 - all of it is of this file


# --- a large history -----------------------------------------------------------------------------------------------------------------


def fill(path: Path, calls: int) -> None:
    """Create a history with *calls* calls and what goes with them."""
    url = f"sqlite:///{path}"
    migrations.upgrade(url)
    engine = open_engine(urls.parse(url), wait=60)
    for table, make, share in _SMALL:
        made = make(int(min(calls / 5, _MOST_SMALL) * share))
        while batch := list(islice(made, 20_000)):
            with engine.begin() as connection:
                connection.execute(sa.insert(table), batch)
    engine.dispose()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-500000")
        find = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name IN ('calls', 'errors') AND sql IS NOT NULL"
        indexes = connection.execute(find).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        start = round((time.time() - queries.MONTH.total_seconds()) * 1000)
        for statement, rows in ((_CALLS, calls), (_ERRORS, calls // 5)):
            step = queries.MONTH.total_seconds() * 1000 / rows
            connection.execute(statement, {"rows": rows, "start": start, "step": step})
        for _, statement in indexes:
            connection.execute(statement)
        connection.execute("ANALYZE")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def call() -> CallRecord:
    """Return the record of a clean call."""
    call_id = new_id()
    return CallRecord(
        call_id=call_id,
        request_id=call_id,
        started_at=datetime.now(UTC),
        duration=0.5,
        function="Function1",
        client="Client1",
        client_final="Client1",
        outcome=CallOutcome.OK,
        attempts=1,
        retries=0,
        fallbacks=0,
    )


def error() -> ErrorRecord:
    """Return the record of a failed attempt."""
    return ErrorRecord(
        event_id=new_id(),
        occurred_at=datetime.now(UTC),
        request_id=new_id(),
        function="Function1",
        client="Client1",
        attempt=1,
        category=ErrorCategory.RATE_LIMIT,
        recoverable=True,
        message=queries.MESSAGE,
        fingerprint=queries.GROUPS[0],
    )


def of_the_writer(url: str) -> tuple[float, float]:
    """Return the rows a second of one writer, and the milliseconds until three rows are in the file."""
    recorder, took = Recorder(url), []
    recorder.record(call())
    recorder.flush(60)
    for _ in range(_BATCHES):
        for _ in range(3):
            recorder.record(call())
        began = time.perf_counter()
        recorder.flush(60)
        took.append((time.perf_counter() - began) * 1000)
    records = [call() for _ in range(_ROWS)]
    began = time.perf_counter()
    for record in records:
        recorder.record(record)
    recorder.flush(60)
    rate = len(records) / (time.perf_counter() - began)
    recorder.close(60)
    return rate, statistics.median(took)


def of_status(url: str, folder: Path) -> float:
    """Return the milliseconds in which `resilience status` reads its screen."""
    settings = Settings(store_url=f"sqlite:///{folder}/circuits.db", database_url=url).complete()

    def status() -> object:
        return read(settings, since=None)

    return queries.milliseconds(status)


def history(rows: int) -> Figures:
    """Measure an empty and a large history, in turn."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        histories = {"empty": f"sqlite:///{folder}/empty.db", f"{rows} calls": f"sqlite:///{folder}/large.db"}
        began = time.perf_counter()
        migrations.upgrade(histories["empty"])
        fill(folder / "large.db", rows)
        print(f"{rows} calls: {time.perf_counter() - began:.0f} s to fill", file=sys.stderr)
        figures[f"{rows} calls: GB"] = (folder / "large.db").stat().st_size / 1e9
        writers: dict[str, list[tuple[float, float]]] = {what: [] for what in histories}
        for _ in range(queries.ROUNDS):
            for what, url in histories.items():
                writers[what].append(of_the_writer(url))
        for what, url in histories.items():
            figures[f"{what}: rows a second"] = statistics.median(rate for rate, _ in writers[what])
            figures[f"{what}: a batch of 3, ms"] = statistics.median(batch for _, batch in writers[what])
            figures[f"{what}: what status reads, ms"] = of_status(url, folder)
        asked = queries.queries(SyncHistory(url))
        figures |= {f"{what}: {query}, ms": _timed(query, ask) for query, ask in asked.items()}
    return figures


def _timed(query: str, ask: Callable[[], object]) -> float:
    if not query.startswith("scan"):
        return queries.milliseconds(ask)
    began = time.perf_counter()  # once: it has no limit
    ask()
    return (time.perf_counter() - began) * 1000


# --- a storm of errors ---------------------------------------------------------------------------------------------------------------


def storm() -> Figures:
    """Record errors at a steady rate, and compare the counters with their number."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/history.db"
        recorder = Recorder(url, sinks=[JsonLines(Path(folder) / "logs")])
        recorder.record(error())
        recorder.flush(60)
        began = time.perf_counter()
        for number in range(_RATE * _SECONDS):
            if (early := began + number / _RATE - time.perf_counter()) > 0:
                time.sleep(early)
            recorder.record(error())
        took = time.perf_counter() - began
        recorder.close(60)
        with closing(sqlite3.connect(f"{folder}/history.db")) as connection:
            ((counted,),) = connection.execute("SELECT sum(errors) FROM rollups").fetchall()
            ((rows,),) = connection.execute("SELECT count(*) FROM errors").fetchall()
        return {
            "storm: errors a second": _RATE * _SECONDS / took,
            "storm: counted of all": counted / (_RATE * _SECONDS + 1),
            "storm: rows": rows,
            "storm: sampled": recorder.sampled,
            "storm: dropped": recorder.dropped,
        }


# --- processes that close ------------------------------------------------------------------------------------------------------------


def close_one(url: str, folder: str, ready: Any, took: Any) -> None:
    """Make calls for a while, then close the handler together with the others. Put the seconds and the CPU of the close into *took*."""

    async def work() -> str:
        return "ok"

    async def run() -> None:
        settings = Settings(redis_url=url, database_url=f"sqlite:///{folder}/history.db", namespace="scale")
        async with BAMLErrorHandler(settings=replace(settings, log_dir=f"{folder}/logs")) as handler:
            for _ in range(40):
                await handler.call_with_retry(work, "Client1", "Function1")
                await asyncio.sleep(0.05)
            await asyncio.to_thread(ready.wait, 120)
            began, used = time.perf_counter(), time.process_time()
        took.put((time.perf_counter() - began, time.process_time() - used))

    asyncio.run(run())


def exits() -> Figures:
    """Close many processes at once. Their exit is measured too: it waits for their threads."""
    spawn = multiprocessing.get_context("spawn")
    with shared_redis() as url, tempfile.TemporaryDirectory() as folder:
        ready, took = spawn.Barrier(_PROCESSES + 1), spawn.Queue()
        workers = [
            spawn.Process(target=close_one, args=(url, folder, ready, took)) for _ in range(_PROCESSES)
        ]
        for worker in workers:
            worker.start()
        ready.wait(300)
        began = time.perf_counter()
        closes = [took.get(timeout=120) for _ in workers]
        for worker in workers:
            worker.join()
        gone = time.perf_counter() - began
        return {
            f"{_PROCESSES} processes: slowest close, s": max(seconds for seconds, _ in closes),
            f"{_PROCESSES} processes: CPU of all closes, s": sum(cpu for _, cpu in closes),
            f"{_PROCESSES} processes: all gone after, s": gone,
            f"{_PROCESSES} processes: exit codes other than 0": sum(
                bool(worker.exitcode) for worker in workers
            ),
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=["history", "storm", "exit"], metavar="PART")
    parser.add_argument("--rows", type=int, default=1_000_000, help="number of calls")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    parts = {"history": lambda: history(arguments.rows), "storm": storm, "exit": exits}
    figures: Figures = {}
    for part in arguments.parts:
        figures |= parts[part]()
    if arguments.json:
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
        return
    for name, value in figures.items():
        print(f"{name:<64}{value:>12,.2f}")


if __name__ == "__main__":
    main()
