"""What the breaker costs: `python -m benchmarks.breaker [--json]`.

Each row is measured in this run, on this machine, in five interleaved rounds of which the median is shown. The ratio is over the bare
`await` of the same coroutine function, so that it means something on other machines too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from resilience.breaker import Breaker, BreakerPolicy, Outcome, Store, open_store
from resilience.breaker.circuit import step
from resilience.breaker.document import Document
from resilience.breaker.messages import Batch, StepRequest

ROUNDS = 5
CALLS = 20_000
STALE_CALLS = 500
STEPS = 3_000
BATCH = (Batch(0, ((Outcome.SUCCESS, 12), (Outcome.FAILURE, 1), (Outcome.SUCCESS, 30))),)
TOLERANT = BreakerPolicy(min_calls=1_000_000, consecutive_failures=1_000_000)


async def nothing() -> None:
    """The call that is guarded."""


async def bare() -> None:
    """The floor."""
    await nothing()


def guarded(breaker: Breaker) -> Callable[[], Coroutine[Any, Any, None]]:
    """The same call behind a breaker."""

    async def call() -> None:
        permit = await breaker.admit("Primary")
        await nothing()
        breaker.settle(permit, Outcome.SUCCESS)

    return call


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


async def latencies(folder: Path) -> dict[str, dict[str, float]]:
    """p50 and p99 of a guarded call, in microseconds, with views that are fresh and that are always stale."""
    stores = {"memory": "memory://", "sqlite": f"sqlite:///{folder}/latency.db"}
    fresh = {f"admit + settle, closed, {name}": Breaker(open_store(url)) for name, url in stores.items()}
    strict = {
        f"admit, stale view, {name}": Breaker(open_store(url), BreakerPolicy(max_staleness=0.0))
        for name, url in stores.items()
    }
    rows = {"bare await": (bare, CALLS)}
    rows |= {name: (guarded(breaker), CALLS) for name, breaker in fresh.items()}
    rows |= {name: (guarded(breaker), STALE_CALLS) for name, breaker in strict.items()}
    laps: dict[str, list[list[float]]] = {name: [] for name in rows}
    for _ in range(ROUNDS):
        for name, (call, calls) in rows.items():
            await call()
            laps[name].append(await lap(call, calls))
    for breaker in (fresh | strict).values():
        await asyncio.to_thread(breaker.close)
    return {
        name: {
            "p50_us": round(statistics.median(each[len(each) // 2] for each in rounds), 2),
            "p99_us": round(statistics.median(each[len(each) * 99 // 100] for each in rounds), 2),
        }
        for name, rounds in laps.items()
    }


def rates(folder: Path) -> dict[str, float]:
    """Steps per second of one thread: a batch of 43 results in three runs, and a refresh."""

    def of(store: Store, request: StepRequest) -> float:
        store.step([request])
        began = time.perf_counter()
        for _ in range(STEPS):
            store.step([request])
        return STEPS / (time.perf_counter() - began)

    def pure() -> float:
        document, began = Document(), time.perf_counter()
        for turn in range(STEPS):
            document, _ = step(document, 1_700_000_000_000 + turn, tell)
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


def measure() -> dict[str, dict[str, dict[str, float]] | dict[str, float]]:
    """Everything, as one object."""
    with tempfile.TemporaryDirectory() as folder:
        return {"latency": asyncio.run(latencies(Path(folder))), "steps_per_second": rates(Path(folder))}


def show(result: dict[str, dict[str, dict[str, float]] | dict[str, float]]) -> None:
    """Print the tables."""
    floor = result["latency"]["bare await"]
    print(f"{'one call':40}{'p50 us':>10}{'p99 us':>10}{'over bare':>11}")
    for name, row in result["latency"].items():
        if isinstance(row, dict) and isinstance(floor, dict):
            print(
                f"{name:40}{row['p50_us']:>10.2f}{row['p99_us']:>10.2f}{row['p50_us'] - floor['p50_us']:>+11.2f}"
            )
    print(f"\n{'store':40}{'steps/s':>10}")
    for name, rate in result["steps_per_second"].items():
        print(f"{name:40}{rate:>10}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    measured = measure()
    if parser.parse_args().json:
        print(json.dumps(measured, indent=2))
    else:
        show(measured)
