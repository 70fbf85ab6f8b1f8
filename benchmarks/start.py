"""What a fresh process pays: the CPU of its import, and the waits of its first calls on each store.

Each figure is a median of fresh processes that run in turn, so that other work on the machine hits all alike. `--base` names a second
checkout to compare with: both run in this environment, with the same packages.

- *import*: CPU of `from resilience import protect` in a process that has imported baml_py and pydantic, less that of one without it.
- *first*, *second*: what a call waited beyond its function, which takes 0.3 s, in milliseconds.
- *late*: how late a timer of 2 ms of the same event loop was at most, in the 4 s that follow.
- *cpu*: CPU of the process up to then, in milliseconds.

    python -m benchmarks.start [--rounds 7] [--base PATH] [--only import memory sqlite redis postgres]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from support.postgres import Postgres, fresh
from support.valkey_servers import Valkey

HERE = Path(__file__).resolve().parents[1]
BARE = "import baml_py, pydantic"
IMPORT = f"{BARE}; from resilience import protect"
AGENT = """
import asyncio, json, sys, time
from resilience import BAMLErrorHandler, Settings

async def answer():
    await asyncio.sleep(0.3)

async def watch(late):
    while True:
        begun = time.perf_counter()
        await asyncio.sleep(0.002)
        late.append(time.perf_counter() - begun - 0.002)

async def main():
    handler = BAMLErrorHandler(settings=Settings(**json.loads(sys.argv[1])))
    await asyncio.sleep(0.1)
    late, waits = [], []
    watcher = asyncio.create_task(watch(late))
    await asyncio.sleep(0.02)
    for _ in range(12):
        begun = time.perf_counter()
        await handler.call_with_retry(answer, "A", "F")
        waits.append(time.perf_counter() - begun - 0.3)
    watcher.cancel()
    figures = {"first": waits[0], "second": waits[1], "late": max(late), "cpu": time.process_time()}
    print(json.dumps({name: seconds * 1000 for name, seconds in figures.items()}), flush=True)
    await handler.aclose()

asyncio.run(main())
"""


def run(checkout: Path, program: str, *arguments: str) -> tuple[str, float]:
    """Run *program* in a new process on the code of *checkout*. Return its output, and the milliseconds of CPU that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def imports(checkouts: list[Path], rounds: int) -> None:
    """Print the CPU of the import for each of *checkouts*."""
    programs = [(HERE, BARE), *((checkout, IMPORT) for checkout in checkouts)]
    for program in programs:  # compiles what is not compiled yet
        run(*program)
    taken = [[run(*program)[1] for program in programs] for _ in range(rounds)]
    bare, *others = (statistics.median(figures) for figures in zip(*taken, strict=True))
    print(f"bare {bare:.0f} ms")
    for checkout, figure in zip(checkouts, others, strict=True):
        print(f"import {figure - bare:+.0f} ms   {checkout}")


@contextmanager
def place(store: str) -> Iterator[dict[str, str]]:
    """Give the settings of a fresh process for *store*; the history is in a file, but for `postgres`."""
    files = {"store_url": "sqlite:///circuits.db", "database_url": "sqlite:///history.db"}
    if store == "redis":
        with Valkey(tcp=True) as valkey:
            yield {**files, "store_url": valkey.url}
    elif store == "postgres":
        with Postgres() as server, fresh(server) as url:
            yield {**files, "database_url": url}
    else:
        yield files if store == "sqlite" else {**files, "store_url": "memory://"}


def first_calls(store: str, checkouts: list[Path], rounds: int) -> None:
    """Print what the first calls of fresh processes wait on *store*."""
    with place(store) as settings:
        if store == "postgres":
            program = "import sys; from resilience.history.schema import migrations; migrations.upgrade(sys.argv[1])"
            run(HERE, program, settings["database_url"])
        taken: dict[Path, list[dict[str, float]]] = {checkout: [] for checkout in checkouts}
        for _ in range(rounds):
            for checkout in checkouts:
                taken[checkout].append(json.loads(run(checkout, AGENT, json.dumps(settings))[0]))
    for checkout, figures in taken.items():
        medians = {name: statistics.median(each[name] for each in figures) for name in figures[0]}
        print(store, " ".join(f"{name} {median:.1f}" for name, median in medians.items()), checkout)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--only", nargs="*", default=["import", "memory", "sqlite", "redis", "postgres"])
    given = parser.parse_args()
    checkouts = [HERE, *([given.base.resolve()] if given.base else [])]
    for what in given.only:
        if what == "import":
            imports(checkouts, given.rounds)
        else:
            first_calls(what, checkouts, given.rounds)


if __name__ == "__main__":
    main()
