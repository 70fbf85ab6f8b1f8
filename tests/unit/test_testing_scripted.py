"""ScriptedBAML: a generated client's stand-in that follows a script."""

from __future__ import annotations

import inspect

import pytest

from resilience.testing import ScriptedBAML, ScriptedCall


async def test_a_script_is_one_step_a_call() -> None:
    """Exceptions are raised, classes of them too; everything else is the answer."""
    refusal = ConnectionError("no")
    baml = ScriptedBAML(Ask=[refusal, TimeoutError, "answer", None])

    with pytest.raises(ConnectionError) as caught:
        await baml.Ask()
    with pytest.raises(TimeoutError):
        await baml.Ask()

    assert caught.value is refusal
    assert [await baml.Ask(), await baml.Ask()] == ["answer", None]


async def test_a_single_step_is_done_at_every_call() -> None:
    """What is no list or tuple never runs out."""
    baml = ScriptedBAML(Ask="answer", Fail=ValueError("always"))

    assert [await baml.Ask(), await baml.Ask()] == ["answer", "answer"]
    for _ in range(2):
        with pytest.raises(ValueError, match="always"):
            await baml.Fail()


async def test_callables_make_the_answer() -> None:
    """A callable gets the arguments; what it returns is awaited if need be."""

    async def later(goal: str) -> str:
        return f"later {goal}"

    baml = ScriptedBAML(Ask=(str.upper, later))

    assert [await baml.Ask("goal"), await baml.Ask("goal")] == ["GOAL", "later goal"]


async def test_calls_are_remembered() -> None:
    """Each call is kept with its function, arguments and options."""
    baml = ScriptedBAML(Ask="a", Tell="b")

    await baml.Ask("goal", depth=2, baml_options={"tags": {"run": "1"}})
    await baml.Tell()

    assert baml.calls == [
        ScriptedCall(function="Ask", args=("goal",), kwargs={"depth": 2}, options={"tags": {"run": "1"}}),
        ScriptedCall(function="Tell", args=(), kwargs={}, options={}),
    ]


async def test_with_options_shares_script_and_calls() -> None:
    """Options are laid under those of the call; the script goes on where it was."""
    baml = ScriptedBAML(Ask=[1, 2])
    bound = baml.with_options(client="Secondary", tags={"a": "b"})

    answers = [await bound.Ask(baml_options={"tags": {}}), await baml.Ask()]

    assert answers == [1, 2]
    assert [call.options for call in baml.calls] == [{"client": "Secondary", "tags": {}}, {}]
    assert bound.calls is baml.calls


async def test_an_ended_script_fails_the_test() -> None:
    """A call too many is an assertion that names function and count."""
    baml = ScriptedBAML(Ask=[1])
    await baml.Ask()

    with pytest.raises(AssertionError, match=r"script of Ask has ended: this is call 2"):
        await baml.Ask()


def test_what_is_not_scripted_is_not_there() -> None:
    """A misspelt function is named together with those that exist."""
    baml = ScriptedBAML(Ask=1, Tell=2)

    with pytest.raises(AttributeError, match="Aks is not scripted here; Ask, Tell is"):
        _ = baml.Aks
    with pytest.raises(AttributeError, match="nothing is"):
        _ = ScriptedBAML().Ask


def test_functions_are_found_as_on_a_generated_client() -> None:
    """They are coroutine functions, on the instance and on its type, and no two doubles share them."""
    baml = ScriptedBAML(Ask=1)

    assert isinstance(baml, ScriptedBAML)
    assert inspect.iscoroutinefunction(baml.Ask)
    assert inspect.iscoroutinefunction(inspect.getattr_static(type(baml), "Ask"))
    assert baml.Ask.__name__ == "Ask"
    assert not hasattr(ScriptedBAML, "Ask")
