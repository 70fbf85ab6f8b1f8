"""What calls that are left leave behind: `python -m benchmarks.leaks [--json] [--cancellations N]`.

Calls and streams, async and blocking, are left in each state: while the provider is silent, and in the middle of a stream. The
circuit is half-open all the time and admits one probe, so that a lease which does not come back refuses the next call. Counted are
threads, sockets (both ends: the provider runs in this process) and tasks, before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resilience import (
    BAMLErrorHandler,
    BreakerPolicy,
    CircuitOpenError,
    RetryPolicy,
    Settings,
    guarded_stream,
    protect,
)
from resilience.demo import client
from resilience.testing import Answer, Hang, ProviderSimulator, Status, Stream

SETTLE = 60.0
"""Seconds to wait for what is left behind; idle call threads end after 10."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What exists at a moment."""

    threads: int
    sockets: int
    tasks: int

    def no_more_than(self, other: Counts) -> bool:
        """Return whether nothing has been added to *other*."""
        return (self.threads <= other.threads) and self.sockets <= other.sockets and self.tasks <= other.tasks


def count() -> Counts:
    """Return what exists now."""
    links = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    loop = guarded_stream._loop_thread._loop  # noqa: SLF001 - its tasks are counted
    tasks = 0 if loop is None else len(asyncio.all_tasks(loop))
    with contextlib.suppress(RuntimeError):  # outside of a loop
        tasks += len(asyncio.all_tasks())
    return Counts(threading.active_count(), sum("socket:" in link for link in links), tasks)


class Interrupted(Exception):  # noqa: N818 - as a task queue raises it
    """Raised by the signal handler."""


class Case:
    """One kind of call, and the state in which it is left.

    Args:
        simulator: the provider.
        behaviour: what it does with each request.
    """

    def __init__(self, simulator: ProviderSimulator, behaviour: Any) -> None:
        self._primary = simulator.client("Primary")
        self._primary.heal()
        self._primary.script([Status(503)])
        self._primary.set(behaviour)
        self.refused = 0

    def handler(self) -> BAMLErrorHandler:
        """Return a handler whose circuit admits one probe at a time after the first failure."""
        return BAMLErrorHandler(
            settings=Settings(store_url="memory://", privacy="off"),
            retry=RetryPolicy(max_retries=0),
            breaker=BreakerPolicy(consecutive_failures=1, open_for=0.05, open_max=0.05, half_open_probes=1),
        )

    def wait_for_request(self, before: int) -> None:
        """Wait until the provider has been asked once more than *before*."""
        while self._primary.asked == before:
            time.sleep(0.002)

    @property
    def asked(self) -> int:
        """How often the provider was asked."""
        return self._primary.asked

    def heal(self) -> None:
        """Let the provider answer."""
        self._primary.set(Answer())


# --- async ------------------------------------------------------------------------------------------------------------


