"""What the breaker costs: `python -m benchmarks.breaker [--json] [--seconds S] [--guard NAME]`.

Each row is measured in this run, on this machine, in five interleaved rounds of which the median is shown; `over bare` is what is added
to the bare `await` of the same coroutine function. Redis is the one that `RESILIENCE_REDIS_URL` names, or a Valkey of this run's own;
rivals stand beside us where the dependency group `bench` is installed. The fleet's load is 8 processes with 1000 calls a second each on
one circuit: requests are what clients sent to Redis, commands also what its scripts did there, both by its own statistics.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from benchmarks import guards
from benchmarks.guards import Rules
from benchmarks.load import fleet_load, steps_per_second
from benchmarks.servers import shared_redis
from resilience.breaker import Breaker, BreakerPolicy, Outcome, Store, open_store
from resilience.breaker.circuit import step
from resilience.breaker.messages import Batch, StepRequest
from resilience.breaker.state import CircuitData

PROCESSES, RATE = 8, 1000
ROUNDS = 5
CALLS = 20_000
STALE_CALLS = 500
STEPS = 3_000
BATCH = (Batch(0, ((Outcome.SUCCESS, 12), (Outcome.FAILURE, 1), (Outcome.SUCCESS, 30))),)
TOLERANT = BreakerPolicy(min_calls=1_000_000, consecutive_failures=1_000_000)

Result = dict[str, dict[str, dict[str, float]]]


async def nothing() -> None:
    """Do nothing: this is the guarded call."""


async def bare() -> None:
    """Measure the floor: the call alone."""
    await nothing()


def guarded(breaker: Breaker) -> Callable[[], Coroutine[Any, Any, None]]:
    """Make the same call behind a breaker."""

    async def call() -> None:
        permit = await breaker.admit("Primary")
        await nothing()
        breaker.settle(permit, Outcome.SUCCESS)

    return call


def rules(redis: str, name: str) -> Rules:
    """Return rules of a circuit that never opens, new in each run."""
    return Rules(url=redis, circuit=f"bench-{os.getpid()}-{name}")


async def lap(call: Callable[[], Coroutine[Any, Any, None]], calls: int) -> list[float]:
    """Microseconds of each call, in order of size."""
    clock, times = time.perf_counter_ns, []
    for _ in range(calls):
        began = clock()
        await call()
        times.append((clock() - began) / 1000)
        if not len(times) % 64:
            await asyncio.sleep(0)
    return sorted(times)


async def latencies(folder: Path, redis: str, rivals: Sequence[str]) -> dict[str, dict[str, float]]:
    """p50 and p99 of a guarded call, in microseconds, with views that are fresh and that are always stale."""
    stores = {"memory": "memory://", "sqlite": f"sqlite:///{folder}/latency.db", "redis": redis}
    fresh = {f"admit + settle, closed, {name}": Breaker(open_store(url)) for name, url in stores.items()}
    strict = {
        f"admit, stale view, {name}": Breaker(open_store(url), BreakerPolicy(max_staleness=0.0))
        for name, url in stores.items()
    }
    rows = {"bare await": (bare, CALLS)}
    rows |= {name: (guarded(breaker), CALLS) for name, breaker in fresh.items()}
    rows |= {name: (guarded(breaker), STALE_CALLS) for name, breaker in strict.items()}
    others = {name: guards.make(name, rules(redis, f"latency-{name}")) for name in rivals}
    for name, guard in others.items():
        await guard.warm()
        rows[f"{name}, redis"] = (functools.partial(guard.call, nothing), STALE_CALLS)
    laps: dict[str, list[list[float]]] = {name: [] for name in rows}
    for _ in range(ROUNDS):
        for name, (call, calls) in rows.items():
            await call()
            laps[name].append(await lap(call, calls))
    for breaker in (fresh | strict).values():
        await asyncio.to_thread(breaker.close)
    for guard in others.values():
        await guard.close()
    return {
        name: {
            "p50_us": round(statistics.median(each[len(each) // 2] for each in rounds), 2),
            "p99_us": round(statistics.median(each[len(each) * 99 // 100] for each in rounds), 2),
        }
        for name, rounds in laps.items()
    }


def rates(folder: Path) -> dict[str, float]:
    """Return the steps per second of one thread: a batch of 43 results in three runs, and a refresh."""

    def of(store: Store, request: StepRequest) -> float:
        store.step([request])
        began = time.perf_counter()
        for _ in range(STEPS):
            store.step([request])
        return STEPS / (time.perf_counter() - began)

    def pure() -> float:
        data, began = CircuitData(), time.perf_counter()
        for turn in range(STEPS):
            data, _ = step(data, 1_700_000_000_000 + turn, tell)
        return STEPS / (time.perf_counter() - began)

    tell, ask = (
        StepRequest(client="Primary", policy=TOLERANT, batches=BATCH),
        StepRequest(client="Primary", policy=TOLERANT),
    )
    memory, sqlite = open_store("memory://"), open_store(f"sqlite:///{folder}/rate.db")
    kinds: dict[str, Callable[[], float]] = {
        "circuit alone, batch": pure,
        "memory, batch": lambda: of(memory, tell),
        "sqlite, batch": lambda: of(sqlite, tell),
        "sqlite, refresh": lambda: of(sqlite, ask),
    }
    rounds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, kind in kinds.items():
            rounds[name].append(kind())
    memory.close()
    sqlite.close()
    return {name: round(statistics.median(values)) for name, values in rounds.items()}


def measure(names: Sequence[str], seconds: float) -> Result:
    """Everything, as one object."""
    with tempfile.TemporaryDirectory() as folder, shared_redis() as redis:
        rivals = [name for name in names if name != guards.OURS]
        return {
            "latency": asyncio.run(latencies(Path(folder), redis, rivals)),
            "load": {
                name: fleet_load(
                    name, rules(redis, f"load-{name}"), processes=PROCESSES, rate=RATE, seconds=seconds
                )
                for name in names
            },
            "steps_per_second": {"": rates(Path(folder))},
            "steps_per_second_of_one_redis_core": {"": steps_per_second(redis)},
        }


def show(result: Result) -> None:
    """Print the tables."""
    floor = result["latency"]["bare await"]["p50_us"]
    print(f"{'one call':40}{'p50 us':>10}{'p99 us':>10}{'over bare':>11}")
    for name, row in result["latency"].items():
        print(f"{name:40}{row['p50_us']:>10.2f}{row['p99_us']:>10.2f}{row['p50_us'] - floor:>+11.2f}")
    print(
        f"\n{f'{PROCESSES} x {RATE} calls/s':24}" + "".join(f"{title:>23}" for title in _load_titles(result))
    )
    for name, row in result["load"].items():
        print(f"{name:24}" + "".join(f"{figure:>23}" for figure in row.values()))
    for title in ("steps_per_second", "steps_per_second_of_one_redis_core"):
        print(f"\n{title.replace('_', ' ')}")
        for name, rate in result[title][""].items():
            print(f"{name:40}{rate:>10.0f}")


def _load_titles(result: Result) -> list[str]:
    return list(next(iter(result["load"].values()), {}))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each load lasts (4)")
    parser.add_argument("--guard", action="append", choices=guards.installed(), help="measure only these")
    options = parser.parse_args()
    measured = measure(options.guard or guards.installed(), options.seconds)
    if options.json:
        print(json.dumps({**measured, "left_out": guards.missing()}, indent=2))
        return
    show(measured)
    if guards.missing():
        print(guards.missing())


if __name__ == "__main__":
    main()
