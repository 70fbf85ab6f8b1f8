"""The co-scientist's prompts are recognised and answered."""

from __future__ import annotations

import json

import pytest

from resilience.testing import answers

FORMAT = "Answer in JSON using this schema:\n{\n  title: string,\n  // What is new\n  novelty: string,\n}"


def test_a_prompt_is_recognised_by_the_fields_it_asks_for() -> None:
    """The output format decides; the two functions that share one differ in their system prompt."""
    assert answers.recognise(f"You propose.\n{FORMAT}") == "GenerateHypothesis"
    assert answers.recognise(f"You improve a hypothesis.\n{FORMAT}") == "EnhanceHypothesis"


@pytest.mark.parametrize(
    "text", ["", "You improve a hypothesis", "The verdict: guilty", "Answer in JSON: {}"]
)
def test_other_prompts_are_not_recognised(text: str) -> None:
    """A prompt without one of the output formats belongs to none of the eight functions."""
    assert answers.recognise(text) is None


@pytest.mark.parametrize("function", answers.FUNCTIONS)
def test_answers_differ_by_prompt_and_only_by_it(function: str) -> None:
    """The same prompt gets the same answer, another prompt another one."""
    first, again, other = (answers.answer(function, prompt) for prompt in ("one", "one", "two"))

    assert first == again
    assert first != other
    assert isinstance(json.loads(first), dict)


def test_another_prompt_gets_the_generic_answer() -> None:
    """The functions of a user's own project get generic JSON; `Answer` is for them."""
    assert answers.answer(None, "anything") == answers.GENERIC
    assert json.loads(answers.GENERIC) == {"ok": True}
