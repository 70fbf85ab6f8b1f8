"""The four ways to make a call follow the same rules: async and blocking, plain and streamed.

Each script is played through all of them, with the same clock and the same jitter. What the caller got, how long was waited, and what
was logged must be equal, but for ids, times and what only streams have.

The scripts that are looked for are played without circuits. Cool-downs are noted by the thread of the store, and a clock that each sleep
moves on at once has gone on by then or has not. One script has a circuit, which opens by failures alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience import (
    BAMLErrorHandler,
    BreakerPolicy,
    FallbackPolicy,
    RetryPolicy,
    Settings,
    protect,
    runtime,
)
from resilience.testing import ManualClock, ScriptedBAML, ScriptedSyncBAML

Calls = list[list[Exception]]
"""For each call what its attempts raise, in order. The attempt after them gets an answer."""


class Mistake(Exception):  # noqa: N818 - the program's own, whose class name tells nothing
    pass


class Steering(Exception):  # noqa: N818 - an exception that steers a program
    pass


def http(status: int, text: str) -> Exception:
    return RuntimeError(f"Request failed with status code: {status}. {text}")


FAILURES = {
    "overloaded": http(503, "The model is overloaded"),
    "rate_limit": http(429, "Rate limit reached, please try again in 2s"),
    "billing": http(429, "You exceeded your current quota, please check your plan and billing details"),
    "auth": http(401, "Incorrect API key provided"),
    "invalid": http(400, "messages: at least one message is required"),
    "context": http(400, "This model's maximum context length is 8192 tokens"),
    "network": ConnectionError("connection reset by peer"),
    "timeout": TimeoutError("timed out"),
    "unknown": Mistake("something else"),
    "steering": Steering("stop here"),
}
SCRIPTS: dict[str, list[list[str]]] = {
    "answer": [[]],
    "recovered": [["overloaded"], ["network", "timeout"]],
    "stated wait": [["rate_limit", "rate_limit"], []],
    "never retried": [["invalid"], ["auth"], []],
    "next client": [["billing"], ["context"], []],
    "exhausted": [["overloaded"] * 12],
    "steered": [["steering"], ["overloaded", "steering"], []],
}
WITHOUT_CIRCUITS = BreakerPolicy(enabled=False)
_OF_ONE_DRIVER = {"ts", "row_sequence", "namespace", "scope", "streamed", "time_to_first_token"}


class Lines:
    """A sink that keeps what the drivers have in common of every line."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        for stream, line in lines:
            fields = {key: value for key, value in line.items() if is_comparable(key)}
            self.kept.append({"stream": stream, **fields})


def is_comparable(field: str) -> bool:
    return field not in _OF_ONE_DRIVER and not field.endswith(("_id", "_at", "_ms", "duration"))


def script_of(calls: Calls) -> Callable[..., str]:
    """Return the step of all calls: it raises what is next for the call that its argument names."""
    left = [list(failures) for failures in calls]

    def step(number: int) -> str:
        if left[number]:
            raise left[number].pop(0)
        return f"answer {number}"

    return step


def played(calls: Calls, driver: str, backups: tuple[str, ...], breaker: BreakerPolicy) -> dict[str, Any]:
    """Make *calls* one after the other with *driver*, and return all that can be compared."""
    clock, lines = ManualClock(), Lines()
    blocking, streamed = "sync" in driver, "stream" in driver
    baml: Any = (ScriptedSyncBAML if blocking else ScriptedBAML)(Tell=script_of(calls))
    handler = BAMLErrorHandler(
        settings=Settings(store_url="memory://", namespace=f"drivers-{next(_numbers)}"),
        retry=RetryPolicy(max_retries=2, initial_delay=1.0),
        fallback=FallbackPolicy(clients=backups),
        breaker=breaker,
        sinks=[lines],
        pass_through=(Steering,),
        clock=clock,
        random=lambda: 0.5,
    )
    guarded = protect(baml, handler)

    async def all_async() -> list[Any]:
        return [await outcome_async(number) for number in range(len(calls))]

    async def outcome_async(number: int) -> Any:
        try:
            return await (
                guarded.stream.Tell(number).get_final_response() if streamed else guarded.Tell(number)
            )
        except Exception as exc:  # noqa: BLE001 - compared
            return outcome(exc)

    def outcome_blocking(number: int) -> Any:
        try:
            return guarded.stream.Tell(number).get_final_response() if streamed else guarded.Tell(number)
        except Exception as exc:  # noqa: BLE001 - compared
            return outcome(exc)

    try:
        outcomes = [outcome_blocking(n) for n in range(len(calls))] if blocking else asyncio.run(all_async())
    finally:
        handler.close()
    of_circuits = [line for line in lines.kept if line["event"].startswith("breaker.")]
    return {
        "outcomes": outcomes,
        "asked": len(baml.calls),
        "waited": clock.monotonic(),
        # Apart from the others: they are logged by another thread, so their place among the lines of calls varies.
        "circuits": of_circuits,
        "lines": [line for line in lines.kept if line not in of_circuits and line["event"] != "config"],
    }


_numbers = count()


@pytest.fixture(autouse=True, scope="module")
def openings_end_without_jitter() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime._stores, "_sample", lambda: 0.5)
        yield


def outcome(exc: Exception) -> tuple[str, str, list[str]]:
    return type(exc).__name__, str(exc), list(getattr(exc, "__notes__", []))


def assert_drivers_agree(
    calls: Calls, backups: tuple[str, ...], breaker: BreakerPolicy = WITHOUT_CIRCUITS
) -> dict[str, Any]:
    expected = played(calls, "async", backups, breaker)
    for driver in ("sync", "async stream", "sync stream"):
        found = played(calls, driver, backups, breaker)
        for key in expected:
            assert expected[key] == found[key], (driver, key)
    return expected


def failures(names: Sequence[Sequence[str]]) -> Calls:
    return [[FAILURES[name] for name in call] for call in names]


@pytest.mark.parametrize("backups", [(), ("Backup",)], ids=["alone", "backup"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_ends_alike_in_all_drivers(name: str, backups: tuple[str, ...]) -> None:
    """Retries, stated waits, fallbacks, refusals and control flow do not depend on the way of calling."""
    result = assert_drivers_agree(failures(SCRIPTS[name]), backups)

    assert len(SCRIPTS[name]) == sum(line["event"] == "call.end" for line in result["lines"])


def test_an_opened_circuit_refuses_alike_in_all_drivers() -> None:
    """The failure that opens the circuit is the same for all drivers, and so is what the refused call gets."""
    # Only drivers of event loops probe beside a call.
    breaker = BreakerPolicy(probe_beside=False, open_jitter=0.0)
    result = assert_drivers_agree(failures([["overloaded"] * 3, ["overloaded"] * 3, []]), (), breaker)

    assert "CircuitOpenError" == result["outcomes"][-1][0]
    assert "open" == result["circuits"][0]["to_state"]


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(sorted(FAILURES)), max_size=8), min_size=1, max_size=4),
    st.sampled_from([(), ("Backup",)]),
)
def test_no_script_is_found_on_which_drivers_differ(names: list[list[str]], backups: tuple[str, ...]) -> None:
    """Any sequence of failures over several calls has the same outcomes and log lines in all four drivers."""
    assert_drivers_agree(failures(names), backups)
