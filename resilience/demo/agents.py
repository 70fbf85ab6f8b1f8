"""One agent process of the demo: research goals worked on through BAMLWrapper, as a user's own worker would."""

from __future__ import annotations

import asyncio
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

GOALS: Final = (
    (
        "Find out why some gut bacteria survive antibiotics without resistance genes",
        ["in vitro only", "under 50 k EUR"],
    ),
    ("Make perovskite solar cells last ten years outdoors", ["no lead", "printable at room temperature"]),
    ("Explain the loss of deep sleep in early Alzheimer's disease", ["human data", "no new imaging"]),
    ("Lower the energy needed to make ammonia by half", ["ambient pressure", "abundant metals only"]),
)
_CRITERIA: Final = ["plausibility", "novelty", "testability"]


@dataclass(slots=True)
class AgentCounts:
    """What one process counted itself, to be held against SQL."""

    calls: int = 0
    answered: int = 0
    without_store: int = 0
    errors: dict[str, int] | None = None


async def research(wrapper: BAMLWrapper, number: int) -> None:
    """Work one goal through all eight functions."""
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


async def agent(wrapper: BAMLWrapper, number: int, ends: Synchronized[float], tally: AgentCounts) -> None:
    """Research one goal after the other until the clock says stop; a goal begun is finished."""
    while time.time() < ends.value:
        try:
            await research(_Counted(wrapper, tally), number)  # type: ignore[arg-type] # counts, then does what the wrapper does
        except Exception as exc:  # noqa: BLE001 - an unanswered call must show in the sum, not end the fleet
            tally.errors = tally.errors or {}
            tally.errors[type(exc).__name__] = tally.errors.get(type(exc).__name__, 0) + 1
        number += 1


class _Counted:
    """Counts the calls that go to the wrapper and the answers that come back."""

    def __init__(self, wrapper: BAMLWrapper, tally: AgentCounts) -> None:
        self._wrapper = wrapper
        self._tally = tally

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._wrapper, name)

        async def counted(*args: Any, **kwargs: Any) -> Any:
            self._tally.calls += 1
            answer = await function(*args, **kwargs)
            self._tally.answered += 1
            self._tally.without_store += self._wrapper.error_handler.degraded
            return answer

        return counted


async def work(baml: Any, agents: int, first: int, ends: Synchronized[float]) -> AgentCounts:
    """Run *agents* agents in this process on one wrapper."""
    tally = AgentCounts()
    async with BAMLWrapper(baml, error_handler=BAMLErrorHandler()) as wrapper:
        await asyncio.gather(*(agent(wrapper, first + number, ends, tally) for number in range(agents)))
    return tally


def run(
    environment: Mapping[str, str], agents: int, first: int, ends: Synchronized[float], pipe: Connection
) -> None:
    """The main function of an agent process: gets ready, says so, works from a word to the end of the play, sends its tally."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the parent, which ends us
    logging.getLogger("resilience").addHandler(logging.NullHandler())  # the parent shows what the circuits do
    os.environ.update(environment)
    baml = client.load().b
    pipe.send("ready")
    pipe.recv()
    tally = asyncio.run(work(baml, agents, first, ends))
    pipe.send(json.dumps(asdict(tally)))
    pipe.close()
