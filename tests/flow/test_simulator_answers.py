"""The simulator's default answers, through the real BAML runtime."""

from __future__ import annotations

from typing import Any

import pytest

from resilience.testing import ProviderSimulator, answers

HYPOTHESIS = {
    "title": "t",
    "statement": "s",
    "rationale": "r",
    "assumptions": [],
    "experiments": [{"kind": "InVitro", "description": "d", "expected_outcome": "o"}],
    "citations": [],
    "novelty": "n",
    "confidence": 0.5,
}
REVIEW = {
    "review_type": "full",
    "verdict": "Accept",
    "scores": [],
    "strengths": [],
    "weaknesses": [],
    "suggestions": [],
    "confidence": 0.5,
}
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "GenerateHypothesis": ("goal", ["cheap"], ["known", HYPOTHESIS], "cells", "literature_based"),
    "EvaluateHypothesis": (HYPOTHESIS, "full", ["testability"], None),
    "PerformSafetyCheck": ("hypothesis", "text", "low", ["toxicity"]),
    "CompareHypotheses": (HYPOTHESIS, HYPOTHESIS, ["testability"], None),
    "EnhanceHypothesis": (HYPOTHESIS, "simplify", "too long", HYPOTHESIS),
    "CalculateSimilarity": (HYPOTHESIS, HYPOTHESIS, ["mechanism"]),
    "ExtractResearchPatterns": ([HYPOTHESIS], [REVIEW], "gaps"),
    "ParseResearchGoal": ("find out why", "biology"),
}


@pytest.mark.parametrize("function", answers.FUNCTIONS)
async def test_every_function_gets_an_answer_that_parses(
    b: Any, simulator: ProviderSimulator, function: str
) -> None:
    """Each of the eight functions is recognised by its prompt and gets an answer that its return type accepts."""
    answer = await getattr(b, function)(*ARGUMENTS[function])

    assert simulator.requests[0].function == function
    assert type(answer).__name__ in str(type(b).__dict__[function].__annotations__["return"])
