"""What the callers and processes of the soak noted, and when each process had a processor."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from support.soak_fleet import Fleet

HEARD = 0.5
"""Seconds after which every process knows the state of a circuit: its copy is refreshed after a quarter of a second."""
_STARVED = 0.2
"""Seconds without a beat, after which a process is not judged by time."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What callers and processes noted.

    Attributes:
        calls: the note of each call, by its id.
        beats: the times of all notes, by process.
        ends: the last note of each process that ended cleanly, by process.
        killed: when a process was killed, by process.
    """

    calls: dict[str, dict[str, Any]]
    beats: dict[int, list[float]]
    ends: dict[int, dict[str, Any]]
    killed: dict[int, float]

    def gap(self, pid: int, since: float = 0.0, until: float = float("inf")) -> float:
        """Return the longest time in which a process noted nothing, in seconds: it had no processor then."""
        beats = sorted(self.beats[pid])
        pairs = (pair for pair in pairwise(beats) if pair[1] >= since and pair[0] <= until)
        return max((later - earlier for earlier, later in pairs), default=0.0)

    def is_starved(self, pid: int, since: float, until: float) -> bool:
        """Return whether a process had no processor for a moment between two times, or shortly before."""
        return self.gap(pid, since - HEARD, until) > _STARVED


def read(fleet: Fleet) -> Evidence:
    """Read the notes of all agents."""
    evidence = Evidence({}, defaultdict(list), {}, {})
    lines = fleet.notes.read_text().splitlines(keepends=True)
    for line in lines:
        if not line.endswith("\n"):
            break  # it is being written
        found = json.loads(line)
        evidence.beats[found["pid"]].append(found["at"])
        if found["kind"] == "call":
            evidence.calls[found["id"]] = found
        elif found["kind"] == "end":
            evidence.ends[found["pid"]] = found
    for agent in fleet.agents:
        if agent.killed_at is not None:
            evidence.killed[agent.process.pid] = agent.killed_at
    return evidence
