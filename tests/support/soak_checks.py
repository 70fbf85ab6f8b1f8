"""What the soak demands in the end. Each check returns what is broken; an empty list means that the promise held.

Promises that name a time are judged by the processes that had a processor at that time: each notes a beat every 20 ms.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from resilience import admin
from support.soak_evidence import HEARD, Evidence
from support.soak_fleet import Fleet

_WINDOW = 0.1
"""Seconds of lines that a kill may cost."""
_TRANSACTION = 0.25
"""Seconds that the writer thread may be in a transaction, while it writes no lines."""
_GATHER = 1.0
"""Seconds that the rows of clean calls may wait where their lines are in a log file."""
_IMPORT = 15.0
"""Seconds after which the lines of a killed process are imported."""
_RETRY = 2.5
"""Seconds after which a database that is back has been tried again, jitter included."""
_FIRST_LOOK = 1.0
"""Seconds that a caller may wait for the store: at the first look, and for a probe while the store does not reply."""
_UNINFORMED = 3
"""Requests that a process may make to a client before it has heard of its store."""
_START = 2.0
"""Seconds in which a process is new, and which its calls may take more then, on a busy machine."""
_DISK = {"disk_full", "disk_read_only"}
_CALM = {"provider_down", "ordered"}
"""Faults that leave processes and stores alone."""


# --- callers --------------------------------------------------------------------------------------------------------


def every_call_is_answered(_: Fleet, evidence: Evidence) -> list[str]:
    """A client always answers, so no caller gets an error: neither one of ours nor one of a client. None gets another's answer."""
    return [f"{call['id']} got {call['error']}" for call in evidence.calls.values() if call.get("error")][:5]


def no_caller_waits_for_us(_: Fleet, evidence: Evidence) -> list[str]:
    """Beside the time of its clients a call takes a moment, whatever the state of stores, history and disks."""
    broken = []
    for call in evidence.calls.values():
        limit = _FIRST_LOOK + 0.3 + _slowness(evidence, call)
        if call["waited"] > limit:
            broken.append(
                f"{call['id']} took {call['waited']:.3f} s beside its clients, more than {limit:.3f} s"
            )
    return broken[:5]


def callers_leave_at_once(_: Fleet, evidence: Evidence) -> list[str]:
    """A cancellation goes through at once."""
    return [
        f"{call['id']} was cancelled, and ended {call['late']:.3f} s later"
        for call in evidence.calls.values()
        if call.get("late", 0.0) > 0.3 + _slowness(evidence, call)
    ][:5]


def _slowness(evidence: Evidence, call: dict[str, Any]) -> float:
    """Return the seconds that a call may take more: its process had no processor, or imported modules at its first calls."""
    pid, began = call["pid"], call["began"]
    is_starting = began < min(evidence.beats[pid]) + _START
    return 4 * evidence.gap(pid, began, call["at"]) + (_START if is_starting else 0.0)


# --- the history ----------------------------------------------------------------------------------------------------


def every_call_has_its_row(fleet: Fleet, evidence: Evidence) -> list[str]:
    """A clean exit loses nothing; a kill costs the calls of its last moments."""
    rows = {request_id for (request_id,) in fleet.asked_all("SELECT request_id FROM calls")}
    broken = []
    for name in sorted(set(evidence.calls) - rows):
        call = evidence.calls[name]
        killed_at = evidence.killed.get(call["pid"])
        if killed_at is None:
            broken.append(f"{name} has no row, and its process was not killed")
        elif not _may_be_lost(fleet, evidence, call, killed_at):
            broken.append(f"{name} has no row, and ended {killed_at - call['at']:.3f} s before the kill")
    return broken[:5]


