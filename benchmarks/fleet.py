"""How a fleet's circuit behaves: `python -m benchmarks.fleet [--json] [--rounds N] [--guard NAME] [--late]`.

Eight processes with four tasks each share one circuit in a Redis, around a dependency that fails from the start. Counted at the
dependency, so that it is the same for every breaker:

- late: calls begun more than 10 ms after the failure that had to open the circuit (the 20th). Beside it stand those that were under
  way then: 12 at least, and each that began again before the 20th failure: more where failures are spread over a longer time;
- late, sparse: the same where each task calls once a second, four at once in a process, and all is well for two seconds;
- probes: calls let through in each half-open episode while 1, 3 or 10 are allowed; the dependency takes 0.3 s;
- recovery: from the end of the open time to the first probe, and from its success to the first ordinary call;
- killed, cancelled: from the end of the lease, or from the cancellation, to the next probe of anybody;
  the prober is one task of a ninth process. A lease begins after its prober has asked for it, so it is counted from then;
- let in meanwhile: calls let through while that prober certainly held the only lease;
- newcomer: calls let through in the first second of a process that starts while the circuit is open.

Rivals are measured in the same run where the dependency group `bench` is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from benchmarks import guards
from benchmarks.guards import Rules
from benchmarks.players import Call, Fleet, Play, receive, start_prober
from benchmarks.servers import shared_redis

PROCESSES: Final = 8
FAILURES: Final = 20
GRACE: Final = 0.010
PROBES: Final = (1, 3, 10)
PROBE_SECONDS: Final = 0.3
OPEN_FOR: Final = 1.0
LEASE: Final = 1.0
WRONG_CLOCKS: Final = (0.0, 3600.0, -3600.0)
NEVER: Final = 5.0
"""Seconds after the end of a lease for which the next probe is waited."""

_count = 0


def rules(url: str, **changes: Any) -> Rules:
    """Return rules with a circuit of its own."""
    global _count  # noqa: PLW0603 - a new name for each measurement
    _count += 1
    return Rules(url=url, circuit=f"bench-{os.getpid()}-{_count}", failures=FAILURES, **changes)


# -- what the notes say -----------------------------------------------------------------------------------------------------------


def trip(calls: Iterable[Call]) -> float:
    """When the failure ended that had to open the circuit."""
    return sorted(call.ended for call in calls)[FAILURES - 1]


def episodes(calls: Sequence[Call]) -> list[list[Call]]:
    """Return the calls of each half-open episode: half the open time without a call parts them, from each other and from the trip."""
    found: list[list[Call]] = []
    for call in calls:
        if not found or call.began - found[-1][-1].began > OPEN_FOR / 2:
            found.append([])
        found[-1].append(call)
    return found[1:]


def lateness(calls: Sequence[Call]) -> tuple[int, int]:
    """Return calls begun late, and those that were under way at the trip."""
    at = trip(calls)
    late = sum(call.began > at + GRACE for call in calls)
    return late, sum(call.began <= at < call.ended for call in calls)


def recovery(calls: Sequence[Call], probes: int) -> float | None:
    """Seconds from the last lapse to the first probe, and from its success to the first ordinary call; None: it never came."""
    seen = episodes(calls)
    dark = [each for each in seen if not any(call.answered for call in each)]
    bright = [each for each in seen if any(call.answered for call in each)]
    answers = sorted(call.ended for each in bright for call in each if call.answered)
    if not dark or len(answers) < probes:
        return None
    closed = answers[probes - 1]
    ordinary = [call.began for call in calls if call.began >= closed]
    lapse = min(call.ended for call in dark[-1]) + OPEN_FOR
    return bright[0][0].began - lapse + min(ordinary) - closed if ordinary else None


# -- measurements -----------------------------------------------------------------------------------------------------------------


def measure_trip(
    fleet: Fleet, name: str, rounds: int, url: str, clocks: Sequence[float], **changes: float
) -> dict[str, Any]:
    """Late calls, summed over all rounds."""
    late = flight = admitted = 0
    for _ in range(rounds):
        play = Play(guard=name, rules=rules(url, **changes), seconds=0.6)
        calls = fleet.play(play, clocks)
        more, under_way = lateness(calls)
        late, flight, admitted = late + more, flight + under_way, admitted + len(calls)
    return {
        "late": late,
        "in_flight": flight,
        "late_percent": round(100 * late / flight, 1),
        "admitted_per_trip": round(admitted / rounds, 1),
    }


def measure_sparse(fleet: Fleet, name: str, rounds: int, url: str) -> dict[str, Any]:
    """Measure late calls of processes that call seldom, whose last calls were answered. Summed over all rounds."""
    late = failed = 0
    for _ in range(rounds):
        play = Play(guard=name, rules=rules(url), seconds=4.0, fails_after=2.0, pause=1.0)
        dark = [call for call in fleet.play(play) if not call.answered]
        late, failed = late + lateness(dark)[0], failed + len(dark)
    return {"late_sparse": late, "failed_sparse": failed}


def measure_late(name: str, rounds: int, url: str) -> dict[str, Any]:
    """Late calls alone."""
    with Fleet(PROCESSES) as fleet:
        return measure_trip(fleet, name, rounds, url, ()) | measure_sparse(fleet, name, rounds, url)


def measure_probes(
    fleet: Fleet, name: str, url: str, clocks: Sequence[float], **changes: float
) -> dict[str, Any]:
    """Measure the calls in each failing half-open episode, and how soon the fleet calls again when the dependency is back."""
    found: dict[str, Any] = {}
    for probes in PROBES:
        play = Play(
            guard=name,
            rules=rules(url, open_for=OPEN_FOR, probes=probes, **changes),
            latency=PROBE_SECONDS,
            back_after=3.2,
            seconds=6.5,
        )
        calls = fleet.play(play, clocks)
        dark = [each for each in episodes(calls) if not each[-1].answered]
        found[f"probes_{probes}"] = [len(each) for each in dark]
        took = recovery(calls, probes)
        found[f"recovery_{probes}_ms"] = None if took is None else round(1000 * took)
    return found


def measure_lost_probers(
    fleet: Fleet, name: str, rounds: int, url: str, clocks: Sequence[float], **changes: float
) -> dict[str, Any]:
    """How long the circuit waits for a prober that was killed, and for one that was cancelled."""
    killed = [_lose_prober(fleet, name, url, clocks, kill=True, **changes) for _ in range(rounds)]
    cancelled = [
        _lose_prober(fleet, name, url, clocks, kill=False, wait=1.2 + 0.2 * turn, **changes)
        for turn in range(rounds)
    ]
    return {
        "killed_ms": _spread([after for after, _ in killed]),
        "cancelled_ms": _spread([after for after, _ in cancelled]),
        "let_in_meanwhile": sum(early for _, early in (*killed, *cancelled)),
    }


def _lose_prober(
    fleet: Fleet,
    name: str,
    url: str,
    clocks: Sequence[float],
    *,
    kill: bool,
    wait: float = 0.0,
    **changes: float,
) -> tuple[float | None, int]:
    """Seconds until the next probe once there may be one, and the calls that were let in before."""
    lease = LEASE if kill else 10 * LEASE
    own = rules(url, open_for=0.3, lease=lease, **changes)
    play = Play(
        guard=name,
        rules=own,
        latency=0.01,
        seconds=(lease if kill else wait) + NEVER,
        back_after=0.0,
        until_after=lease if kill else wait,
    )
    # The last of the clocks: where some are wrong, the holder's is.
    process, pipe = start_prober(replace(play, rules=replace(own, clock_off=clocks[-1] if clocks else 0.0)))
    try:
        asked = receive(pipe)
        fleet.prepare(play, clocks)
        begin = fleet.begin()
        pipe.send(begin)
        if kill:
            process.kill()
            calls, free = fleet.calls(), asked + lease
        else:
            time.sleep(max(0.0, begin + wait - time.monotonic()))
            pipe.send("cancel")
            free = receive(pipe)
            calls = fleet.calls() + receive(pipe)
    finally:
        process.kill()
        process.join()
        pipe.close()
    return next_probe(calls, free)


def next_probe(calls: Sequence[Call], free: float) -> tuple[float | None, int]:
    """Return the seconds from *free* to the next call, and how many calls began before.

    Args:
        calls: the calls that were let through.
        free: the earliest instant at which the lease may have ended. A store rounds times, so a call is early only if it began
            more than the grace before.
    """
    after = [max(0.0, call.began - free) for call in calls if call.began >= free - GRACE]
    return min(after, default=None), len(calls) - len(after)


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    known = [1000 * value for value in values if value is not None]
    never = len(values) - len(known)
    if not known:
        return {"never": never}
    return {"median": round(statistics.median(known)), "worst": round(max(known)), "never": never}


def measure_newcomer(
    fleet: Fleet, name: str, url: str, clocks: Sequence[float], **changes: float
) -> dict[str, Any]:
    """Measure the calls that a process admits which starts while the circuit is open."""
    own = rules(url, open_for=20.0, **changes)
    fleet.play(Play(guard=name, rules=own, seconds=0.6), clocks)
    with Fleet(1) as newcomer:
        calls = newcomer.play(Play(guard=name, rules=own, seconds=1.0), clocks[-1:])
    return {"newcomer_calls": len(calls)}


def measure(
    name: str, rounds: int, url: str, clocks: Sequence[float] = (), **changes: float
) -> dict[str, Any]:
    """One row."""
    with Fleet(PROCESSES) as fleet:
        row = measure_trip(fleet, name, rounds, url, clocks, **changes)
        row |= measure_sparse(fleet, name, rounds, url)
        row |= measure_probes(fleet, name, url, clocks, **changes)
        if name in guards.LEASING:
            row |= measure_lost_probers(fleet, name, rounds, url, clocks, **changes)
        return row | measure_newcomer(fleet, name, url, clocks, **changes)


# -- the table --------------------------------------------------------------------------------------------------------------------


def rows(names: Sequence[str], rounds: int, url: str) -> dict[str, dict[str, Any]]:
    """Every row that is asked for, by its title."""
    found = {}
    if guards.OURS in names:
        found[guards.OURS] = measure(guards.OURS, rounds, url)
        found["max_staleness=0"] = measure(guards.OURS, rounds, url, staleness=0.0)
        found["clocks +-1 h"] = measure(guards.OURS, rounds, url, WRONG_CLOCKS)
    return found | {name: measure(name, rounds, url) for name in names if name != guards.OURS}


def show(found: dict[str, dict[str, Any]]) -> None:
    """Print the table."""
    titles = (
        "",
        "late; in flight",
        "late of failed, sparse",
        "let in a trip",
        "probes of 1",
        "of 3",
        "of 10",
        "recovery ms",
        "killed ms",
        "cancelled ms",
        "let in meanwhile",
        "newcomer",
    )
    print("| " + " | ".join(titles) + " |")
    print("|---" * len(titles) + "|")
    for name, row in found.items():
        cells = (
            name,
            f"{row['late']}; {row['in_flight']} ({row['late_percent']} %)",
            f"{row['late_sparse']} of {row['failed_sparse']}",
            row["admitted_per_trip"],
            *(" ".join(map(str, row[f"probes_{probes}"])) for probes in PROBES),
            " ".join(
                "never" if row[f"recovery_{probes}_ms"] is None else str(row[f"recovery_{probes}_ms"])
                for probes in PROBES
            ),
            *(_reported(row.get(kind)) for kind in ("killed_ms", "cancelled_ms")),
            row.get("let_in_meanwhile", ""),
            row["newcomer_calls"],
        )
        print("| " + " | ".join(map(str, cells)) + " |")


def _reported(spread: dict[str, Any] | None) -> str:
    if spread is None:
        return "no lease"
    if "median" not in spread:
        return f"never in {NEVER:g} s"
    return f"{spread['median']}, worst {spread['worst']}" + (
        f", never {spread['never']} x" if spread["never"] else ""
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--rounds", type=int, default=5, help="trips and lost probers a row (5)")
    parser.add_argument("--guard", action="append", choices=guards.installed(), help="measure only these")
    parser.add_argument("--late", action="store_true", help="measure late calls alone; prints JSON")
    options = parser.parse_args()
    with shared_redis() as url:
        if options.late:
            names = options.guard or guards.installed()
            print(json.dumps({name: measure_late(name, options.rounds, url) for name in names}, indent=1))
            return
        found = rows(options.guard or guards.installed(), options.rounds, url)
    if options.json:
        print(json.dumps({"rows": found, "left_out": guards.missing()}, indent=1))
        return
    show(found)
    if guards.missing():
        print(guards.missing())


if __name__ == "__main__":
    main()
