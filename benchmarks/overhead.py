"""What the whole layer adds to a bare BAML call, with history and all logs on: `python -m benchmarks.overhead --help`.

Calls are made in blocks, bare and guarded in turn, each round beginning with another variant. After a block the process drains: what a
call left to the background threads is counted for the call that left it. So a drift of the machine affects all variants alike, and
neither pays for the other. The provider is `lean_provider`, in a process of its own.

`--rate` paces the calls as agents do; `--rate 1` is the call after a silence. `--start-up` measures the import and the first call.
`--parts` measures the layer also without its logs, without its history and logs, and without a store too. `--floors` adds bare calls that
wake a thread, which does nothing, or the least that a log and a history could do. `--lateness` also measures how late a timer of 2 ms of
the same event loop is, and `--busy` starts loops beside it: `--rate 100 --block 200 --lateness --busy 2`.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.floors import Floor, line_writer, row_writer
from benchmarks.lean_provider import lean_provider
from benchmarks.process_costs import OWN, Costs, costs, resident
from benchmarks.servers import shared_redis
from resilience import BAMLErrorHandler, FallbackPolicy, Settings, protect
from resilience.demo import client

Call = Callable[[], Awaitable[Any]]
_GOAL: Final = "Find out why"
_WARM_UP: Final = 30
_QUIET: Final = 0.03
"""Seconds without work of our threads after which a process counts as drained."""
_TICK: Final = 0.002
"""Seconds of the timers whose lateness is measured."""


@dataclass(slots=True)
class Block:
    """A block of calls of one variant.

    Attributes:
        seconds: how long each call took.
        spent: what the process spent, drained.
        wall: seconds from the first call to the end of the last.
        late: how many seconds each timer of the event loop was late; empty without `--lateness`.
    """

    seconds: list[float]
    spent: Costs
    wall: float
    late: list[float]


@dataclass(slots=True)
class Variant:
    """One variant to make a call.

    Attributes:
        call: makes it once.
        drain: writes what it has left to the background.
        blocks: what was measured.
    """

    call: Call
    drain: Callable[[], Awaitable[Any]] | None = None
    blocks: list[Block] = field(default_factory=list)


# --- measuring ---------------------------------------------------------------------------------------------------------------------


async def tick(late: list[float]) -> None:
    """Note how late each timer is, until cancelled."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(_TICK)
        late.append(time.perf_counter() - began - _TICK)