def _may_be_lost(fleet: Fleet, evidence: Evidence, call: dict[str, Any], killed_at: float) -> bool:
    """Return whether a kill came before the row of *call* was due, and its line, from which it would be imported, was lost too."""
    window = _WINDOW + _TRANSACTION + 2 * evidence.gap(call["pid"])
    if killed_at - call["at"] <= window:
        return True
    was_removed, was_refused = _lines_lost(fleet, call["at"], window, killed_at)
    if not (was_removed or was_refused):
        return False
    # Rows gather only while their lines are in a file.
    due = call["at"] + (_GATHER if was_removed else 0.0)
    starts = min(evidence.beats[call["pid"]])
    if call["at"] <= starts + _START:
        due = max(due, starts + _START)
    return killed_at <= _when_written(fleet, call["at"], due, window) + window


def _lines_lost(fleet: Fleet, at: float, window: float, killed_at: float) -> tuple[bool, bool]:
    """Return whether lines of this time may have been removed before another process read them, and whether a disk refused them."""
    removed = any(
        at <= fault.ended + window and fault.began <= killed_at + _IMPORT
        for fault in fleet.happened_so_far({"logs_removed"})
    )
    refused = any(
        fault.began - window <= at <= fault.ended + _RETRY + window
        for fault in fleet.happened_so_far({"disk_full", "disk_read_only"})
    )
    return removed, refused


def _when_written(fleet: Fleet, at: float, due: float, window: float) -> float:
    """Return when a row of the time *at* was written at the latest: when it was *due*, or when the history was tried again."""
    away = {"history_away", "history_locked"} | (_DISK if fleet.postgres is None else set())
    for fault in sorted(fleet.happened_so_far(away), key=lambda one: one.began):
        if at <= fault.ended + _RETRY + window and fault.began <= due + window:
            due = max(due, fault.ended + _RETRY)
    return due


def no_row_is_there_twice(fleet: Fleet, _: Evidence) -> list[str]:
    """One call has one row."""
    query = "SELECT request_id, count(*) FROM calls GROUP BY request_id HAVING count(*) > 1"
    return [f"{name} has {count} rows" for name, count in fleet.asked_all(query)]


def counters_are_exact(fleet: Fleet, _: Evidence) -> list[str]:
    """Every row is counted once, also if it came by an import, from a process that was killed or that wrote to an earlier file."""
    pairs = (
        ("SELECT count(*) FROM calls", "SELECT sum(calls) FROM rollups"),
        ("SELECT count(*) FROM errors", "SELECT sum(errors) FROM rollups"),
        ("SELECT count(*) FROM errors", "SELECT sum(count) FROM error_groups"),
        (
            "SELECT count(*) FROM errors WHERE category <> 'circuit_open'",  # most refusals have no row of theirs
            "SELECT sum(count) FROM error_rollups WHERE category <> 'circuit_open'",
        ),
    )
    broken = []
    for url in fleet.histories():
        for rows, counted in pairs:
            found, sum_of = _number(fleet, rows, url), _number(fleet, counted, url)
            if sum_of != found:
                broken.append(f"{rows}: {found}, but {counted}: {sum_of}, in {url}")
    return broken


def _number(fleet: Fleet, query: str, url: str) -> int:
    rows = fleet.asked(query, url)
    return int(rows[0][0] or 0) if rows else 0


def attempts_are_those_of_the_provider(fleet: Fleet, evidence: Evidence) -> list[str]:
    """The history of a process that was not killed has the requests that the provider saw, refusals by circuits apart.

    A caller that leaves may do so before its request is sent or read.
    """
    query = "SELECT c.request_id, i.pid, c.attempts FROM calls c JOIN instances i ON i.instance_id = c.instance_id"
    by_call = {name: (pid, attempts) for name, pid, attempts in fleet.asked_all(query)}
    attempts: Counter[int] = Counter()
    for pid, count in by_call.values():
        attempts[pid] += count
    left = Counter(call["pid"] for call in evidence.calls.values() if call.get("cancelled"))
    requests = Counter(request.pid for request in fleet.provider.requests)
    return [
        f"process {pid}: {attempts[pid]} attempts, {requests[pid]} requests, {left[pid]} calls were left"
        for pid in evidence.ends
        if not requests[pid] <= attempts[pid] <= requests[pid] + left[pid]
    ]


