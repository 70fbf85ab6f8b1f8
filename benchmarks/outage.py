"""What an outage costs a fleet: `python -m benchmarks.outage [--json] [--fault 503|429|hang] [--storm] [--seconds S]`.

Four processes with 20 callers each, a provider that takes 200 ms, 600 ms of thought between calls (about 100 calls a second),
a fault on the first of two clients in the middle half of the run. Counted at the provider: requests that met the fault;
for 429 also those sent while a stated Retry-After of 3 s was running. Measured at the callers: success and latency.

`--storm` is the same fleet with one client only, which answers 503 all the time, and circuits that never trip: nothing but the
fleet's retry budget stands between the callers' three retries and the provider. Counted: requests, over first tries.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from resilience import BAMLErrorHandler, protect
from resilience.demo import client
from resilience.testing import Answer, Behaviour, Hang, LoggedRequest, ProviderSimulator, Status

PROCESSES, CALLERS = 4, 20
LATENCY, THINK, RETRY_AFTER = 0.2, 0.6, 3
FAULTS: dict[str, Behaviour] = {
    "503": Status(503),
    "429": Status(429, retry_after=RETRY_AFTER),
    "hang": Hang(),
}

Timing = tuple[float, float, bool]
"""When a call began (epoch seconds), how long it took, whether it was answered."""


async def caller(guarded: Any, begin: float, until: float, timings: list[Timing]) -> None:
    """Call, think, call again."""
    await asyncio.sleep(begin - time.time())
    while (started := time.time()) < until:
        try:
            await guarded.ParseResearchGoal("Find out why")
            answered = True
        except Exception:  # noqa: BLE001 - a failed call is a number here
            answered = False
        timings.append((started, time.time() - started, answered))
        await asyncio.sleep(THINK)


async def fleet_member(number: int, begin: float, seconds: float) -> list[Timing]:
    """Run the callers of one process; they begin spread over one period."""
    timings: list[Timing] = []
    async with BAMLErrorHandler() as handler:
        guarded = protect(client.load().b, handler)
        period = (LATENCY + THINK) / (PROCESSES * CALLERS)
        starts = (begin + period * (number + PROCESSES * each) for each in range(CALLERS))
        await asyncio.gather(*(caller(guarded, start, begin + seconds, timings) for start in starts))
    return timings


def work(number: int, seconds: float, environment: Mapping[str, str], pipe: Connection) -> None:
    """Be one process of the fleet."""
    os.environ.update(environment)
    client.load()
    pipe.send("ready")
    pipe.send(asyncio.run(fleet_member(number, pipe.recv(), seconds)))


def fleet(
    simulator: ProviderSimulator, folder: str, seconds: float, script: Callable[[], None], **more: str
) -> tuple[float, list[Timing]]:
    """Run the processes against the simulator; gives when they began and what they saw."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["resilience.demo.client"])
    environment = {
        **simulator.environment(),
        "BAML_LOG": "off",
        "RESILIENCE_STORE_URL": f"sqlite:///{folder}/circuits.db",
        "RESILIENCE_DATABASE_URL": f"sqlite:///{folder}/history.db",
        "RESILIENCE_RETRY__ATTEMPT_TIMEOUT": "1.5",
        **more,
    }
    pipes, members = [], []
    for number in range(PROCESSES):
        ours, theirs = server.Pipe()
        members.append(server.Process(target=work, args=(number, seconds, environment, theirs)))
        members[-1].start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    script()
    simulator.begin()
    begin = time.time() + 0.5
    for pipe in pipes:
        pipe.send(begin)
    timings = [timing for pipe in pipes for timing in pipe.recv()]
    for member in members:
        member.join()
    return begin, timings


def run(fault: str, seconds: float) -> dict[str, Any]:
    """Play one fault; gives the numbers."""
    client.generate()
    start, end = seconds / 4, 3 * seconds / 4
    with tempfile.TemporaryDirectory() as folder, ProviderSimulator.in_thread() as simulator:
        for name in ("Primary", "Secondary"):
            simulator.client(name).set(Answer(delay=LATENCY))
        begin, timings = fleet(
            simulator,
            folder,
            seconds,
            lambda: simulator.client("Primary").outage(start + 0.5, end + 0.5, FAULTS[fault]),
            RESILIENCE_FALLBACK="Secondary",
            RESILIENCE_BREAKER__OPEN_FOR="2",
        )
        return report(fault, timings, simulator.requests, begin + start, begin + end)


def storm(ratio: str, seconds: float) -> dict[str, Any]:
    """Measure a total outage of the only client, with a retry budget of this ratio."""
    client.generate()
    with tempfile.TemporaryDirectory() as folder, ProviderSimulator.in_thread() as simulator:
        _, timings = fleet(
            simulator,
            folder,
            seconds,
            lambda: simulator.client("Primary").set(Status(503)),
            RESILIENCE_BREAKER__MIN_CALLS="1000000",
            RESILIENCE_BREAKER__CONSECUTIVE_FAILURES="1000000",
            RESILIENCE_BREAKER__RETRY_RATIO=ratio,
            RESILIENCE_RETRY__INITIAL_DELAY="0.2",
        )
        return {
            "storm": f"retry_ratio {ratio}",
            "first_tries": len(timings),
            "requests": len(simulator.requests),
            "requests_over_first_tries": round(len(simulator.requests) / len(timings), 3),
        }


def report(
    fault: str, timings: Sequence[Timing], log: Sequence[LoggedRequest], start: float, end: float
) -> dict[str, Any]:
    """Sum up one run."""
    inside = sorted(took for began, took, _ in timings if start <= began < end)
    healthy = sorted(took for began, took, _ in timings if began < start)
    dead = [line for line in log if line.sent != "200"]
    result = {
        "fault": fault,
        "calls": len(timings),
        "answered_percent": round(100 * sum(answered for _, _, answered in timings) / len(timings), 2),
        "calls_in_fault": len(inside),
        "dead_requests": len(dead),
        "p50_ms": round(1000 * inside[len(inside) // 2]),
        "p99_ms": round(1000 * inside[int(0.99 * len(inside))]),
        "healthy_p50_ms": round(1000 * healthy[len(healthy) // 2]),
    }
    if fault == "429":
        result["during_retry_after"] = sum(line.at < dead[0].at + RETRY_AFTER for line in dead)
    return result


def main() -> None:
    """Parse, play, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--fault", choices=sorted(FAULTS), action="append")
    parser.add_argument(
        "--storm", action="store_true", help="retries in a total outage, with the budget and without"
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    if options.storm:
        results = [storm(ratio, options.seconds) for ratio in ("0.1", "none")]
    else:
        results = [run(fault, options.seconds) for fault in options.fault or FAULTS]
    if options.json:
        print(json.dumps(results))
        return
    for result in results:
        print("  ".join(f"{name} {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
