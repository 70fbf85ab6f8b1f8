"""The numbers of a run, from SQL and from the simulator's log."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from resilience.testing import LoggedRequest

# A probe that ran beside a call is no call of an agent. SQLite only: SUM over a condition counts the rows for which it is true. The demo always writes to a file.
_CALLS = """
SELECT COUNT(*), COALESCE(SUM(outcome IN ('ok', 'recovered_retry', 'recovered_fallback')), 0),
       COALESCE(SUM(retries), 0), COALESCE(SUM(fallbacks), 0)
FROM calls WHERE NOT probe
"""
_ANSWERED = "SELECT client_final, COUNT(*) FROM calls WHERE client_final IS NOT NULL AND NOT probe GROUP BY client_final"
_DURATIONS = "SELECT duration FROM calls WHERE NOT probe ORDER BY duration"
_REFUSED = "SELECT from_client, COUNT(*) FROM fallbacks WHERE reason = 'circuit_open' GROUP BY from_client"
_CATEGORIES = "SELECT client, category, COUNT(*) FROM errors GROUP BY client, category ORDER BY 3 DESC"
_LOCK_SECONDS = 30.0
"""Seconds to wait for a lock; readers of a WAL database hardly ever meet one."""


@dataclass(slots=True)
class Summary:
    """One run in numbers; `--json` prints exactly this.

    Attributes:
        calls: calls that the agents made.
        succeeded: calls that were answered.
        answered_by: answers by client.
        attempts_by_client: requests that reached each client, by the simulator's own log.
        dead_requests: requests that hit an outage.
        retries: attempts that asked the same client again.
        fallbacks: steps to another client.
        transitions: transitions of the shared circuits.
        p50_ms: median duration of a call, in milliseconds.
        p99_ms: 99th percentile of the durations, in milliseconds.
        database: the SQLite file with the history.
        logs: the folder of the JSON log streams.
    """

    calls: int = 0
    succeeded: int = 0
    answered_by: dict[str, int] = field(default_factory=dict)
    attempts_by_client: dict[str, int] = field(default_factory=dict)
    dead_requests: int = 0
    retries: int = 0
    fallbacks: int = 0
    transitions: list[dict[str, Any]] = field(default_factory=list)
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    database: str = ""
    logs: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return a dict that JSON can hold."""
        return asdict(self)


@dataclass(slots=True)
class Snapshot:
    """The sums of the history at one moment."""

    calls: int = 0
    succeeded: int = 0
    retries: int = 0
    fallbacks: int = 0
    answered_by: Mapping[str, int] = field(default_factory=dict)
    refused_by: Mapping[str, int] = field(default_factory=dict)
    durations: Sequence[float] = ()
    categories: Sequence[tuple[str, str, int]] = ()


@contextmanager
def open_read_only(database: Path) -> Iterator[sqlite3.Connection]:
    """Open the history for reading alone."""
    # mode=ro: connecting must not create an empty file before the agents create the real one.
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=_LOCK_SECONDS)) as connection:
        yield connection


def read_snapshot(database: Path) -> Snapshot:
    """Read the history; return an empty snapshot while the agents have not created it."""
    try:
        with open_read_only(database) as connection:
            calls, succeeded, retries, fallbacks = connection.execute(_CALLS).fetchone()
            return Snapshot(
                calls=calls,
                succeeded=succeeded,
                retries=retries,
                fallbacks=fallbacks,
                answered_by=dict(connection.execute(_ANSWERED).fetchall()),
                refused_by=dict(connection.execute(_REFUSED).fetchall()),
                durations=[row[0] for row in connection.execute(_DURATIONS)],
                categories=connection.execute(_CATEGORIES).fetchall(),
            )
    except sqlite3.OperationalError:
        return Snapshot()


def summarise(
    snapshot: Snapshot,
    requests: Iterable[LoggedRequest] | None,
    transitions: Sequence[dict[str, Any]],
    *,
    database: Path,
    logs: Path,
) -> Summary:
    """Combine the numbers of the history and of the simulator.

    Args:
        snapshot: the history at the end of the run.
        requests: the simulator's log; None without a simulator, where attempts are taken from the history.
        transitions: transitions of the shared circuits.
        database: the SQLite file with the history.
        logs: the folder of the JSON log streams.
    """
    attempts, dead = Counter[str](), 0
    # Without a simulator: each answer is one attempt, and so is each error that is no refusal.
    if requests is None:
        attempts.update(snapshot.answered_by)
        for client, category, count in snapshot.categories:
            attempts[client] += 0 if category == "circuit_open" else count
    # The simulator's log counts what arrived, also requests whose caller had given up.
    for request in requests or ():
        attempts[request.client] += 1
        # 200 is the name of a good answer, see testing/behaviours.py; every other name is a status or a fault.
        dead += request.sent != "200"
    return Summary(
        calls=snapshot.calls,
        succeeded=snapshot.succeeded,
        answered_by=dict(snapshot.answered_by),
        attempts_by_client=dict(attempts),
        dead_requests=dead,
        retries=snapshot.retries,
        fallbacks=snapshot.fallbacks,
        transitions=list(transitions),
        p50_ms=round(1000 * percentile(snapshot.durations, 0.50), 1),
        p99_ms=round(1000 * percentile(snapshot.durations, 0.99), 1),
        database=str(database),
        logs=str(logs),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value that *share* of the ordered values do not exceed (nearest rank); 0 without values."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
