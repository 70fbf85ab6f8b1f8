"""Interrupts and commands of the real LangGraph. Not part of the test command: CONTRIBUTING.md says how to run it.

LangGraph needs an older uuid-utils than the one that this package is developed with, and it brings a plugin that every run of pytest would
import. `.ci/run` gives it an environment of its own. tests/flow/test_steering.py has the same rules with classes of the same names.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from typing import Any, TypedDict

import pytest

from resilience import (
    BAMLErrorHandler,
    BreakerPolicy,
    FallbackPolicy,
    RetryPolicy,
    Settings,
    classify,
    protect,
)
from resilience.testing import ScriptedBAML, ScriptedSyncBAML, Snapshots

errors = importlib.import_module("langgraph.errors")
graphs = importlib.import_module("langgraph.graph")
types = importlib.import_module("langgraph.types")
checkpoints = importlib.import_module("langgraph.checkpoint.memory")


class State(TypedDict, total=False):
    """The state of the graphs here."""

    answer: str


@pytest.fixture
async def handler() -> AsyncIterator[BAMLErrorHandler]:
    async with BAMLErrorHandler(
        settings=Settings(store_url="memory://", privacy="off"),
        retry=RetryPolicy(initial_delay=0.001),
        fallback=FallbackPolicy(clients=("B",)),
        breaker=BreakerPolicy(consecutive_failures=1),
    ) as one:
        yield one
        assert [] == one.get_error_history()
        assert {"closed"} >= {circuit.state.value for circuit in one.circuits.values()}


def graph_of(node: Any) -> Any:
    """Return a graph of one node that can be interrupted and resumed."""
    builder = graphs.StateGraph(State)
    builder.add_node("ask", node)
    builder.add_edge(graphs.START, "ask")
    return builder.compile(checkpointer=checkpoints.InMemorySaver())


async def test_an_interrupt_inside_of_a_call_pauses_the_graph(handler: BAMLErrorHandler) -> None:
    """Async and blocking: the node that waits for a person is left after one attempt, and resumed with the person's answer."""
    asked: list[str] = []

    async def ask_on(client: str) -> str:
        asked.append(client)
        return str(types.interrupt("May I go on?"))

    async def node(_: State) -> State:
        answer, client = await handler.call_with_fallback(lambda client: lambda: ask_on(client), "Ask", "A")
        return {"answer": f"{answer} by {client}"}

    def blocking_node(_: State) -> State:
        def ask() -> str:
            asked.append("A")
            return str(types.interrupt("May I go on?"))

        return {"answer": handler.sync.call_with_retry(ask, "A", "Ask")}

    for function, expected in ((node, "yes by A"), (blocking_node, "yes")):
        asked.clear()
        graph, thread = graph_of(function), {"configurable": {"thread_id": "1"}}
        paused = await graph.ainvoke({}, thread)
        assert ["May I go on?"] == [each.value for each in paused["__interrupt__"]]
        assert ["A"] == asked
        assert {"answer": expected} == await graph.ainvoke(types.Command(resume="yes"), thread)
        assert ["A", "A"] == asked


@pytest.mark.parametrize(
    "steering",
    [
        errors.GraphInterrupt((types.Interrupt(value="?"),)),
        errors.ParentCommand(types.Command(goto="elsewhere")),
    ],
    ids=lambda steering: type(steering).__name__,
)
async def test_control_flow_inside_of_streams_goes_through(
    handler: BAMLErrorHandler, steering: Exception
) -> None:
    """After content too: the stream is not restarted, and the caller gets the framework's own object, async and blocking."""
    fake = ScriptedBAML(Tell=[Snapshots("Once", steering), "not asked"])
    blocking_fake = ScriptedSyncBAML(Tell=[Snapshots("Once", steering), "not asked"])

    with pytest.raises(type(steering)) as caught:
        await protect(fake, handler).stream.Tell().get_final_response()
    assert caught.value is steering
    with pytest.raises(type(steering)) as caught:
        list(protect(blocking_fake, handler).stream.Tell())
    assert caught.value is steering
    assert (1, 1) == (len(fake.calls), len(blocking_fake.calls))


def test_a_failure_of_the_framework_is_a_failure() -> None:
    """A graph that does not end is none of its signals."""
    assert "cancelled" != classify(errors.GraphRecursionError("too deep")).category.value
    assert "cancelled" == classify(errors.GraphInterrupt()).category.value
