"""What the whole layer adds to a bare BAML call: `python -m benchmarks.overhead [--json] [--pairs N] [--delay MS]`.

Bare and guarded calls alternate within one run against a provider on loopback in another process, so that a drift of the
machine affects both alike. The figures are medians of pairs and their ratio. The SQLite store, the history and all logs are on.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from resilience import BAMLErrorHandler, FallbackPolicy, Settings, protect
from resilience.demo import client
from resilience.testing import Answer, ProviderSimulator

Call = Callable[[], Awaitable[Any]]


def serve(pipe: Connection, delay: float) -> None:
    """Run the provider until the parent process sends a message."""
    with ProviderSimulator.in_thread() as simulator:
        for name in ("Primary", "Secondary", "Tertiary"):
            simulator.client(name).set(Answer(delay=delay))
        pipe.send(simulator.environment())
        pipe.recv()


@contextmanager
def provider(delay: float) -> Iterator[dict[str, str]]:
    """Run the provider in another process. Yield the environment variables that lead to it."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs, delay), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("stop")
        process.join()


async def compare(variants: dict[str, Call], pairs: int) -> dict[str, list[float]]:
    """Time each variant once a round, each round beginning with another one. Return the seconds of each call."""
    names = list(variants)
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in names * 30:
        await variants[name]()
    for round_number in range(pairs):
        first = round_number % len(names)
        for name in names[first:] + names[:first]:
            started = time.perf_counter()
            await variants[name]()
            times[name].append(time.perf_counter() - started)
    return times


async def measure(pairs: int, folder: Path) -> dict[str, Any]:
    """Run the comparison and return its report."""
    # Imported late: the provider's process was started without it.
    baml_py: Any = importlib.import_module("baml_py")

    baml = client.load()
    b, goal = baml.b, "Find out why"

    async def bare() -> Any:
        return await b.ParseResearchGoal(goal)

    async def routed() -> Any:
        registry = baml_py.ClientRegistry()
        registry.set_primary("Primary")
        return await b.ParseResearchGoal(goal, baml_options={"client_registry": registry})

    async def collected() -> Any:
        registry, collector = baml_py.ClientRegistry(), baml_py.Collector("x")
        registry.set_primary("Primary")
        result = await b.ParseResearchGoal(
            goal, baml_options={"client_registry": registry, "collector": [collector]}
        )
        collector.last.calls[-1].http_response.body.text()
        return result

    settings = Settings(
        store_url=f"sqlite:///{folder}/circuits.db",
        database_url=f"sqlite:///{folder}/history.db",
        log_dir=str(folder / "logs"),
    )
    async with BAMLErrorHandler(
        settings=settings, fallback=FallbackPolicy(clients=("Secondary",))
    ) as handler:
        guarded_client = protect(b, handler)

        async def guarded() -> Any:
            return await guarded_client.ParseResearchGoal(goal)

        async def engine_alone() -> Any:
            return await handler.call_with_fallback(lambda _: do_nothing, "Nothing", "Primary")

        times = await compare(
            {"bare": bare, "routed": routed, "collected": collected, "guarded": guarded}, pairs
        )
        alone = await compare({"engine": engine_alone}, pairs)
    return report(times, alone["engine"])


async def do_nothing() -> None:
    """Return immediately: what is left of a call is the layer itself."""


def report(times: dict[str, list[float]], engine: list[float]) -> dict[str, Any]:
    """Return medians in microseconds, and pairwise differences to the bare call."""
    base = statistics.median(times["bare"])

    def added(name: str) -> float:
        return statistics.median(a - b for a, b in zip(times[name], times["bare"], strict=True)) * 1e6

    return {
        "bare_us": round(base * 1e6, 1),
        "guarded_us": round(statistics.median(times["guarded"]) * 1e6, 1),
        "added_us": {
            "route to a named client": round(added("routed"), 1),
            "route and read the Collector": round(added("collected"), 1),
            "whole layer": round(added("guarded"), 1),
        },
        "engine_alone_us": round(statistics.median(engine) * 1e6, 1),
        "overhead_percent": round(100 * added("guarded") / (base * 1e6), 1),
        "pairs": len(times["bare"]),
    }


def main() -> None:
    """Parse the arguments, measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pairs", type=int, default=1500)
    parser.add_argument("--delay", type=float, default=0.0, help="the provider's latency in ms")
    options = parser.parse_args()
    os.environ.setdefault("BAML_LOG", "off")
    with tempfile.TemporaryDirectory() as folder, provider(options.delay / 1000) as environment:
        os.environ.update(environment)
        figures = asyncio.run(measure(options.pairs, Path(folder)))
    figures["provider_latency_ms"] = options.delay
    if options.json:
        print(json.dumps(figures))
        return
    print(
        f"bare BAML call      {figures['bare_us']:8.1f} us   ({figures['pairs']} rounds, provider latency {options.delay:g} ms)"
    )
    for part, cost in figures["added_us"].items():
        print(f"  + {part:30} {cost:8.1f} us")
    print(
        f"engine alone        {figures['engine_alone_us']:8.1f} us   (admit, settle and record, around a call that does nothing)"
    )
    print(f"overhead            {figures['overhead_percent']:8.1f} %")


if __name__ == "__main__":
    main()
