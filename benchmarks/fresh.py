"""What a fresh process costs a client that the fleet knows to be down: `python -m benchmarks.fresh [--json] [--round-trip MS]`.

The circuit is open in a Valkey of this benchmark's own, at the other end of a link with a constant round trip. Fresh processes with four
callers each ask for admission every 20 ms for some seconds, from their first moment on. Their attempts fail at once, or succeed at once as
those on a client do that only an operator has closed. Counted for each process, the worst of all:

- *through*: attempts on the client; *at once*: the most of them in flight together.
- *first wait*: how long its first call waited; *degraded*: share of admissions in which it counted the store as away.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from support.delay_proxy import DelayProxy
from support.valkey_servers import Valkey

from benchmarks.rows import print_rows
from resilience.breaker import Breaker, Operation, Outcome, open_store
from resilience.breaker.messages import Order, StepRequest
from resilience.errors import CircuitOpenError

ROUND_TRIPS: Final = (0.0, 30.0, 60.0, 100.0, 200.0, 400.0)
PROCESSES: Final = 3
CALLERS: Final = 4
SECONDS: Final = 2.5


async def live(url: str, outcome: Outcome) -> dict[str, float]:
    """Run the callers of one process and return what they saw."""
    breaker, begin = Breaker(open_store(url)), time.monotonic()
    waits: list[float] = []
    through = in_flight = at_once = degraded = 0

    async def caller() -> None:
        nonlocal through, in_flight, at_once, degraded
        while time.monotonic() - begin < SECONDS:
            asked = time.monotonic()
            try:
                permit = await breaker.admit("Down")
            except CircuitOpenError:
                waits.append(time.monotonic() - asked)
            else:
                waits.append(time.monotonic() - asked)
                through, in_flight = through + 1, in_flight + 1
                at_once = max(at_once, in_flight)
                await asyncio.sleep(0)
                in_flight -= 1
                breaker.settle(permit, outcome, reason="timeout" if outcome is Outcome.FAILURE else "")
            degraded += breaker.degraded
            await asyncio.sleep(0.02)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    await asyncio.to_thread(breaker.close)
    return {
        "through": through,
        "at_once": at_once,
        "first_wait_ms": round(1000 * waits[0]),
        "degraded_percent": round(100 * degraded / len(waits), 1),
    }


def work(url: str, outcome: Outcome, pipe: Connection) -> None:
    """Be one fresh process."""
    logging.disable(logging.CRITICAL)
    pipe.send(asyncio.run(live(url, outcome)))


def play(round_trip_ms: float, outcome: Outcome) -> dict[str, Any]:
    """Start fresh processes on one link. Return the worst of each figure."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["resilience.breaker.stores.redis", "resilience.breaker"])
    with Valkey(tcp=True) as valkey, DelayProxy(valkey.port, round_trip_ms / 1000) as link:
        store = valkey.store()
        store.step([StepRequest(client="Down", order=Order(operation=Operation.OPEN, actor="bench"))])
        store.close()
        pipes = []
        for _ in range(PROCESSES):
            ours, theirs = context.Pipe()
            url = f"redis://127.0.0.1:{link.port}"
            context.Process(target=work, args=(url, outcome, theirs), daemon=True).start()
            pipes.append(ours)
        lived = [pipe.recv() for pipe in pipes]
        connections = link.connections
    return {
        "round_trip_ms": round_trip_ms,
        "attempts": "succeed" if outcome is Outcome.SUCCESS else "fail",
        "load": round(os.getloadavg()[0], 1),
        **{name: max(each[name] for each in lived) for name in lived[0]},
        "connections_per_process": round(connections / PROCESSES, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--round-trip", type=float, action="append", help="milliseconds")
    options = parser.parse_args()
    rows = [
        play(round_trip, outcome)
        for outcome in (Outcome.FAILURE, Outcome.SUCCESS)
        for round_trip in options.round_trip or ROUND_TRIPS
    ]
    print_rows(rows, as_json=options.json)


if __name__ == "__main__":
    main()
