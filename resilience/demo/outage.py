"""What goes wrong in the demo, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from resilience.testing import Answer, Behaviour, Hang, ProviderSimulator, Status

LATENCY: Final = {"Primary": 0.08, "Secondary": 0.12, "Tertiary": 0.16}
"""Seconds a healthy simulated client takes."""
VICTIM: Final = "Primary"
RETRY_AFTER: Final = 1


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the play, in seconds since its start."""

    name: str
    start: float
    end: float


def play(seconds: float) -> tuple[Phase, ...]:
    """The phases of a run of *seconds*: three kinds of outage, with time to recover after each."""
    parts = (
        ("healthy", 0.12),
        ("503 outage", 0.16),
        ("healthy again", 0.12),
        ("429 rate limit", 0.16),
        ("recovering", 0.1),
        ("hang", 0.16),
        ("recovered", 0.18),
    )
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
    behaviours: tuple[Behaviour, ...] = (Status(503), Status(429, retry_after=RETRY_AFTER), Hang())
    for phase, behaviour in zip(phases[1::2], behaviours, strict=True):
        victim.outage(phase.start, phase.end, behaviour)


def settings(phases: tuple[Phase, ...]) -> dict[str, str]:
    """The environment of the agents: what an operator would export, with times that fit a short play."""
    short = (phases[1].end - phases[1].start) / 2
    open_for = f"{min(30.0, short):.2f}"
    return {
        "RESILIENCE_FALLBACK": "Secondary,Tertiary",
        "RESILIENCE_RETRY__INITIAL_DELAY": "0.2",
        "RESILIENCE_RETRY__ATTEMPT_TIMEOUT": "1.0",
        "RESILIENCE_RETRY__DEADLINE": "20",
        "RESILIENCE_BREAKER__OPEN_FOR": open_for,
        "RESILIENCE_BREAKER__OPEN_MAX": open_for,
        "RESILIENCE_BREAKER__PROBE_LEASE": "3",
    }
