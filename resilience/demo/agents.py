"""One agent process of the demo: it works on research goals through `BAMLWrapper`, as a user's worker would."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import Any, Final

from resilience import BAMLErrorHandler, BAMLWrapper
from resilience.demo import client
from resilience.demo.calling import CallStyle, StyledClient
from resilience.demo.phases import VICTIM
from resilience.errors import StoreError

GOALS: Final = (
    (
        "Find out why some gut bacteria survive antibiotics without resistance genes",
        ["in vitro only", "under 50 k EUR"],
    ),
    ("Make perovskite solar cells last ten years outdoors", ["no lead", "printable at room temperature"]),
    ("Explain the loss of deep sleep in early Alzheimer's disease", ["human data", "no new imaging"]),
    ("Lower the energy needed to make ammonia by half", ["ambient pressure", "abundant metals only"]),
)
CALLS_PER_GOAL: Final = 9
"""Calls that `research` makes, one after another."""
_CRITERIA: Final = ["plausibility", "novelty", "testability"]
_REHEARSALS: Final = 4
"""Rounds of calls before the run. The first one opens connections and imports modules; the others are measured."""


@dataclass(slots=True)
class AgentCounts:
    """What one process counted by itself, to be compared with SQL.

    Attributes:
        calls: calls made.
        answered: calls answered.
        degraded_answers: answers that came while the process knew that the shared store was down.
        errors: calls not answered, by the name of the exception.
    """

    calls: int = 0
    answered: int = 0
    degraded_answers: int = 0
    errors: dict[str, int] | None = None


async def research(wrapper: BAMLWrapper, number: int) -> None:
    """Work on one goal, with each of the eight functions at least once."""
    goal, constraints = GOALS[number % len(GOALS)]
    await wrapper.parse_research_goal(goal, domain_context="life and materials science")
    first = await wrapper.generate_hypothesis(goal=goal, constraints=constraints)
    second = await wrapper.generate_hypothesis(
        goal=goal, constraints=constraints, existing_hypotheses=[first.title]
    )
    await wrapper.perform_safety_check("hypothesis", first.statement, "standard", ["biosafety", "dual use"])
    review = await wrapper.evaluate_hypothesis(first, "full", _CRITERIA)
    await wrapper.compare_hypotheses(first, second, _CRITERIA)
    better = await wrapper.enhance_hypothesis(
        first, "answer the review", feedback="; ".join(review.suggestions)
    )
    await wrapper.calculate_similarity(first, better, ["mechanism", "prediction"])
    await wrapper.extract_research_patterns([first, second, better], [review], "what is missing")


async def agent(wrapper: BAMLWrapper, number: int, stop_at: Synchronized[float], counts: AgentCounts) -> None:
    """Research one goal after another until the clock reaches *stop_at*. A goal that was started is finished."""
    counting = _CountingWrapper(wrapper, counts)
    while time.time() < stop_at.value:
        try:
            await research(counting, number)  # type: ignore[arg-type] # it forwards every call to the wrapper
        except Exception as exc:  # noqa: BLE001 - an unanswered call must show in the summary, not end the fleet
            counts.errors = counts.errors or {}
            counts.errors[type(exc).__name__] = counts.errors.get(type(exc).__name__, 0) + 1
        number += 1


class _CountingWrapper:
    """Forwards calls to the wrapper and counts them and their answers."""

    def __init__(self, wrapper: BAMLWrapper, counts: AgentCounts) -> None:
        self._wrapper = wrapper
        self._counts = counts

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._wrapper, name)

        async def counted(*args: Any, **kwargs: Any) -> Any:
            self._counts.calls += 1
            answer = await function(*args, **kwargs)
            self._counts.answered += 1
            self._counts.degraded_answers += self._wrapper.error_handler.degraded
            return answer

        return counted


async def rehearse(baml: Any, agents: int) -> float:
    """Make as many calls at once as the run will, without any protection; return the seconds of the slowest.

    All processes rehearse at about the same time. So the result shows what a call takes on this machine, with the load
    of the fleet and of everything else that runs on it.
    """
    rounds = []
    for _ in range(_REHEARSALS):
        start = time.perf_counter()
        await asyncio.gather(*(baml.ParseResearchGoal(GOALS[0][0], None) for _ in range(agents)))
        rounds.append(time.perf_counter() - start)
    return max(rounds[1:])


async def read_circuit(handler: BAMLErrorHandler) -> None:
    """Wait until this process knows the shared state of the victim's circuit.

    A call waits for the store for a few hundredths of a second only; then it decides by what its process knows.
    On a busy machine the first connection takes longer than that, and a fresh process would ask a client that the
    fleet knows to be down.
    """
    breaker = handler._open().breaker  # noqa: SLF001 - the first call does this; no public method does only this
    while not breaker.degraded:
        with contextlib.suppress(StoreError):  # no reply yet: ask again
            if (await breaker.refresh(VICTIM)).shared:
                return


async def work(  # noqa: PLR0917 - all of them are positional in the only call
    baml: Any, agents: int, first: int, stop_at: Synchronized[float], pipe: Connection, style: CallStyle
) -> AgentCounts:
    """Open a wrapper, wait for the start, and run agents on it until they have finished.

    Everything slow happens before the start: on a busy machine an outage of the timetable might be over otherwise
    before this process makes its first call.

    Args:
        baml: the generated async client.
        agents: number of agents.
        first: number of the first agent, which chooses its first goal.
        stop_at: epoch seconds after which no agent starts a new goal.
        pipe: receives the start.
        style: how to call.
    """
    counts = AgentCounts()
    async with BAMLWrapper(baml, error_handler=BAMLErrorHandler()) as wrapper:
        if style != CallStyle():
            wrapper.baml = StyledClient(baml, wrapper.error_handler, style)
        await read_circuit(wrapper.error_handler)
        pipe.send("open")
        await asyncio.to_thread(pipe.recv)
        await read_circuit(wrapper.error_handler)  # again: the fleet may have learned of an outage meanwhile
        await asyncio.gather(*(agent(wrapper, first + number, stop_at, counts) for number in range(agents)))
    return counts


def run_agents(  # noqa: PLR0917 - the positional arguments of a process
    environment: Mapping[str, str],
    agents: int,
    first: int,
    stop_at: Synchronized[float],
    pipe: Connection,
    rehearsal: bool,  # noqa: FBT001 - as above
    style: CallStyle,
) -> None:
    """Run one agent process.

    It sends the seconds of the slowest call of its rehearsal, receives the environment that depends on those of all
    processes, says that it is open, receives the start, works, and sends its counts.

    Args:
        environment: what the process needs for its rehearsal.
        agents: number of agents.
        first: number of the first agent.
        stop_at: epoch seconds after which no agent starts a new goal.
        pipe: connects the process with the fleet.
        rehearsal: whether to rehearse. A real provider is not asked for that.
        style: how to call.
    """
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C belongs to the parent, which terminates this process
    logging.getLogger("resilience").addHandler(logging.NullHandler())  # the parent shows what the circuits do
    os.environ.update(environment)
    baml = client.load().b
    pipe.send(asyncio.run(rehearse(baml, agents)) if rehearsal else 0.0)
    os.environ.update(pipe.recv())
    counts = asyncio.run(work(baml, agents, first, stop_at, pipe, style))
    pipe.send(json.dumps(asdict(counts)))
    pipe.close()
