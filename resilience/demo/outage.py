"""What goes wrong in the demo, and when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from resilience.testing import Answer, Behaviour, Hang, ProviderSimulator, Status

LATENCY: Final = {"Primary": 0.08, "Secondary": 0.12, "Tertiary": 0.16}
"""Seconds a healthy simulated client takes."""
VICTIM: Final = "Primary"
RETRY_AFTER: Final = 1
_BEYOND: Final = 1.15  # so much longer than an outage, for its jitter, that nobody probes into it


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the play, in seconds since its start.

    Attributes:
        name: what people are told.
        start: when it begins.
        end: when it is over.
        behaviour: what the victim does meanwhile; None: it answers.
        alone: only the first process works.
        away: the demo's own Redis is dead.
    """

    name: str
    start: float
    end: float
    behaviour: Behaviour | None = None
    alone: bool = False
    away: bool = False


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    share: float
    behaviour: Behaviour | None = None
    alone: bool = False
    away: bool = False


_DOWN: Final = Status(503)
_PLAY: Final = (
    _Part("healthy", 0.12),
    _Part("503 outage", 0.16, _DOWN),
    _Part("healthy again", 0.12),
    _Part("429 rate limit", 0.16, Status(429, retry_after=RETRY_AFTER)),
    _Part("recovering", 0.1),
    _Part("hang", 0.16, Hang()),
    _Part("recovered", 0.18),
)
_SHARING: Final = (
    _Part("healthy, one process works", 0.1, alone=True),
    _Part("503 outage, one process works", 0.08, _DOWN, alone=True),
    _Part("503 outage, the others join", 0.2, _DOWN),
    _Part("healthy again", 0.18),
    _Part("healthy, Redis is killed", 0.12, away=True),
    _Part("503 outage, Redis is away", 0.12, _DOWN, away=True),
    _Part("healthy, Redis is back", 0.2),
)


def play(seconds: float) -> tuple[Phase, ...]:
    """The phases of a run of *seconds*: three kinds of outage, with time to recover after each."""
    return _phases(_PLAY, seconds)


def sharing(seconds: float, *, own: bool) -> tuple[Phase, ...]:
    """The phases of a run that shows what Redis is for: an outage that one process learns for all, and one of Redis itself.

    Args:
        seconds: how long the run is.
        own: the Redis is the demo's own; another one is left alone.
    """
    parts = (
        _SHARING
        if own
        else [
            _Part(part.name.partition(", Redis")[0], part.share, part.behaviour, part.alone)
            for part in _SHARING
        ]
    )
    return _phases(parts, seconds)


def joining(phases: Sequence[Phase]) -> float:
    """When all processes but the first begin to work."""
    return max((phase.end for phase in phases if phase.alone), default=0.0)


def shared_outage(phases: Sequence[Phase]) -> tuple[float, float]:
    """When the first outage begins and ends, whatever it is called meanwhile."""
    first = next(number for number, phase in enumerate(phases) if phase.behaviour is not None)
    down = takewhile(lambda phase: phase.behaviour is not None, phases[first:])
    return phases[first].start, max(phase.end for phase in down)


def _phases(parts: Iterable[_Part], seconds: float) -> tuple[Phase, ...]:
    phases, at = [], 0.0
    for part in parts:
        end = at + part.share * seconds
        phases.append(Phase(part.name, at, end, part.behaviour, part.alone, part.away))
        at = end
    return tuple(phases)


def stage(simulator: ProviderSimulator, phases: Sequence[Phase]) -> None:
    """Write the play into the simulator's timetable."""
    for name, delay in LATENCY.items():
        simulator.client(name).set(Answer(delay=delay))
    for phase in phases:
        if phase.behaviour is not None:
            simulator.client(VICTIM).outage(phase.start, phase.end, phase.behaviour)


def settings(phases: Sequence[Phase]) -> dict[str, str]:
    """The environment of the agents: what an operator would export, with times that fit a short play."""
    begin, end = shared_outage(phases)
    seconds = _BEYOND * (end - begin) if joining(phases) else min(30.0, (end - begin) / 2)
    open_for = f"{seconds:.2f}"
    return {
        "RESILIENCE_FALLBACK": "Secondary,Tertiary",
        "RESILIENCE_RETRY__INITIAL_DELAY": "0.2",
        "RESILIENCE_RETRY__ATTEMPT_TIMEOUT": "1.0",
        "RESILIENCE_RETRY__DEADLINE": "20",
        "RESILIENCE_BREAKER__OPEN_FOR": open_for,
        "RESILIENCE_BREAKER__OPEN_MAX": open_for,
        "RESILIENCE_BREAKER__PROBE_LEASE": "3",
    }
