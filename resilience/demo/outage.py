"""What goes wrong in the demo, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from resilience.testing import Answer, Hang, ProviderSimulator, Status

LATENCY: Final = {"Primary": 0.08, "Secondary": 0.12, "Tertiary": 0.16}
"""Seconds a healthy simulated client takes."""
VICTIM: Final = "Primary"
RETRY_AFTER: Final = 2


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the play, in seconds since its start."""

    name: str
    start: float
    end: float


def play(seconds: float) -> tuple[Phase, ...]:
    """The phases of a run of *seconds*: healthy, three kinds of outage, healthy again."""
    parts = (("healthy", 0.16), ("503 outage", 0.2), ("429 rate limit", 0.2), ("hang", 0.2), ("recovered", 0.24))
    phases, at = [], 0.0
    for name, share in parts:
        phases.append(Phase(name, at, at + share * seconds))
        at += share * seconds
    return tuple(phases)


def stage(simulator: ProviderSimulator, phases: tuple[Phase, ...]) -> None:
    """Write the play into the simulator's timetable."""
    for name, delay in LATENCY.items():
        simulator.client(name).set(Answer(delay=delay))
    victim = simulator.client(VICTIM)
    behaviours = (Status(503), Status(429, retry_after=RETRY_AFTER), Hang())
    for phase, behaviour in zip(phases[1:4], behaviours, strict=True):
        victim.outage(phase.start, phase.end, behaviour)


def settings(phases: tuple[Phase, ...]) -> dict[str, str]:
    """The environment of the agents: what an operator would export, with times that fit a short play."""
    short = (phases[1].end - phases[1].start) / 2
    return {
        "RESILIENCE_FALLBACK": "Secondary,Tertiary",
        "RESILIENCE_RETRY__INITIAL_DELAY": "0.2",
        "RESILIENCE_RETRY__ATTEMPT_TIMEOUT": "1.0",
        "RESILIENCE_RETRY__DEADLINE": "20",
        "RESILIENCE_BREAKER__OPEN_FOR": f"{min(30.0, short):.2f}",
        "RESILIENCE_BREAKER__OPEN_MAX": f"{min(300.0, 2 * short):.2f}",
        "RESILIENCE_BREAKER__PROBE_LEASE": "3",
    }