def nothing_waits_for_an_import(fleet: Fleet, _: Evidence) -> list[str]:
    """What killed processes left was imported, each by one process, and its mark removed."""
    marks = [path.name for path in (fleet.logs / ".writers").iterdir()]
    return [f"the lines of {name} were not imported" for name in marks]


def lines_are_whole(fleet: Fleet, evidence: Evidence) -> list[str]:
    """A log line is JSON. A full disk may cut the last line of a batch, and a kill that of its process."""
    broken = 0
    for path in fleet.logs.glob("*.jsonl*"):
        for line in (
            gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        ).splitlines():
            try:
                json.loads(line)
            except ValueError:
                broken += 1
    cuts = 9 * len(fleet.happened_so_far({"disk_full"})) + len(evidence.killed)
    return [] if broken <= cuts else [f"{broken} lines of the logs are not JSON"]


def instances_say_that_they_ended(fleet: Fleet, evidence: Evidence) -> list[str]:
    """A process that ended cleanly has said so, and dropped nothing."""
    kept = "SELECT pid, started_at, ended_at, dropped_events FROM instances ORDER BY started_at"
    rows = {pid: row for pid, *row in fleet.asked(kept)}
    return [
        f"process {pid}: {rows[pid]}"
        for pid in evidence.ends
        if pid in rows and (rows[pid][1] is None or rows[pid][2])
    ]


# --- circuits -------------------------------------------------------------------------------------------------------

_EVENTS = "SELECT epoch, from_state, to_state, occurred_at FROM breaker_events WHERE client = 'Primary' AND scope = 'shared' AND epoch > 0"


def transitions_form_a_chain(fleet: Fleet, _: Evidence) -> list[str]:
    """Each transition begins in the state in which the one before it ended."""
    events = sorted({row[:3] for row in fleet.asked_all(_EVENTS)})
    return [
        f"epoch {epoch} ends {to_state}, and epoch {later} begins {from_state}"
        for (epoch, _, to_state), (later, from_state, _) in pairwise(events)
        if later == epoch + 1 and from_state != to_state
    ]


def circuits_agree_in_the_end(fleet: Fleet, evidence: Evidence) -> list[str]:
    """Store and history have the same state, and no process is without its store."""
    report = asyncio.run(admin.circuits_report(fleet.settings))
    states = {circuit.client: str(circuit.state) for circuit in report.circuits}
    events = sorted(row[:3] for row in fleet.asked_all(_EVENTS))
    found = [f"the store: {report.store_error}"] if report.store_error else []
    if states.get("Primary", "closed") != "closed":
        found.append(f"the circuit of Primary is {states['Primary']}")
    if events and events[-1][2] != "closed":
        found.append(f"the last transition of Primary in the history is {events[-1]}")
    degraded = {pid for (pid,) in fleet.asked("SELECT pid FROM instances WHERE degraded")} & set(
        evidence.ends
    )
    return found + [f"process {pid} ended without its store" for pid in degraded]


def orders_bind_every_process(fleet: Fleet, evidence: Evidence) -> list[str]:
    """While an order holds a circuit open its client gets no request, not even from a process that has just begun."""
    return [
        f"process {pid} asked Primary {at - since:.3f} s after the order"
        for since, until in fleet.orders
        for at, pid in _judged_requests(fleet, evidence, since + HEARD, until)
    ][:5]


def open_circuits_are_not_asked(fleet: Fleet, evidence: Evidence) -> list[str]:
    """The client of an open circuit gets no request."""
    return [
        f"process {pid} asked Primary {at - since:.3f} s after it had opened"
        for since, until in _spans(fleet, "open")
        for at, pid in _judged_requests(fleet, evidence, since + HEARD, until)
    ][:5]


def one_probe_at_a_time(fleet: Fleet, evidence: Evidence) -> list[str]:
    """A half-open circuit lets one request through."""
    return [
        f"{count} requests to Primary in the {until - since:.3f} s in which it was half open"
        for since, until in _spans(fleet, "half_open")
        if (count := len(list(_judged_requests(fleet, evidence, since, until)))) > 1
    ]


