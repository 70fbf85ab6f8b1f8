"""How soon a circuit is used again after an outage, and what its probes cost: `python -m benchmarks.recovery [--json] [--seeds N]`.

The pure circuit with a held clock. A fleet makes one call a second. Its client is dead for 1 minute, 10 minutes or an hour, and every
attempt on it fails at once; a backup answers meanwhile. Counted over all seeds, which place the begin of the outage and the jitter:

- *back*: seconds from the end of the outage to the first attempt that is admitted, which succeeds and closes the circuit.
- *dead*: attempts on the dead client per minute of the outage, after its first second; the worst minute.

A second scene is the end of a cool-down: 80 and 400 callers wait for it, and the client refuses after 20 or 200 ms, or is well.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from typing import Any

from resilience.breaker import BreakerPolicy, CircuitState, Cooldown, Outcome
from resilience.breaker.circuit import step
from resilience.breaker.messages import Batch, StepReply, StepRequest
from resilience.breaker.state import CircuitData

POLICY = BreakerPolicy()
OUTAGES = {"1 min": 60, "10 min": 600, "1 h": 3600}
START = 1_700_000_000_000
SECOND = 1000


class Circuit:
    """One circuit on a held clock, in milliseconds."""

    def __init__(self, jitter: random.Random) -> None:
        self.data, self.now, self.jitter = CircuitData(), START, jitter

    def step(self, **request: Any) -> StepReply:
        """Make one step at this time."""
        sample = self.jitter.random()
        self.data, reply = step(
            self.data, self.now, StepRequest(client="A", policy=POLICY, jitter_sample=sample, **request)
        )
        return reply

    def call(self, outcome: Outcome) -> bool:
        """Make one call that ends at once. Return whether it was admitted."""
        reply = self.step(token="probe", wanted=1)  # noqa: S106 - the name of a lease
        closed = reply.state is CircuitState.CLOSED and (reply.ramp_ms == 0 or reply.admitted > 0)
        if not (closed or reply.granted):
            return False
        token = "" if closed else "probe"
        self.step(batches=(Batch(reply.epoch, ((outcome, 1),), token, "service_unavailable"),))
        return True


def outage(seconds: int, seed: int) -> tuple[float, int]:
    """Return how long the client stayed unused after the outage, and the requests in its worst minute after the first second."""
    jitter = random.Random(seed)  # noqa: S311 - no secret
    circuit = Circuit(jitter)
    begins = START + 120_000 + jitter.randrange(1000)
    ends, dead = begins + 1000 * seconds, []
    while True:
        failing = begins <= circuit.now < ends
        admitted = circuit.call(Outcome.FAILURE if failing else Outcome.SUCCESS)
        if failing and admitted:
            dead.append(circuit.now - begins)
        if admitted and circuit.now >= ends:
            break
        circuit.now += SECOND
    late = [at for at in dead if at >= SECOND]
    worst = max((sum(at <= other < at + 60_000 for other in late) for at in late), default=0)
    return (circuit.now - ends) / 1000, worst


def stampede(callers: int, refused_after: int | None) -> tuple[int, int]:
    """Return the attempts that began before a refusal was back, and the milliseconds until every caller was admitted.

    Args:
        callers: calls that wait for the end of the cool-down.
        refused_after: milliseconds after which the client refuses; None: it is well.
    """
    circuit = Circuit(random.Random(1))  # noqa: S311 - no secret
    cooldown = Cooldown(seconds=3.0, max_seconds=300.0, reason="rate_limit")
    circuit.step(cooldowns=((0, cooldown),))
    circuit.now += 3000
    began, first = 0, circuit.now
    while began < callers:
        if refused_after is not None and circuit.now - first >= refused_after:
            break
        reply = circuit.step(wanted=callers - began)
        began += reply.admitted if reply.ramp_ms else callers - began
        circuit.now += 1
    return began, circuit.now - first


def measure(seeds: int) -> dict[str, Any]:
    """Return all figures."""
    found: dict[str, Any] = {"seeds": seeds}
    for name, seconds in OUTAGES.items():
        runs = [outage(seconds, seed) for seed in range(seeds)]
        back = [seconds for seconds, _ in runs]
        found[name] = {
            "back_median": round(statistics.median(back), 1),
            "back_worst": round(max(back), 1),
            "dead_worst_minute": max(dead for _, dead in runs),
        }
    for callers in (80, 400):
        found[f"{callers} callers"] = {
            "refused after 20 ms": stampede(callers, 20)[0],
            "refused after 200 ms": stampede(callers, 200)[0],
            "all admitted after ms": stampede(callers, None)[1],
        }
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", type=int, default=200, help="how many outages of each length")
    options = parser.parse_args()
    found = measure(options.seeds)
    if options.json:
        print(json.dumps(found))
        return
    for scene, figures in found.items():
        print(f"{scene:<12} {figures}")


if __name__ == "__main__":
    main()
