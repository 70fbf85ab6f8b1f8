"""What an outage costs a fleet: `python -m benchmarks.outage [--json] [--scene NAME] [--seconds S] [--storm]`.

Four processes with 20 callers each, a provider that takes 200 ms, 600 ms of thought between calls (about 100 calls a second),
a fault on the first of two clients, by default for 5 s. The circuits have the shipped policy. The scenes:

- `503`, `429` (with `Retry-After: 3`), `hang`: the fault, then 25 s to come back.
- `hang-caller-probes`: the same hang with `probe_beside=False`, for comparison.
- `long`: 503 for a minute, two callers a process.

Counted at the provider: requests that met the fault, those after its first second, the most of them in 100 ms after that, for
429 also those sent while the stated wait was running. Measured: the seconds from the end of the fault to the first answer of the
first client, and to the moment from which it gives half of the answers. At the callers: success, latency, and calls that began
after the first attempts of the fault had ended and still waited for one: they paid for a probe.

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
from typing import Any, NamedTuple

from resilience import BAMLErrorHandler, protect
from resilience.demo import client
from resilience.testing import Answer, Behaviour, Hang, LoggedRequest, ProviderSimulator, Status

PROCESSES, CALLERS = 4, 20
LATENCY, THINK, RETRY_AFTER = 0.2, 0.6, 3
ATTEMPT_TIMEOUT = 1.5
BEFORE, AFTER = 2.5, 25.0
"""Seconds before and after the fault."""


class Scene(NamedTuple):
    """One fault, and how the fleet meets it."""

    behaviour: Behaviour
    seconds: float = 5.0
    callers: int = CALLERS
    settings: Mapping[str, str] = {}


SCENES: dict[str, Scene] = {
    "503": Scene(Status(503)),
    "429": Scene(Status(429, retry_after=RETRY_AFTER)),
    "hang": Scene(Hang()),
    "hang-caller-probes": Scene(Hang(), settings={"RESILIENCE_BREAKER__PROBE_BESIDE": "false"}),
    "long": Scene(Status(503), seconds=60.0, callers=2),
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


async def fleet_member(number: int, begin: float, seconds: float, callers: int) -> list[Timing]:
    """Run the callers of one process; they begin spread over one period."""
    timings: list[Timing] = []
    async with BAMLErrorHandler() as handler:
        guarded = protect(client.load().b, handler)
        period = (LATENCY + THINK) / (PROCESSES * callers)
        starts = (begin + period * (number + PROCESSES * each) for each in range(callers))
        await asyncio.gather(*(caller(guarded, start, begin + seconds, timings) for start in starts))
    return timings


def work(number: int, seconds: float, callers: int, environment: Mapping[str, str], pipe: Connection) -> None:
    """Be one process of the fleet."""
    os.environ.update(environment)
    client.load()
    pipe.send("ready")
    pipe.send(asyncio.run(fleet_member(number, pipe.recv(), seconds, callers)))


def fleet(
    simulator: ProviderSimulator,
    folder: str,
    seconds: float,
    script: Callable[[], None],
    callers: int = CALLERS,
    **more: str,
) -> tuple[float, list[Timing]]:
    """Run the processes against the simulator. Return when they began and what they saw."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["resilience.demo.client"])
    environment = {
        **simulator.environment(),
        "BAML_LOG": "off",
        "RESILIENCE_STORE_URL": f"sqlite:///{folder}/circuits.db",
        "RESILIENCE_DATABASE_URL": f"sqlite:///{folder}/history.db",
        "RESILIENCE_RETRY__ATTEMPT_TIMEOUT": str(ATTEMPT_TIMEOUT),
        **more,
    }
    pipes, members = [], []
    for number in range(PROCESSES):
        ours, theirs = server.Pipe()
        members.append(server.Process(target=work, args=(number, seconds, callers, environment, theirs)))
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