def _spans(fleet: Fleet, state: str) -> Iterator[tuple[float, float]]:
    """Yield the times in which the circuit of Primary had this state, while the stores were in order."""
    events = sorted((row[0], row[2], _seconds(row[3])) for row in fleet.asked_all(_EVENTS))
    for (epoch, to_state, since), (later, _, until) in pairwise(events):
        if to_state == state and later == epoch + 1 and _is_calm(fleet, since, until):
            yield since, until


def _is_calm(fleet: Fleet, since: float, until: float) -> bool:
    return not any(
        fault.fault not in _CALM and fault.began <= until and since <= fault.ended + _RETRY
        for fault in fleet.happened
    )


def _judged_requests(
    fleet: Fleet, evidence: Evidence, since: float, until: float
) -> Iterator[tuple[float, int]]:
    """Yield time and process of each request to Primary between two times, by processes that had a processor.

    A process that has not heard of its store after the time of a first look may ask three times.
    """
    uninformed: Counter[int] = Counter()
    for request in fleet.provider.requests:
        asked = request.client == "Primary" and since <= request.at <= until
        if not asked or evidence.is_starved(request.pid, since, until):
            continue
        if request.at <= min(evidence.beats[request.pid]) + _START + _FIRST_LOOK:
            uninformed[request.pid] += 1
            if uninformed[request.pid] <= _UNINFORMED:
                continue
        yield request.at, request.pid


def _seconds(at: Any) -> float:
    """Return a time of the history in seconds since the epoch."""
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    return float(at.replace(tzinfo=at.tzinfo or UTC).timestamp())


# --- processes ------------------------------------------------------------------------------------------------------


def no_process_crashes(fleet: Fleet, _: Evidence) -> list[str]:
    """A process ends if it is asked to, or killed; by SIGTERM itself only while it starts."""
    broken = []
    for agent in fleet.agents:
        status = agent.process.returncode
        expected = {-signal.SIGKILL} if agent.killed_at is not None else {0, -signal.SIGTERM}
        if status not in expected or not (agent.is_ending or agent.killed_at is not None):
            broken.append(f"process {agent.process.pid} ended with {status}")
    return broken


def two_threads_and_few_descriptors(_: Fleet, evidence: Evidence) -> list[str]:
    """Each process has at most two threads of ours, those of blocking calls apart, and leaks no descriptor."""
    return [
        f"{pid} ended with {end['threads']} and {end['descriptors']} descriptors"
        for pid, end in evidence.ends.items()
        if len([name for name in end["threads"] if name != "resilience-call"]) > 2 or end["descriptors"] > 60
    ]


def no_connection_is_left(fleet: Fleet, _: Evidence) -> list[str]:
    """Processes that have ended have no connection to Redis or PostgreSQL."""
    found = []
    if fleet.valkey is not None:
        with fleet.valkey.looking() as client:
            others = len(client.client_list()) - 1
        found += [f"{others} connections to Redis"] if others else []
    if fleet.postgres is not None:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        others = _number(fleet, query, fleet.database_url) - 1
        found += [f"{others} connections to PostgreSQL"] if others else []
    return found


def no_fault_of_ours_is_said(fleet: Fleet, _: Evidence) -> list[str]:
    """No traceback reaches standard error, and what was dropped at an end is in the logs, from where the next process imports it."""
    words = ("Traceback", "hook for forks", "dropped")
    lines = [line for line in fleet.said.splitlines() if "their log lines are kept" not in line]
    return [line for line in lines if any(word in line for word in words)][:5]


CHECKS = (
    every_call_is_answered,
    no_caller_waits_for_us,
    callers_leave_at_once,
    every_call_has_its_row,
    no_row_is_there_twice,
    counters_are_exact,
    attempts_are_those_of_the_provider,
    nothing_waits_for_an_import,
    lines_are_whole,
    instances_say_that_they_ended,
    transitions_form_a_chain,
    circuits_agree_in_the_end,
    orders_bind_every_process,
    open_circuits_are_not_asked,
    one_probe_at_a_time,
    no_process_crashes,
    two_threads_and_few_descriptors,
    no_connection_is_left,
    no_fault_of_ours_is_said,
)
