"""What comes back when a cool-down ends: `python -m benchmarks.cooldown [--json] [--store NAME] [--fleet NAME] [--refused-after S]`.

Processes share callers of one client, which has no backup. A caller asks (0.2 s), thinks 0.6 s and asks again. The client refuses with 429
and `Retry-After: 3` for 4 s. So the first cool-down ends while it still refuses, the second when it is well again. Counted:

- *refused*: requests that the client refused after the first cool-down had ended: the limit is 8 for each end of a cool-down.
- *failed*: calls that were raised instead of waiting.
- *full_after_s*: seconds from the first answer after the fault until as many requests as there are callers have begun.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any, Final

from benchmarks.rows import print_rows
from benchmarks.servers import shared_redis
from resilience import BAMLErrorHandler, RetryPolicy

LATENCY: Final = 0.2
THINK: Final = 0.6
BEGINS: Final = 1.5
ENDS: Final = 5.5
SECONDS: Final = 11.0
STATED: Final = 3
FLEETS: Final = {"4x20": (4, 20), "8x50": (8, 50)}
STORES: Final = ("redis", "sqlite")
REFUSED_AFTER: Final = (0.02, 0.2)

Request = tuple[float, bool]
"""When a request began, in seconds of the scene, and whether it was refused."""


class RefusedError(Exception):
    """A 429, as an SDK raises it."""

    def __init__(self) -> None:
        super().__init__("Error code: 429")
        self.status_code = 429
        self.headers = {"retry-after": str(STATED)}


async def member(
    number: int, fleet: str, refused_after: float, pipe: Connection
) -> tuple[list[Request], int]:
    """Run the callers of one process. Return its requests, and how many calls failed."""
    processes, callers = FLEETS[fleet]
    requests: list[Request] = []
    failed = 0
    async with BAMLErrorHandler(retry=RetryPolicy(max_retries=5, attempt_timeout=2.0)) as handler:

        async def ask() -> None:
            at = time.monotonic() - begin
            refused = BEGINS <= at < ENDS
            requests.append((at, refused))
            await asyncio.sleep(refused_after if refused else LATENCY)
            if refused:
                raise RefusedError

        async def caller(each: int) -> None:
            nonlocal failed
            spread = (LATENCY + THINK) * (number + processes * each) / (processes * callers)
            await asyncio.sleep(begin + spread - time.monotonic())
            while time.monotonic() - begin < SECONDS:
                try:
                    await handler.call_with_retry(ask, "A", "F")
                except Exception:  # noqa: BLE001 - a failed call is a number here
                    failed += 1
                await asyncio.sleep(THINK)

        begin = time.monotonic() - SECONDS
        await handler.call_with_retry(ask, "A", "F")
        requests.clear()
        pipe.send("ready")
        begin = await asyncio.to_thread(pipe.recv)
        await asyncio.gather(*(caller(each) for each in range(callers)))
    return requests, failed


def work(number: int, fleet: str, refused_after: float, settings: dict[str, str], pipe: Connection) -> None:
    """Be one process of the fleet."""
    os.environ.update(settings)
    logging.disable(logging.CRITICAL)
    pipe.send(asyncio.run(member(number, fleet, refused_after, pipe)))


def play(store: str, fleet: str, refused_after: float) -> dict[str, Any]:
    """Play one scene and return its figures."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["resilience.handler"])
    pipes = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        redis = stack.enter_context(shared_redis()) if store == "redis" else ""
        settings = {
            "RESILIENCE_STORE_URL": redis or f"sqlite:///{folder}/circuits.db",
            "RESILIENCE_DATABASE_URL": f"sqlite:///{folder}/history.db",
        }
        for number in range(FLEETS[fleet][0]):
            ours, theirs = context.Pipe()
            context.Process(
                target=work, args=(number, fleet, refused_after, settings, theirs), daemon=True
            ).start()
            pipes.append(ours)
        for pipe in pipes:
            pipe.recv()
        begin = time.monotonic() + 0.3
        for pipe in pipes:
            pipe.send(begin)
        found = [pipe.recv() for pipe in pipes]
    requests = sorted(request for each, _ in found for request in each)
    scene = {"store": store, "fleet": fleet, "refused_after_s": refused_after}
    return {
        **scene,
        "load": round(os.getloadavg()[0], 1),
        **figures(requests, FLEETS[fleet]),
        "failed": sum(failed for _, failed in found),
    }


def figures(requests: Sequence[Request], fleet: tuple[int, int]) -> dict[str, Any]:
    """Return what the client saw."""
    refusals = [at for at, refused in requests if refused]
    later = [at for at in refusals if at >= refusals[0] + STATED]
    well = [at for at, _ in requests if at >= ENDS]
    callers = fleet[0] * fleet[1]
    return {
        "requests": len(requests),
        "refused_before": len(refusals) - len(later),
        "refused": len(later),
        "most_in_100_ms": max((sum(at <= other < at + 0.1 for other in later) for at in later), default=0),
        "first_answer_after_s": round(well[0] - ENDS, 2) if well else None,
        "full_after_s": round(well[callers - 1] - well[0], 2) if len(well) >= callers else None,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--store", choices=STORES, action="append")
    parser.add_argument("--fleet", choices=FLEETS, action="append")
    parser.add_argument("--refused-after", type=float, action="append", help="seconds that a refusal takes")
    options = parser.parse_args()
    rows = [
        play(store, fleet, refused_after)
        for store in options.store or STORES
        for fleet in options.fleet or FLEETS
        for refused_after in options.refused_after or REFUSED_AFTER
    ]
    print_rows(rows, as_json=options.json)


if __name__ == "__main__":
    main()
