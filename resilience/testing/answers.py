"""Answers that fit the eight co-scientist functions of `baml_src`, varied a little by the prompt.

The same prompt always gets the same answer. The shapes here follow `baml_src/types.baml` and must change with it; a test
parses each of them through the generated client.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from zlib import crc32

GENERIC = '{"ok": true}'
"""The answer to a prompt of another function. Use `Answer(...)` for functions of your own."""

# A field of the output format that only this function's type has. Two functions return a Hypothesis; the first of them is
# recognised by its system prompt, so it must come first.
_MARKS: tuple[tuple[str, str], ...] = (
    ("You improve a hypothesis", "EnhanceHypothesis"),
    ("novelty:", "GenerateHypothesis"),
    ("verdict:", "EvaluateHypothesis"),
    ("is_safe:", "PerformSafetyCheck"),
    ("comparisons:", "CompareHypotheses"),
    ("shared_ideas:", "CalculateSimilarity"),
    ("promising_directions:", "ExtractResearchPatterns"),
    ("key_questions:", "ParseResearchGoal"),
)


@lru_cache(maxsize=256)
def recognise(instructions: str) -> str | None:
    """Return the co-scientist function with the system prompt *instructions*; None for any other prompt.

    The fields that its output format names tell the functions apart.
    """
    if "JSON" not in instructions:
        return None
    return next((function for mark, function in _MARKS if mark in instructions), None)


def answer(function: str | None, prompt: str) -> str:
    """Return JSON text that *function* can parse.

    Args:
        function: a function of `FUNCTIONS`; None gets `GENERIC`.
        prompt: the prompt, which varies the answer.
    """
    if function is None:
        return GENERIC
    return _answer(function, crc32(prompt.encode()))


@lru_cache(maxsize=1024)
def _answer(function: str, seed: int) -> str:
    return json.dumps(_SHAPES[function](f"{seed:08x}", seed % 100 / 100))


def _hypothesis(mark: str, share: float) -> dict[str, Any]:
    return {
        "title": f"Hypothesis {mark}: a delayed feedback explains the drift",
        "statement": f"Blocking the feedback of pathway {mark} halves the drift within a week.",
        "rationale": "The drift follows the feedback with a lag; removing the lag should remove the drift.",
        "assumptions": ["The lag is constant", "No second pathway compensates"],
        "experiments": [
            {
                "kind": "InVitro",
                "description": f"Treat cultures with inhibitor {mark}, with solvent as the control",
                "expected_outcome": "Half the drift of the control after seven days",
            }
        ],
        "citations": [
            {
                "title": "Lag and drift in feedback",
                "authors": ["A. Researcher"],
                "year": 2021,
                "relevance": "Measured the lag",
            }
        ],
        "novelty": "Earlier work took the lag for noise.",
        "confidence": share,
    }


def _review(mark: str, share: float) -> dict[str, Any]:
    return {
        "review_type": "full",
        "verdict": ("Accept", "Revise", "Reject")[int(share * 100) % 3],
        "scores": [
            {
                "criterion": "testability",
                "score": round(share * 10, 1),
                "reason": f"Review {mark}: one experiment can refute it",
            }
        ],
        "strengths": ["A clear control"],
        "weaknesses": ["One dose only"],
        "suggestions": [f"Add a dose response ({mark})"],
        "confidence": share,
    }


def _safety_check(mark: str, share: float) -> dict[str, Any]:
    risk = ("Negligible", "Low", "Medium")[int(share * 100) % 3]
    return {
        "is_safe": True,
        "risk": risk,
        "concerns": [
            {
                "criterion": "handling",
                "risk": risk,
                "explanation": f"Check {mark}: the solvent is flammable",
                "mitigation": None,
            }
        ],
        "required_safeguards": ["Work under a fume hood"],
        "explanation": "Usual laboratory practice is enough.",
    }


def _comparison(mark: str, share: float) -> dict[str, Any]:
    winner = ("First", "Second", "Tie")[int(share * 100) % 3]
    return {
        "winner": winner,
        "comparisons": [
            {"criterion": "testability", "winner": winner, "reason": f"Debate {mark}: its control is cleaner"}
        ],
        "reasoning": "It can be refuted sooner and at less cost.",
        "confidence": share,
    }


def _similarity(mark: str, share: float) -> dict[str, Any]:
    return {
        "overall": share,
        "aspects": [
            {"aspect": "mechanism", "score": share, "explanation": f"Pair {mark}: both name the same pathway"}
        ],
        "shared_ideas": ["A lag in the feedback"],
        "differences": ["The tissue"],
    }


def _patterns(mark: str, share: float) -> dict[str, Any]:
    return {
        "patterns": [
            {
                "name": f"Pattern {mark}",
                "description": "Most name a lag",
                "evidence": ["Hypothesis 1"],
                "strength": share,
            }
        ],
        "gaps": ["No study varies the dose"],
        "contradictions": ["Two reviews disagree about the control"],
        "promising_directions": ["Measure the lag itself"],
    }


def _goal(mark: str, share: float) -> dict[str, Any]:
    return {
        "goal": f"Find out what causes the drift ({mark}).",
        "domain": "biology",
        "subdomains": ["systems biology"],
        "key_questions": ["Does the lag cause the drift?"],
        "constraints": [{"kind": "time", "description": f"{1 + int(share * 12)} months"}],
        "success_criteria": ["The drift is halved"],
        "suggested_methods": ["Dose response"],
    }


# Each of these functions needs a mark in `_MARKS`, by which its prompts are recognised.
_SHAPES: dict[str, Callable[[str, float], dict[str, Any]]] = {
    "GenerateHypothesis": _hypothesis,
    "EnhanceHypothesis": _hypothesis,
    "EvaluateHypothesis": _review,
    "PerformSafetyCheck": _safety_check,
    "CompareHypotheses": _comparison,
    "CalculateSimilarity": _similarity,
    "ExtractResearchPatterns": _patterns,
    "ParseResearchGoal": _goal,
}

FUNCTIONS = tuple(_SHAPES)
"""The functions whose prompts are recognised."""
