"""What a run with Redis shows: who learned of the outage by asking the dead client, and what Redis's own death cost."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from resilience.demo.outage import VICTIM, Phase, shared_outage
from resilience.demo.server import SharedRedis
from resilience.demo.summary import reading

_LOST: Final = f"""
SELECT pid, occurred_at FROM errors JOIN instances USING (instance_id)
WHERE client = '{VICTIM}' AND category NOT IN ('circuit_open', 'cancelled')
"""  # noqa: S608 - a constant of ours
_SPARED: Final = f"""
SELECT pid, occurred_at FROM fallbacks JOIN instances USING (instance_id)
WHERE from_client = '{VICTIM}' AND reason = 'circuit_open'
"""  # noqa: S608 - a constant of ours
_CALLS: Final = "SELECT pid, calls.started_at FROM calls JOIN instances USING (instance_id)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One process of the fleet.

    Attributes:
        process: its number, from 1.
        joined: when it began to work, in seconds since the start.
        lost: its requests that met the first outage; the circuit stays open beyond its end, so none of them is a probe.
        spared: those it did not make in that outage, because the fleet knew.
        calls: all its calls.
        alone: those it began while Redis was dead.
    """

    process: int
    joined: float
    lost: int
    spared: int
    calls: int
    alone: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """What the processes had of each other.

    Attributes:
        members: one each.
        own: the Redis was the demo's own and was killed.
        seconds_away: for how long it was dead.
        noticed: answers that were given while their process knew that Redis was away.
    """

    members: Sequence[Member]
    own: bool
    seconds_away: float
    noticed: int

    @property
    def happened(self) -> bool:
        """Did what is to be shown really happen: an outage at which all were at work, and one of Redis if it is ours?"""
        first, *others = self.members
        learned = first.lost > 0 and all(member.spared for member in others)
        away = self.noticed > 0 and any(member.alone for member in self.members)
        return learned and (away or not self.own)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def sharing(
    database: Path,
    joined: Mapping[int, float],
    began: datetime,
    phases: Sequence[Phase],
    *,
    redis: SharedRedis,
    noticed: int,
) -> Sharing:
    """Ask the history of a run.

    Args:
        database: the history.
        joined: when each process began to work, in seconds of the play, by its pid, in the order of their numbers.
        began: when the play did.
        phases: the play.
        redis: what they shared.
        noticed: answers given while their process knew Redis to be away.
    """
    start, end = shared_outage(phases)
    outage = (began + timedelta(seconds=start), began + timedelta(seconds=end))
    died, back = redis.died_at, redis.returned_at
    ever = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
    with reading(database) as connection:
        lost, spared = _count(connection, _LOST, outage), _count(connection, _SPARED, outage)
        calls = _count(connection, _CALLS, ever)
        alone = _count(connection, _CALLS, (died, back or ever[1])) if died is not None else Counter()
    return Sharing(
        members=[
            Member(
                process=number,
                joined=round(begun, 1),
                lost=lost[pid],
                spared=spared[pid],
                calls=calls[pid],
                alone=alone[pid],
            )
            for number, (pid, begun) in enumerate(joined.items(), 1)
        ],
        own=died is not None,
        seconds_away=round(((back or died) - died) / timedelta(seconds=1), 1) if died is not None else 0.0,
        noticed=noticed,
    )


def _count(connection: sqlite3.Connection, rows: str, span: tuple[datetime, datetime]) -> Counter[int]:
    """Rows of each pid whose instant lies in the span."""
    found = connection.execute(rows).fetchall()
    return Counter(
        pid for pid, at in found if span[0] <= datetime.fromisoformat(at).replace(tzinfo=UTC) < span[1]
    )
