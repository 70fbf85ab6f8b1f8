"""What the soak demands in the end. Each check returns what is broken; an empty list means that the promise held."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from support.soak_fleet import Fleet

_WINDOW = 0.1
"""Seconds of lines that a kill may cost."""
_TRANSACTION = 0.25
"""Seconds that the writer thread may be in a transaction, while it writes no lines."""


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

    def gap(self, pid: int) -> float:
        """Return the longest time in which a process noted nothing, in seconds: it had no processor then."""
        beats = sorted(self.beats[pid])
        return max((later - earlier for earlier, later in pairwise(beats)), default=0.0)


def read(fleet: Fleet) -> Evidence:
    """Read the notes of all agents. A killed one may have left half a line."""
    evidence = Evidence({}, defaultdict(list), {}, {})
    for line in fleet.notes.read_text().splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        evidence.beats[found["pid"]].append(found["at"])
        if found["kind"] == "call":
            evidence.calls[found["id"]] = found
        elif found["kind"] == "end":
            evidence.ends[found["pid"]] = found
    for agent in fleet.agents:
        if agent.killed_at is not None:
            evidence.killed[agent.process.pid] = agent.killed_at
    return evidence


def every_call_is_answered(_: Fleet, evidence: Evidence) -> list[str]:
    """A client always answers, so no caller gets an error: neither one of ours nor one of a client."""
    return [f"{call['id']} got {call['error']}" for call in evidence.calls.values() if call.get("error")][:5]


def every_call_has_its_row(fleet: Fleet, evidence: Evidence) -> list[str]:
    """A clean exit loses nothing; a kill costs the calls of its last moments."""
    rows = {request_id for (request_id,) in fleet.asked("SELECT request_id FROM calls")}
    broken = []
    for name in sorted(set(evidence.calls) - rows):
        call = evidence.calls[name]
        killed_at = evidence.killed.get(call["pid"])
        if killed_at is None:
            broken.append(f"{name} has no row, and its process was not killed")
        elif killed_at - call["at"] > _WINDOW + _TRANSACTION + 2 * evidence.gap(call["pid"]):
            broken.append(f"{name} has no row, and ended {killed_at - call['at']:.3f} s before the kill")
    return broken[:5]


def no_row_is_there_twice(fleet: Fleet, _: Evidence) -> list[str]:
    """One call has one row."""
    twice = fleet.asked("SELECT request_id, count(*) FROM calls GROUP BY request_id HAVING count(*) > 1")
    return [f"{name} has {count} rows" for name, count in twice]


def counters_are_exact(fleet: Fleet, _: Evidence) -> list[str]:
    """Every row is counted once, also if it came by an import or its process was killed while it ended."""
    pairs = (
        ("SELECT count(*) FROM calls", "SELECT sum(calls) FROM rollups"),
        ("SELECT count(*) FROM errors", "SELECT sum(errors) FROM rollups"),
        ("SELECT count(*) FROM errors", "SELECT sum(count) FROM error_groups"),
    )
    broken = []
    for rows, counted in pairs:
        ((found,),), ((sum_of,),) = fleet.asked(rows), fleet.asked(counted)
        if int(str(found)) != int(str(sum_of or 0)):
            broken.append(f"{rows}: {found}, but {counted}: {sum_of}")
    return broken


def no_attempt_is_invented(fleet: Fleet, _: Evidence) -> list[str]:
    """The history has no more attempts than the provider saw requests, refusals by circuits apart."""
    ((attempts,),) = fleet.asked("SELECT sum(attempts) FROM rollups WHERE client IN ('Primary', 'Backup')")
    requests = sum(fleet.provider.requests.values())
    # A request that the provider had no time to read is an attempt as well: its agent was ended in between.
    slack = 4 * len(fleet.agents)
    return (
        [] if int(str(attempts or 0)) <= requests + slack else [f"{attempts} attempts, {requests} requests"]
    )


def two_threads_and_few_descriptors(_: Fleet, evidence: Evidence) -> list[str]:
    """Each process has at most two threads of ours, and leaks no descriptor."""
    return [
        f"{pid} ended with {end['threads']} and {end['descriptors']} descriptors"
        for pid, end in evidence.ends.items()
        if len(end["threads"]) > 2 or end["descriptors"] > 60
    ]


def nothing_waits_for_an_import(fleet: Fleet, _: Evidence) -> list[str]:
    """What killed processes left was imported, each by one process, and its mark removed."""
    marks = [path.name for path in (fleet.folder / "logs" / ".writers").iterdir()]
    return [f"the lines of {name} were not imported" for name in marks]


def no_fault_of_ours_is_said(fleet: Fleet, _: Evidence) -> list[str]:
    """No traceback reaches standard error."""
    lines = fleet.said.splitlines()
    return [line for line in lines if "Traceback" in line or "hook for forks" in line][:5]


CHECKS = (
    every_call_is_answered,
    every_call_has_its_row,
    no_row_is_there_twice,
    counters_are_exact,
    no_attempt_is_invented,
    two_threads_and_few_descriptors,
    nothing_waits_for_an_import,
    no_fault_of_ours_is_said,
)
