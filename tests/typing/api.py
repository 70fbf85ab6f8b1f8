"""Uses of the public API. Never run, only type-checked by test_typing.py: protect() keeps a client's signatures.

A type checker must reject every line marked `wrong`, and no other.
"""

from __future__ import annotations

from typing import assert_type

from baml_client.async_client import BamlAsyncClient, b
from baml_client.types import Hypothesis, ParsedResearchGoal

from resilience import BAMLErrorHandler, BAMLWrapper, connect, protect

guarded = protect(b)
assert_type(guarded, BamlAsyncClient)
assert_type(protect(b, BAMLErrorHandler()), BamlAsyncClient)
assert_type(guarded.with_options(tags={"tenant": "a"}), BamlAsyncClient)


async def answer() -> str:
    """Stand for a coroutine function of the user."""
    return "42"


async def use() -> None:
    """Use a protected client, a wrapper and a handler."""
    assert_type(await guarded.ParseResearchGoal("goal"), ParsedResearchGoal)
    assert_type(
        await guarded.ParseResearchGoal("goal", baml_options={"tags": {"a": "b"}}), ParsedResearchGoal
    )
    assert_type(await guarded.GenerateHypothesis("goal", [], [], None, "debate"), Hypothesis)
    await guarded.ParseResearchGoal(goal="x")  # wrong: the argument is called natural_language_goal
    await guarded.ParseResearchGoal(3)  # wrong: not a text
    await guarded.NoSuchFunction()  # wrong: no such function
    async with BAMLWrapper(b) as wrapper:
        assert_type(wrapper, BAMLWrapper)
    async with connect() as handler:
        assert_type(handler, BAMLErrorHandler)
        assert_type(await handler.call_with_retry(answer, "Primary", "Answer"), str)
        assert_type(await handler.call_with_fallback(lambda _: answer, "Answer", "Primary"), tuple[str, str])
