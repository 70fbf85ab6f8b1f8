"""ScriptedBAML: a double of a generated client that follows a script."""

from __future__ import annotations

import inspect

import pytest

from resilience.testing import ScriptedBAML, ScriptedCall


async def test_a_script_is_one_step_a_call() -> None:
    """Exceptions and exception classes are raised; any other step is the answer."""
    refusal = ConnectionError("no")
    baml = ScriptedBAML(Summarise=[refusal, TimeoutError, "answer", None])

    with pytest.raises(ConnectionError) as caught:
        await baml.Summarise()
    with pytest.raises(TimeoutError):
        await baml.Summarise()

    assert caught.value is refusal
    assert [await baml.Summarise(), await baml.Summarise()] == ["answer", None]


async def test_a_single_step_serves_every_call() -> None:
    """A step that is no list or tuple never runs out."""
    baml = ScriptedBAML(Summarise="answer", Fail=ValueError("always"))

    assert [await baml.Summarise(), await baml.Summarise()] == ["answer", "answer"]
    for _ in range(2):
        with pytest.raises(ValueError, match="always"):
            await baml.Fail()


async def test_callables_make_the_answer() -> None:
    """A callable gets the arguments; its result is awaited if it is awaitable."""

    async def later(goal: str) -> str:
        return f"later {goal}"

    baml = ScriptedBAML(Summarise=(str.upper, later))

    assert [await baml.Summarise("goal"), await baml.Summarise("goal")] == ["GOAL", "later goal"]


async def test_calls_are_recorded() -> None:
    """Each call is kept with its function, arguments and options."""
    baml = ScriptedBAML(Summarise="a", Translate="b")

    await baml.Summarise("goal", depth=2, baml_options={"tags": {"run": "1"}})
    await baml.Translate()

    assert baml.calls == [
        ScriptedCall(
            function="Summarise", args=("goal",), kwargs={"depth": 2}, options={"tags": {"run": "1"}}
        ),
        ScriptedCall(function="Translate", args=(), kwargs={}, options={}),
    ]


async def test_with_options_shares_script_and_calls() -> None:
    """Options are merged under those of the call; the script goes on where it was."""
    baml = ScriptedBAML(Summarise=[1, 2])
    bound = baml.with_options(client="Secondary", tags={"a": "b"})

    answers = [await bound.Summarise(baml_options={"tags": {}}), await baml.Summarise()]

    assert answers == [1, 2]
    assert [call.options for call in baml.calls] == [{"client": "Secondary", "tags": {}}, {}]
    assert bound.calls is baml.calls


async def test_an_ended_script_fails_the_test() -> None:
    """A call beyond the script is an AssertionError that names function and count."""
    baml = ScriptedBAML(Summarise=[1])
    await baml.Summarise()

    with pytest.raises(AssertionError, match=r"script of Summarise has ended: this is call 2"):
        await baml.Summarise()


def test_a_function_without_a_script_does_not_exist() -> None:
    """The error names the misspelt function and those that exist."""
    baml = ScriptedBAML(Summarise=1, Translate=2)

    with pytest.raises(AttributeError, match="Sumarise is not scripted here; Summarise, Translate is"):
        _ = baml.Sumarise
    with pytest.raises(AttributeError, match="nothing is"):
        _ = ScriptedBAML().Summarise


def test_functions_are_found_as_on_a_generated_client() -> None:
    """Scripted functions are coroutine functions of the instance and of its type, and no two doubles share them."""
    baml = ScriptedBAML(Summarise=1)

    assert isinstance(baml, ScriptedBAML)
    assert inspect.iscoroutinefunction(baml.Summarise)
    assert inspect.iscoroutinefunction(inspect.getattr_static(type(baml), "Summarise"))
    assert baml.Summarise.__name__ == "Summarise"
    assert not hasattr(ScriptedBAML, "Summarise")
