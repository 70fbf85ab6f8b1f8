"""The fleet at one moment: one frozen value that `status`, `circuit list` and the metrics draw. Pure.

It is made from what the store and the history say, each of which may be away: then its error is part of the value, and the rest
is what the other one knows. Times are UTC, durations seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from resilience.history.store import instances
from resilience.ops.circuits import Circuit
from resilience.ops.window import Window

EPISODE_GAP: Final = timedelta(minutes=10)
"""Outages that are closer than this are one episode: a provider that comes and goes has one bad quarter of an hour."""
_BEFORE: Final = timedelta(seconds=10)
"""Calls that started this long before a circuit opened belong to its episode: the circuit opened because of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that lately sent a heartbeat.

    Attributes:
        instance_id: its id in rows and log lines.
        host: its machine.
        pid: its process id there.
        queue_depth: records that it has not yet written.
        dropped: records that it gave up.
        degraded: whether it cannot reach the store.
        damage: what it read and did not believe, by kind: see `resilience.damage_counts`.
        started_at: when it started.
    """

    instance_id: str
    host: str
    pid: int
    queue_depth: int
    dropped: int
    degraded: bool
    started_at: datetime
    damage: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOutage:
    """A period in which the fleet's circuit of a client was not closed.

    Attributes:
        client: the client.
        started_at: when it opened.
        ended_at: when it closed; None if it has not.
        opened_by: the rule that opened it, or `operator`.
        reason: the failure category, or the operator's words.
        failures: failures in the circuit's window when it opened.
    """

    client: str
    started_at: datetime
    ended_at: datetime | None
    opened_by: str
    reason: str
    failures: int

    def seconds(self, now: datetime) -> float:
        """Return how long it lasted, until *now* if it has not ended."""
        return max(0.0, ((self.ended_at or now) - self.started_at).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The fleet at one moment.

    Attributes:
        at: the moment.
        namespace: the deployment.
        store: the URL of the store, without secrets.
        history: where the history is, without secrets; empty if none is kept.
        store_error: why the store cannot be read; empty if it can. Circuits are then from the history.
        history_error: why the history cannot be read; empty if it can.
        store_missing: whether the store is a file that does not exist, or the memory of each process.
        history_missing: whether the history is a file that does not exist, or none is kept.
        store_seconds: how long the store took to answer; None if it was not asked.
        other_namespaces: the namespaces that the store has besides; only if this one has no circuits.
        circuits: the circuits, in the order of their clients' names.
        clients: every client that the store or the history knows, sorted.
        processes: processes with a recent heartbeat.
        degraded_processes: those of them that cannot reach the store.
        outages: outages of the last 24 hours, newest first.
        last_call_at: when the newest call started; None without calls.
        window: the calls of the window; None if they were not read.
        episode: the calls during the last episode of outages, see `episode`; None without one.
    """

    at: datetime
    namespace: str
    store: str = ""
    history: str = ""
    store_error: str = ""
    history_error: str = ""
    store_missing: bool = False
    history_missing: bool = False
    store_seconds: float | None = None
    other_namespaces: tuple[str, ...] = ()
    circuits: tuple[Circuit, ...] = ()
    clients: tuple[str, ...] = ()
    processes: tuple[Process, ...] = ()
    degraded_processes: int = 0
    outages: tuple[ClientOutage, ...] = ()
    last_call_at: datetime | None = None
    window: Window | None = None
    episode: Window | None = None


def outage(row: Mapping[str, Any]) -> ClientOutage:
    """Convert a row of `snapshot.Today`."""
    return ClientOutage(
        client=row["client"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        opened_by=row["opened_by"] or "",
        reason=row["reason"] or "",
        failures=row["failures"] or 0,
    )


def ended(outages: Iterable[ClientOutage], ends: Mapping[str, datetime]) -> Iterator[ClientOutage]:
    """Yield *outages*, those that still run with their end where it is known.

    Args:
        outages: the outages.
        ends: ends by client, such as those of orders that expired.
    """
    for each in outages:
        yield replace(each, ended_at=ends.get(each.client)) if each.ended_at is None else each


def process(row: Mapping[str, Any]) -> Process:
    """Convert a row of `snapshot.Today`."""
    return Process(
        instance_id=row["instance_id"],
        host=row["host"],
        pid=row["pid"],
        queue_depth=row["queue_depth"],
        dropped=row["dropped_events"],
        degraded=bool(row["degraded"]),
        started_at=row["started_at"],
        damage={kind: row[column] for column, kind in instances.DAMAGE.items()},
    )


def episode(outages: Sequence[ClientOutage], now: datetime) -> tuple[datetime, datetime] | None:
    """Return when the last episode of outages began and ended; None without outages.

    Args:
        outages: newest first.
        now: the end of an outage that has not ended.
    """
    if not outages:
        return None
    begin, end = outages[0].started_at, max(outage.ended_at or now for outage in outages)
    for earlier in outages[1:]:
        if begin - (earlier.ended_at or now) > EPISODE_GAP:
            break
        begin = min(begin, earlier.started_at)
    # Until a moment later: calls that waited for the circuit to close have ended then.
    return begin - _BEFORE, min(end + _BEFORE, now)


def by_client(outages: Sequence[ClientOutage]) -> dict[str, list[ClientOutage]]:
    """Return the outages of each client, newest first; the client with the newest outage first."""
    found: dict[str, list[ClientOutage]] = {}
    for outage in outages:
        found.setdefault(outage.client, []).append(outage)
    return found
