"""The timetable of the demo: which outage happens when, and the settings that fit it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

from resilience.testing import Answer, Behaviour, Hang, ProviderSimulator, Status

LATENCY: Final = {"Primary": 0.08, "Secondary": 0.12, "Tertiary": 0.16}
"""Seconds that a healthy simulated client takes to answer."""
VICTIM: Final = "Primary"
"""The client that every outage hits."""
_RUN_SECONDS_PER_RETRY_AFTER: Final = 12
"""The stated wait grows with the run: each time it ends, every agent may hit the rate limit once more."""

# The open time exceeds the outage by this factor. The circuit shortens it at random by up to 10 %, and no probe may
# reach the outage: the summary counts every request that did.
_OPEN_TIME_FACTOR: Final = 1.15
_LONGEST_OPEN_TIME: Final = 30.0

# All limits below are multiples of the slowest call of the rehearsal: on a busy machine calls take longer, and nothing
# else may change. On an idle one a call takes about 0.1 s, and the lower bounds apply.
_SLOWEST_CALLS_PER_RUN: Final = 30
_SLOWEST_CALLS_PER_ATTEMPT: Final = 15
_SHORTEST_ATTEMPT_TIMEOUT: Final = 2.5
_ATTEMPTS_PER_DEADLINE: Final = 20
_ATTEMPTS_PER_LEASE: Final = 3


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a run, in seconds since the start of the run.

    Attributes:
        name: shown above the table.
        start: when it begins.
        end: when it is over.
        behaviour: what the victim does instead of answering; None where it answers.
        alone: only the first process works.
        redis_down: the demo's own Redis is dead.
    """

    name: str
    start: float
    end: float
    behaviour: Behaviour | None = None
    alone: bool = False
    redis_down: bool = False


_DOWN: Final = Status(503)
# Phases of a run of one second: start and end are filled in from the shares.
_OUTAGES: Final = (
    (0.12, Phase("healthy", 0, 0)),
    (0.16, Phase("503 outage", 0, 0, _DOWN)),
    (0.12, Phase("healthy again", 0, 0)),
    (0.16, Phase("429 rate limit", 0, 0, Status(429, retry_after=1))),
    (0.10, Phase("recovering", 0, 0)),
    (0.16, Phase("hang", 0, 0, Hang())),
    (0.18, Phase("recovered", 0, 0)),
)
_SHARING: Final = (
    (0.10, Phase("healthy, one process works", 0, 0, alone=True)),
    (0.08, Phase("503 outage, one process works", 0, 0, _DOWN, alone=True)),
    (0.20, Phase("503 outage, the others join", 0, 0, _DOWN)),
    (0.18, Phase("healthy again", 0, 0)),
    (0.12, Phase("healthy, Redis is killed", 0, 0, redis_down=True)),
    (0.12, Phase("503 outage, Redis is away", 0, 0, _DOWN, redis_down=True)),
    (0.20, Phase("healthy, Redis is back", 0, 0)),
)


def outage_phases(seconds: float) -> tuple[Phase, ...]:
    """Return the phases of a run of *seconds*: three kinds of outage, with time to recover after each."""
    wait = max(1, round(seconds / _RUN_SECONDS_PER_RETRY_AFTER))
    return tuple(
        replace(phase, behaviour=replace(phase.behaviour, retry_after=wait))
        if isinstance(phase.behaviour, Status) and phase.behaviour.retry_after
        else phase
        for phase in _scale(_OUTAGES, seconds)
    )


def sharing_phases(seconds: float, *, own_redis: bool) -> tuple[Phase, ...]:
    """Return the phases of a run with Redis: one process learns of an outage for all, then Redis itself dies.

    Args:
        seconds: length of the run.
        own_redis: whether the demo started the Redis. A server of the user's is not killed.
    """
    if own_redis:
        return _scale(_SHARING, seconds)
    spared = [
        (share, replace(phase, name=phase.name.partition(", Redis")[0], redis_down=False))
        for share, phase in _SHARING
    ]
    return _scale(spared, seconds)


def run_seconds(seconds: float, slowest_call: float) -> float:
    """Return the length of the run: the *seconds* asked for, or longer where a phase would be shorter than a few calls.

    Args:
        seconds: what the user asked for.
        slowest_call: seconds that the slowest call of the rehearsal took.
    """
    return max(seconds, _SLOWEST_CALLS_PER_RUN * slowest_call)


def join_time(phases: Sequence[Phase]) -> float:
    """Return when all processes but the first start to work; 0 where all start together."""
    return max((phase.end for phase in phases if phase.alone), default=0.0)


def first_outage(phases: Sequence[Phase]) -> tuple[float, float]:
    """Return start and end of the first outage, which may span several phases."""
    first = next(number for number, phase in enumerate(phases) if phase.behaviour is not None)
    down = takewhile(lambda phase: phase.behaviour is not None, phases[first:])
    return phases[first].start, max(phase.end for phase in down)


def set_latency(simulator: ProviderSimulator) -> None:
    """Let every simulated client answer after its latency."""
    for name, delay in LATENCY.items():
        simulator.client(name).set(Answer(delay=delay))


def schedule_outages(simulator: ProviderSimulator, phases: Sequence[Phase], start: float) -> None:
    """Enter the outages of *phases* in the simulator's timetable; *start* is the start of the run in its seconds."""
    for phase in phases:
        if phase.behaviour is not None:
            simulator.client(VICTIM).outage(start + phase.start, start + phase.end, phase.behaviour)


def attempt_timeout(slowest_call: float) -> float:
    """Return the seconds that an attempt may take: short enough for a short run to show a hang."""
    return max(_SHORTEST_ATTEMPT_TIMEOUT, _SLOWEST_CALLS_PER_ATTEMPT * slowest_call)


def deadline(slowest_call: float) -> float:
    """Return the seconds that a whole call may take."""
    return _ATTEMPTS_PER_DEADLINE * attempt_timeout(slowest_call)


def settings(phases: Sequence[Phase], slowest_call: float) -> dict[str, str]:
    """Return the environment of the agents: what an operator would export, with times that fit a short run.

    Args:
        phases: the timetable.
        slowest_call: seconds that the slowest call of the rehearsal took.
    """
    start, end = first_outage(phases)
    length = end - start
    open_time = _OPEN_TIME_FACTOR * length if join_time(phases) else min(_LONGEST_OPEN_TIME, length / 2)
    timeout = attempt_timeout(slowest_call)
    return {
        "RESILIENCE_FALLBACK": "Secondary,Tertiary",
        "RESILIENCE_RETRY__INITIAL_DELAY": "0.2",
        "RESILIENCE_RETRY__ATTEMPT_TIMEOUT": f"{timeout:.2f}",
        "RESILIENCE_RETRY__DEADLINE": f"{deadline(slowest_call):.1f}",
        "RESILIENCE_BREAKER__OPEN_FOR": f"{open_time:.2f}",
        "RESILIENCE_BREAKER__OPEN_MAX": f"{open_time:.2f}",
        "RESILIENCE_BREAKER__PROBE_LEASE": f"{_ATTEMPTS_PER_LEASE * timeout:.1f}",
    }


def _scale(shares: Iterable[tuple[float, Phase]], seconds: float) -> tuple[Phase, ...]:
    phases, start = list[Phase](), 0.0
    for share, phase in shares:
        end = start + share * seconds
        phases.append(replace(phase, start=start, end=end))
        start = end
    return tuple(phases)
