"""What SQL and the simulator say about a run."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from resilience.testing import LoggedRequest

_CALLS = """
SELECT COUNT(*), COALESCE(SUM(outcome IN ('ok', 'recovered_retry', 'recovered_fallback')), 0),
       COALESCE(SUM(retries), 0), COALESCE(SUM(fallbacks), 0)
FROM calls
"""
_ANSWERED = "SELECT client_final, COUNT(*) FROM calls WHERE client_final IS NOT NULL GROUP BY client_final"
_DURATIONS = "SELECT duration FROM calls ORDER BY duration"
_REFUSED = "SELECT from_client, COUNT(*) FROM fallbacks WHERE reason = 'circuit_open' GROUP BY from_client"
_CATEGORIES = "SELECT client, category, COUNT(*) FROM errors GROUP BY client, category ORDER BY 3 DESC"


@dataclass(slots=True)
class Summary:
    """One run in numbers; `--json` prints exactly this.

    Attributes:
        calls: requests the agents made.
        succeeded: those that got an answer.
        answered_by: answers by client.
        attempts_by_client: requests that reached each provider, by the simulator's own log.
        dead_requests: those of them that met an outage.
        retries: attempts that asked the same client again.
        fallbacks: steps to another client.
        transitions: changes of state of the shared circuits.
        p50_ms: median time of a call, milliseconds.
        p99_ms: 99th percentile, milliseconds.
        database: the SQLite file that holds the history.
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
        """For JSON."""
        return asdict(self)


@dataclass(slots=True)
class Snapshot:
    """What the history holds at one moment."""

    calls: int = 0
    succeeded: int = 0
    retries: int = 0
    fallbacks: int = 0
    answered_by: Mapping[str, int] = field(default_factory=dict)
    refused_by: Mapping[str, int] = field(default_factory=dict)
    durations: Sequence[float] = ()
    categories: Sequence[tuple[str, str, int]] = ()


@contextmanager
def reading(database: Path) -> Iterator[sqlite3.Connection]:
    """Look into the history without a chance to change it."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=2.0)) as connection:
        yield connection


def snapshot(database: Path) -> Snapshot:
    """Ask the history; an empty one while the agents have not created it yet."""
    try:
        with reading(database) as connection:
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
    snap: Snapshot,
    requests: Iterable[LoggedRequest] | None,
    transitions: Sequence[dict[str, Any]],
    *,
    database: Path,
    logs: Path,
) -> Summary:
    """Put the history's and the simulator's numbers side by side; without a simulator, the history's alone."""
    asked, dead = Counter[str](), 0
    if requests is None:
        asked.update(snap.answered_by)
        for client, category, count in snap.categories:
            asked[client] += 0 if category == "circuit_open" else count
    for request in requests or ():
        asked[request.client] += 1
        dead += request.sent != "200"
    return Summary(
        calls=snap.calls,
        succeeded=snap.succeeded,
        answered_by=dict(snap.answered_by),
        attempts_by_client=dict(asked),
        dead_requests=dead,
        retries=snap.retries,
        fallbacks=snap.fallbacks,
        transitions=list(transitions),
        p50_ms=round(1000 * percentile(snap.durations, 0.50), 1),
        p99_ms=round(1000 * percentile(snap.durations, 0.99), 1),
        database=str(database),
        logs=str(logs),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that *share* of the ordered values do not exceed (nearest rank); 0 of none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
