"""What a run with Redis shows: which process lost requests to an outage, and what the death of Redis cost."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from resilience.demo.phases import VICTIM
from resilience.demo.shared_redis import SharedRedis
from resilience.demo.summary import open_read_only

_LOST: Final = f"""
SELECT pid, occurred_at FROM errors JOIN instances USING (instance_id)
WHERE client = '{VICTIM}' AND category NOT IN ('circuit_open', 'cancelled')
"""  # noqa: S608 - a constant of ours
_SPARED: Final = f"""
SELECT pid, occurred_at FROM fallbacks JOIN instances USING (instance_id)
WHERE from_client = '{VICTIM}' AND reason = 'circuit_open'
"""  # noqa: S608 - a constant of ours
_CALLS: Final = "SELECT pid, calls.started_at FROM calls JOIN instances USING (instance_id) WHERE NOT probe"
_ALWAYS: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSharing:
    """One process of the fleet.

    Attributes:
        process: its number, from 1.
        joined: when it started to work, in seconds of the run.
        lost: its requests that hit the first outage. The circuit stays open beyond its end, so none of them is a probe.
        spared: requests that it did not make in that outage, because the fleet knew of it.
        calls: all its calls.
        without_redis: calls that it started while Redis was dead.
    """

    process: int
    joined: float
    lost: int
    spared: int
    calls: int
    without_redis: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """What the processes learned from each other.

    Attributes:
        processes: one entry each, in the order they started.
        redis_killed: whether the Redis was the demo's own and was killed.
        redis_down_seconds: how long it was dead.
        degraded_answers: answers given while their process knew that Redis was down.
    """

    processes: Sequence[ProcessSharing]
    redis_killed: bool
    redis_down_seconds: float
    degraded_answers: int

    @property
    def happened(self) -> bool:
        """Whether the run shows what it is for: an outage that hit all processes, and one of Redis if it is ours."""
        first, *others = self.processes
        learned = first.lost > 0 and all(process.spared for process in others)
        survived = self.degraded_answers > 0 and any(process.without_redis for process in self.processes)
        return learned and (survived or not self.redis_killed)

    def as_dict(self) -> dict[str, Any]:
        """Return a dict that JSON can hold."""
        return asdict(self)


def read_sharing(
    database: Path,
    started: Mapping[int, float],
    outage: tuple[datetime, datetime],
    *,
    redis: SharedRedis,
    degraded_answers: int,
) -> Sharing:
    """Read from the history what each process lost and was spared.

    Args:
        database: the SQLite file with the history.
        started: when each process started to work, in seconds of the run, by its pid, in the order of their numbers.
        outage: start and end of the first outage.
        redis: what the processes shared.
        degraded_answers: answers given while their process knew that Redis was down.
    """
    killed, restarted = redis.killed_at, redis.restarted_at
    without_redis = Counter[int]()
    with open_read_only(database) as connection:
        lost, spared = _count(connection, _LOST, *outage), _count(connection, _SPARED, *outage)
        calls = _count(connection, _CALLS, *_ALWAYS)
        if killed is not None:
            without_redis = _count(connection, _CALLS, killed, restarted or _ALWAYS[1])
    return Sharing(
        processes=[
            ProcessSharing(
                process=number,
                joined=round(joined, 1),
                lost=lost[pid],
                spared=spared[pid],
                calls=calls[pid],
                without_redis=without_redis[pid],
            )
            for number, (pid, joined) in enumerate(started.items(), 1)
        ],
        redis_killed=killed is not None,
        redis_down_seconds=round((restarted - killed).total_seconds(), 1) if killed and restarted else 0.0,
        degraded_answers=degraded_answers,
    )


def _count(connection: sqlite3.Connection, query: str, start: datetime, end: datetime) -> Counter[int]:
    """Count the rows of each pid whose time is in [start, end)."""
    rows = connection.execute(query).fetchall()
    return Counter(
        pid for pid, time in rows if start <= datetime.fromisoformat(time).replace(tzinfo=UTC) < end
    )