async def run_block(
    variant: Variant, calls: int, rate: float, in_flight: int, *, lateness: bool = False
) -> Block:
    """Make *calls* calls and drain. With *rate*, one each 1/rate seconds; else back to back, *in_flight* at a time."""
    seconds: list[float] = []
    late: list[float] = []
    ticker = asyncio.create_task(tick(late)) if lateness else None

    async def once() -> None:
        began = time.perf_counter()
        await variant.call()
        seconds.append(time.perf_counter() - began)

    async def caller() -> None:
        for _ in range(calls // in_flight):
            await once()

    before, began = costs(), time.perf_counter()
    if rate:
        for number in range(calls):
            await asyncio.sleep(max(0.0, began + (number + 1) / rate - time.perf_counter()))
            await once()
    elif in_flight == 1:
        await caller()
    else:
        await asyncio.gather(*(caller() for _ in range(in_flight)))
    wall = time.perf_counter() - began
    if ticker is not None:
        ticker.cancel()
    await drained(variant)
    return Block(seconds, costs() - before, wall, late)


async def drained(variant: Variant) -> None:
    """Wait until the background has done its work, a second at most."""
    if variant.drain is not None:
        await variant.drain()
    for _ in range(30):
        before = costs()
        await asyncio.sleep(_QUIET)
        spent = costs() - before
        if spent.cpu["writer"] + spent.cpu["sync"] < 50:  # noqa: PLR2004 - microseconds: a thread that only woke
            return


async def measure(variants: dict[str, Variant], options: argparse.Namespace) -> dict[str, float]:
    """Measure all variants in blocks. Return the memory that each took at its first use, in MB."""
    memory: dict[str, float] = {}
    for name, variant in variants.items():
        before = resident()
        await run_block(variant, _WARM_UP, 0.0, 1)
        memory[name] = resident() - before
    names = list(variants)
    for number in range(options.rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            block = await run_block(
                variants[name], options.block, options.rate, options.in_flight, lateness=options.lateness
            )
            variants[name].blocks.append(block)
    return memory


# --- variants --------------------------------------------------------------------------------------------------------------------------


def calls_of(b: Any, options: argparse.Namespace) -> Call:
    """Return what makes one call of *b*."""
    if options.stream:

        async def stream() -> Any:
            return await b.stream.ParseResearchGoal(_GOAL).get_final_response()

        return stream
    if options.sync:

        async def blocking() -> Any:
            return b.ParseResearchGoal(_GOAL)

        return blocking

    async def call() -> Any:
        return await b.ParseResearchGoal(_GOAL)

    return call


def collected(b: Any) -> Call:
    """Return a call with a Collector whose answer is read: the least that any guard must do."""
    baml_py: Any = importlib.import_module("baml_py")

    async def call() -> Any:
        collector = baml_py.Collector("x")
        result = await b.ParseResearchGoal(_GOAL, baml_options={"collector": [collector]})
        collector.last.calls[-1].http_response.body.text()
        return result

    return call


def floors(b: Any, options: argparse.Namespace, folder: Path) -> dict[str, Variant]:
    """Return bare calls that wake a thread."""
    works = {"wake": None, "line": line_writer(folder), "row": row_writer(folder)}

    def waking(floor: Floor) -> Call:
        bare = calls_of(b, options)

        async def call() -> Any:
            result = await bare()
            floor.wake()
            return result

        return call

    return {f"bare, {name}": Variant(waking(Floor(work))) for name, work in works.items()}


def layers(folder: Path, store: str, *, parts: bool) -> dict[str, Settings]:
    """Return the settings of each guarded variant."""
    history, logs = f"sqlite:///{folder}/history.db", str(folder / "logs")
    whole = Settings(store_url=store, database_url=history, log_dir=logs, namespace="overhead")
    if not parts:
        return {"guarded": whole}
    no_logs = Settings(store_url=store, database_url=f"sqlite:///{folder}/other.db", namespace="overhead")
    nothing = Settings(store_url=store, privacy="off", namespace="overhead")
    alone = Settings(store_url="memory://", privacy="off", namespace="overhead")
    return {"guarded": whole, "no logs": no_logs, "no history": nothing, "no store": alone}


async def measure_all(options: argparse.Namespace, folder: Path, store: str) -> dict[str, Any]:
    """Run the comparison and return its report."""
    baml = client.load()
    b = importlib.import_module("baml_client.sync_client").b if options.sync else baml.b
    variants = {"bare": Variant(calls_of(b, options))}
    if not (options.sync or options.stream):
        variants["collector"] = Variant(collected(b))
    if options.floors:
        variants |= floors(b, options, folder)
    async with AsyncExitStack() as stack:
        for name, settings in layers(folder, store, parts=options.parts).items():
            handler = BAMLErrorHandler(settings=settings, fallback=FallbackPolicy(clients=("Secondary",)))
            await stack.enter_async_context(handler)
            variants[name] = Variant(calls_of(protect(b, handler), options), drain_of(handler))
        memory = await measure(variants, options)
    return report(variants, memory)


def drain_of(handler: BAMLErrorHandler) -> Callable[[], Awaitable[Any]]:
    """Return what writes all that a handler has recorded."""

    async def drain() -> None:
        await asyncio.to_thread(handler._open().recorder.flush)  # noqa: SLF001 - no public name: only a benchmark needs it

    return drain


# --- figures -----------------------------------------------------------------------------------------------------------------------


def report(variants: dict[str, Variant], memory: dict[str, float]) -> dict[str, Any]:
    """Return the figures of each variant, and the differences to the bare call: medians over the rounds."""
    bare, figures = variants["bare"], dict[str, Any]()
    for name, variant in variants.items():
        spent = sum((block.spent for block in variant.blocks), Costs())
        seconds = sorted(second for block in variant.blocks for second in block.seconds)
        calls = len(seconds)
        figures[name] = {
            "p50_us": _round(statistics.median(seconds) * 1e6),
            "mean_us": _round(statistics.fmean(seconds) * 1e6),
            "p99_us": _round(seconds[int(0.99 * (calls - 1))] * 1e6),
            "added_p50_us": _round(_difference(bare, variant, statistics.median) * 1e6),
            "added_mean_us": _round(_difference(bare, variant, statistics.fmean) * 1e6),
            "cpu_us": _round(spent.total / calls),
            "cpu_by_thread_us": {thread: _round(spent.cpu[thread] / calls) for thread in OWN},
            "kb_written": round(spent.written / calls / 1000, 2),
            "calls_per_s": _round(calls / sum(block.wall for block in variant.blocks)),
            "mb_at_first_use": _round(memory[name]),
        }
        if late := sorted(second for block in variant.blocks for second in block.late):
            figures[name]["late_p50_us"] = _round(statistics.median(late) * 1e6)
            figures[name]["late_p99_us"] = _round(late[int(0.99 * (len(late) - 1))] * 1e6)
    for measured in figures.values():
        for figure in ("p50", "mean"):
            share = 100 * measured[f"added_{figure}_us"] / figures["bare"][f"{figure}_us"]
            measured[f"added_{figure}_percent"] = round(share, 1)
        for figure in ("cpu_us", "calls_per_s"):
            measured[f"{figure}_ratio"] = round(measured[figure] / figures["bare"][figure], 2)
    return figures


def _difference(bare: Variant, variant: Variant, of: Callable[[list[float]], float]) -> float:
    pairs = zip(variant.blocks, bare.blocks, strict=True)
    return statistics.median(of(mine.seconds) - of(theirs.seconds) for mine, theirs in pairs)


def _round(value: float) -> float:
    return round(value, 1)


def show(figures: dict[str, Any]) -> None:
    """Print the report as a table."""
    print(
        "variant           p50 us  added       %  mean us  added       %   p99 us   CPU us  ratio  KB  calls/s"
    )
    for name, of in figures.items():
        print(
            f"{name:11}{of['p50_us']:9.0f}{of['added_p50_us']:7.0f}{of['added_p50_percent']:8.1f}"
            f"{of['mean_us']:9.0f}{of['added_mean_us']:7.0f}{of['added_mean_percent']:8.1f}{of['p99_us']:9.0f}"
            f"{of['cpu_us']:9.0f}{of['cpu_us_ratio']:7.2f}{of['kb_written']:5.1f}{of['calls_per_s']:8.0f}"
        )
    for name, of in figures.items():
        threads = ", ".join(f"{thread} {cpu:.0f}" for thread, cpu in of["cpu_by_thread_us"].items() if cpu)
        print(f"  {name}: CPU us by thread: {threads}; {of['mb_at_first_use']:.0f} MB at first use")
        if "late_p99_us" in of:
            print(
                f"  {name}: timers late by {of['late_p50_us']:.0f} us (p50), {of['late_p99_us']:.0f} us (p99)"
            )


# --- start-up ----------------------------------------------------------------------------------------------------------------------

_IMPORT: Final = """
import time
import baml_py
began = time.process_time()
import resilience
resilience.protect, resilience.BAMLErrorHandler
print(time.process_time() - began)
"""


def start_up(runs: int) -> None:
    """Print the CPU seconds of the import beyond baml_py, each in a new process."""
    seconds = []
    for _ in range(runs):
        command = [sys.executable, "-c", _IMPORT]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds.append(float(ran.stdout))
    print(
        f"import beyond baml_py: {min(seconds):.3f} s of CPU at best, median {statistics.median(seconds):.3f}"
    )


def main() -> None:
    """Parse the arguments, measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--block", type=int, default=50, help="calls of a block")
    parser.add_argument("--rate", type=float, default=0.0, help="calls a second; 0 makes them back to back")
    parser.add_argument("--in-flight", type=int, default=1, help="callers at a time")
    parser.add_argument("--delay", type=float, default=0.0, help="the provider's latency in ms")
    parser.add_argument("--size", type=int, default=700, help="characters of an answer")
    parser.add_argument("--store", choices=("sqlite", "redis", "memory"), default="sqlite")
    parser.add_argument("--sync", action="store_true", help="the blocking client")
    parser.add_argument("--stream", action="store_true", help="streams, read to their end")
    parser.add_argument("--parts", action="store_true", help="also without logs, history, store")
    parser.add_argument("--floors", action="store_true", help="also bare calls that wake a thread")
    parser.add_argument("--start-up", action="store_true", help="measure the import alone")
    parser.add_argument("--lateness", action="store_true", help="also how late timers of the event loop are")
    parser.add_argument("--busy", type=int, default=0, help="busy loops beside the calls")
    options = parser.parse_args()
    os.environ.setdefault("BAML_LOG", "off")
    if options.start_up:
        start_up(options.rounds)
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ.update(stack.enter_context(lean_provider(options.size, options.delay / 1000)))
        stores = {"sqlite": f"sqlite:///{folder}/circuits.db", "memory": "memory://"}
        store = stores.get(options.store) or stack.enter_context(shared_redis())
        for _ in range(options.busy):
            loop = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(loop.kill)
        figures = asyncio.run(measure_all(options, folder, store))
    if options.json:
        print(json.dumps(figures))
    else:
        show(figures)


if __name__ == "__main__":
    main()