async def leave_async(case: Case, ask: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Cancel a call when the provider has its request; ask again if the circuit refuses."""
    while True:
        before, task = case.asked, asyncio.create_task(ask())
        while case.asked == before and not task.done():  # noqa: ASYNC110 - a counter of another thread
            await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.wait({task})
        if task.cancelled() or not isinstance(task.exception(), CircuitOpenError):
            return
        case.refused += 1


async def break_async(case: Case, stream: Callable[[], Any]) -> None:
    """Leave the loop over a stream in its middle."""
    while True:
        try:
            iterator = stream().__aiter__()
            while not await anext(iterator):
                pass
            await iterator.aclose()
        except CircuitOpenError:
            case.refused += 1
            await asyncio.sleep(0.002)
        else:
            return


async def run_async(case: Case, kind: str, cancellations: int) -> Mapping[str, Any]:
    """Leave *cancellations* async calls. Return the figures."""
    guarded = protect(importlib.import_module("baml_client.async_client").b, case.handler())

    def stream() -> Any:
        return guarded.stream.ParseResearchGoal("x")

    async def leave() -> None:
        if kind == "call":
            await leave_async(case, lambda: guarded.ParseResearchGoal("x"))
        elif kind == "stream, silent":
            await leave_async(case, lambda: stream().get_final_response())
        else:
            await break_async(case, stream)

    with contextlib.suppress(Exception):
        await guarded.ParseResearchGoal("x")
    for _ in range(3):
        await leave()
    before = count()
    for _ in range(cancellations):
        await leave()
    end = time.monotonic() + SETTLE
    while not count().no_more_than(before) and time.monotonic() < end:  # noqa: ASYNC110 - threads of others
        await asyncio.sleep(0.05)
    after = count()
    case.heal()
    answered = await until_answered(guarded)
    await guarded.resilience_handler.aclose()
    return figures(cancellations, before, after, case, answered=answered)


async def until_answered(guarded: Any) -> bool:
    """Return whether a probe is admitted and answered within the time that a lease lasts."""
    for _ in range(1000):
        with contextlib.suppress(CircuitOpenError):
            return bool(await guarded.ParseResearchGoal("x"))
        await asyncio.sleep(0.01)
    return False


# --- blocking ---------------------------------------------------------------------------------------------------------


def leave_blocking(case: Case, ask: Callable[[], Any]) -> None:
    """Interrupt a blocking call by a signal when the provider has its request; ask again if the circuit refuses."""
    while True:
        before, done = case.asked, threading.Event()

        def interrupt(before: int = before, done: threading.Event = done) -> None:
            while case.asked == before and not done.is_set():
                time.sleep(0.002)
            if not done.is_set():
                os.kill(os.getpid(), signal.SIGUSR1)

        watcher = threading.Thread(target=interrupt)
        try:
            watcher.start()
            ask()
        except CircuitOpenError:
            case.refused += 1
            done.set()
            watcher.join()
        except Interrupted:
            watcher.join()
            return


def break_blocking(case: Case, stream: Callable[[], Any]) -> None:
    """Leave the loop over a blocking stream in its middle."""
    while True:
        try:
            for snapshot in stream():
                if snapshot:
                    return
        except CircuitOpenError:
            case.refused += 1
            time.sleep(0.002)


def run_blocking(case: Case, kind: str, cancellations: int) -> Mapping[str, Any]:
    """Leave *cancellations* blocking calls. Return the figures."""
    guarded = protect(importlib.import_module("baml_client.sync_client").b, case.handler())

    def stream() -> Any:
        return guarded.stream.ParseResearchGoal("x")

    def leave() -> None:
        if kind == "call":
            leave_blocking(case, lambda: guarded.ParseResearchGoal("x"))
        elif kind == "stream, silent":
            leave_blocking(case, lambda: stream().get_final_response())
        else:
            break_blocking(case, stream)

    with contextlib.suppress(Exception):
        guarded.ParseResearchGoal("x")
    for _ in range(3):
        leave()
    before = count()
    for _ in range(cancellations):
        leave()
    end = time.monotonic() + SETTLE
    while not count().no_more_than(before) and time.monotonic() < end:
        time.sleep(0.05)
    after = count()
    case.heal()
    answered = until_answered_blocking(guarded)
    guarded.resilience_handler.close()
    return figures(cancellations, before, after, case, answered=answered)


def until_answered_blocking(guarded: Any) -> bool:
    """Return whether a probe is admitted and answered, as `until_answered`."""
    for _ in range(1000):
        with contextlib.suppress(CircuitOpenError):
            return bool(guarded.ParseResearchGoal("x"))
        time.sleep(0.01)
    return False


# --- all --------------------------------------------------------------------------------------------------------------


def figures(left: int, before: Counts, after: Counts, case: Case, *, answered: bool) -> Mapping[str, Any]:
    """Return the figures of one case. A circuit that answers again has all its leases."""
    return {
        "left": left,
        "before": asdict(before),
        "after": asdict(after),
        "refused": case.refused,
        "answered": answered,
    }


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """Raise `Interrupted` on SIGUSR1."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def run_all(simulator: ProviderSimulator, cancellations: int) -> dict[str, Mapping[str, Any]]:
    """Return the figures of each case, by its name."""
    states = {"call": Hang(), "stream, silent": Hang(), "stream, begun": Stream(fault="stall", at="content")}
    results = {}
    for kind, behaviour in states.items():
        results[f"async {kind}"] = asyncio.run(run_async(Case(simulator, behaviour), kind, cancellations))
        with signals():
            results[f"sync {kind}"] = run_blocking(Case(simulator, behaviour), kind, cancellations)
    return results


def leaks(result: Mapping[str, Any]) -> bool:
    """Return whether anything of a case was left behind."""
    return not (Counts(**result["after"]).no_more_than(Counts(**result["before"])) and result["answered"])


def main() -> None:
    """Measure, print, and fail if anything was left behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cancellations", type=int, default=1000, help="calls that are left in each state")
    options = parser.parse_args()
    logging.getLogger("resilience").setLevel(logging.ERROR)
    os.environ["BAML_LOG"] = "off"
    path: Path = client.generate()
    client.load(path)
    with ProviderSimulator.in_thread() as simulator:
        os.environ.update(simulator.environment())
        results = run_all(simulator, options.cancellations)
    if options.json:
        print(json.dumps(results))
    else:
        for name, result in results.items():
            print(f"{name:22}", *(f"{key}: {value}" for key, value in result.items()), sep="  ")
    if any(map(leaks, results.values())):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