def run(name: str, seconds: float | None) -> dict[str, Any]:
    """Play one scene and return the numbers."""
    client.generate()
    scene = SCENES[name]
    start, end = BEFORE, BEFORE + (seconds or scene.seconds)
    with tempfile.TemporaryDirectory() as folder, ProviderSimulator.in_thread() as simulator:
        for backup in ("Primary", "Secondary"):
            simulator.client(backup).set(Answer(delay=LATENCY))
        # The simulator counts from `begin`, the callers half a second later.
        begin, timings = fleet(
            simulator,
            folder,
            end + AFTER,
            lambda: simulator.client("Primary").outage(start + 0.5, end + 0.5, scene.behaviour),
            scene.callers,
            RESILIENCE_FALLBACK="Secondary",
            **scene.settings,
        )
        result = of_callers(timings, begin + start, begin + end)
        result |= of_provider(simulator.requests, start + 0.5, end + 0.5)
        return {"scene": name, "load": round(os.getloadavg()[0], 1), **result}


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


def of_callers(timings: Sequence[Timing], start: float, end: float) -> dict[str, Any]:
    """Return what the callers saw of a fault from *start* to *end*."""
    inside = sorted(took for began, took, _ in timings if start <= began < end)
    healthy = sorted(took for began, took, _ in timings if began < start)
    later = (took for began, took, _ in timings if began >= start + 2 * ATTEMPT_TIMEOUT)
    return {
        "calls": len(timings),
        "answered_percent": round(100 * sum(answered for _, _, answered in timings) / len(timings), 2),
        "calls_in_fault": len(inside),
        "p50_ms": round(1000 * inside[len(inside) // 2]),
        "p99_ms": round(1000 * inside[int(0.99 * len(inside))]),
        "healthy_p50_ms": round(1000 * healthy[len(healthy) // 2]),
        "paid_for_a_probe": sum(took >= ATTEMPT_TIMEOUT for took in later),
    }


def of_provider(log: Sequence[LoggedRequest], start: float, end: float) -> dict[str, Any]:
    """Return what the provider saw of a fault from *start* to *end*, in seconds of the simulator."""
    dead = [line.at for line in log if line.sent != "200"]
    later = [at for at in dead if at >= dead[0] + 1.0]
    back = [line.at for line in log if line.sent == "200" and line.client == "Primary" and line.at >= end]
    result: dict[str, Any] = {
        "dead_requests": len(dead),
        "dead_after_1_s": len(later),
        "dead_per_minute_after_1_s": round(60 * len(later) / (end - start), 1),
        "most_dead_in_100_ms": max(
            (sum(at <= other < at + 0.1 for other in later) for at in later), default=0
        ),
        "first_answer_after_s": round(back[0] - end, 1) if back else None,
        "half_back_after_s": half_back(log, end),
    }
    if any(line.sent == "429" for line in log):
        result["during_retry_after"] = sum(at < dead[0] + RETRY_AFTER for at in dead)
    return result


def half_back(log: Sequence[LoggedRequest], end: float) -> float | None:
    """Return the seconds from *end* to the first whole second in which the first client gets half of the requests or more."""
    seconds: dict[int, list[bool]] = {}
    for line in log:
        if line.at >= end:
            seconds.setdefault(int(line.at - end), []).append(line.client == "Primary")
    return next((float(second) for second, own in sorted(seconds.items()) if 2 * sum(own) >= len(own)), None)


def main() -> None:
    """Parse, play, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--scene", choices=sorted(SCENES), action="append")
    parser.add_argument(
        "--storm", action="store_true", help="retries in a total outage, with the budget and without"
    )
    parser.add_argument("--seconds", type=float, help="length of the fault, or of the storm")
    options = parser.parse_args()
    if options.storm:
        results = [storm(ratio, options.seconds or 10.0) for ratio in ("0.1", "none")]
    else:
        results = [run(scene, options.seconds) for scene in options.scene or SCENES]
    if options.json:
        print(json.dumps(results))
        return
    for result in results:
        print("  ".join(f"{name} {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
