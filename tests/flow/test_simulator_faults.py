"""Each behaviour of the simulator through the real BAML runtime: exception, status, and what the Collector saw.

What BAML makes of each fault was measured beforehand; from 0.218 on a broken connection is an HTTP error of status 2,
before that a validation error.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import pytest
from baml_py import ClientRegistry, Collector

from resilience.testing import (
    Answer,
    Behaviour,
    Empty,
    ErrorInBody,
    Finish,
    Hang,
    Malformed,
    ProviderSimulator,
    Reset,
    Slow,
    Status,
    Truncate,
    When,
    WrongSchema,
)

VERSION = tuple(int(part) for part in importlib.metadata.version("baml-py").split(".")[:2])
GOAL: tuple[Any, ...] = ("Why does the signal drift?", [], [], None, "literature_based")
BROKEN = ("BamlClientHttpError", 2) if VERSION >= (0, 218) else ("BamlValidationError", None)
TIMEOUT_408 = ("BamlTimeoutError", None) if VERSION >= (0, 212) else ("BamlClientHttpError", 408)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a caller can learn about a failed call."""

    kind: str
    status: int | None
    answered: int | None
    headers: dict[str, str]


async def ask(b: Any) -> Seen:
    """Call and return the failure as BAML reports it."""
    collector = Collector()
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is what the tests compare
        await b.GenerateHypothesis(*GOAL, baml_options={"collector": collector})
    response = last_response(collector)
    real = bool(response and response.headers)
    return Seen(
        kind=type(caught.value).__name__,
        status=getattr(caught.value, "status_code", None),
        answered=response.status if real else None,
        headers=dict(response.headers) if real else {},
    )


def last_response(collector: Collector) -> Any:
    """Return the response of the last attempt; one that BAML made up has no headers."""
    log: Any = collector.last
    return log.calls[-1].http_response


@pytest.mark.parametrize(
    "code", [301, 400, 401, 402, 403, 404, 409, 413, 418, 422, 429, 500, 502, 503, 504, 520, 529]
)
async def test_a_status_arrives_as_itself(b: Any, simulator: ProviderSimulator, code: int) -> None:
    """Every failing status is an HTTP error of that status, and the Collector has the server's response."""
    simulator.client("Primary").set(Status(code))

    seen = await ask(b)

    assert (seen.kind, seen.status, seen.answered) == ("BamlClientHttpError", code, code)
    assert seen.headers["x-request-id"] == "req_00000001"
    assert [line.sent for line in simulator.requests] == [str(code)]


async def test_a_request_timeout_of_the_server_is_a_timeout(b: Any, simulator: ProviderSimulator) -> None:
    """408 is BAML's timeout where it has one, and the Collector has the real status."""
    simulator.client("Primary").set(Status(408))

    seen = await ask(b)

    assert (seen.kind, seen.status) == TIMEOUT_408
    assert seen.answered == 408


async def test_headers_and_retry_after_arrive(b: Any, simulator: ProviderSimulator) -> None:
    """Stated delays and rate limit headers of a refusal can be read by the caller."""
    simulator.client("Primary").set(
        Status(429, retry_after=3, headers={"X-RateLimit-Remaining-Requests": "0"})
    )

    seen = await ask(b)

    assert seen.headers["retry-after"] == "3"
    assert seen.headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize(
    "behaviour",
    [
        Reset(),
        Reset(orderly=True),
        Reset("headers"),
        Reset("body"),
        Truncate(),
        Truncate(10_000_000),
        Hang(0.05),
    ],
    ids=str,
)
async def test_a_broken_connection_leaves_no_answer(
    b: Any, simulator: ProviderSimulator, behaviour: Behaviour
) -> None:
    """Resets, closes and cut bodies are transport faults: the Collector has no real response."""
    simulator.client("Primary").set(behaviour)

    seen = await ask(b)

    assert (seen.kind, seen.status) == BROKEN
    assert seen.answered is None
    assert [line.sent for line in simulator.requests] == [str(behaviour)]


async def test_a_refused_connection_never_reaches_a_server(
    b: Any, simulator: ProviderSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens at `refused_url`; BAML reports a 503 that no server sent."""
    monkeypatch.setenv("PRIMARY_BASE_URL", simulator.refused_url())

    seen = await ask(b)

    assert seen.status == 503
    assert seen.answered is None
    assert simulator.requests == []
    assert simulator.refused_url() == simulator.refused_url()


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (Malformed(), "BamlClientHttpError"),
        (Malformed(""), "BamlClientHttpError"),
        (ErrorInBody(), BROKEN[0]),
        (ErrorInBody({"code": 502, "message": "upstream"}), BROKEN[0]),
        (WrongSchema(), "BamlValidationError"),
        (Empty(), "BamlValidationError"),
        (Answer("I would rather not."), "BamlValidationError"),
        (Finish("content_filter", text="I cannot"), "BamlValidationError"),
    ],
    ids=repr,
)
async def test_a_useless_answer_is_an_error_with_status_200(
    b: Any, simulator: ProviderSimulator, behaviour: Behaviour, kind: str
) -> None:
    """A body that is not the protocol is an HTTP error, an answer that does not fit a validation error; both have status 200."""
    simulator.client("Primary").set(behaviour)

    seen = await ask(b)

    assert (seen.kind, seen.answered) == (kind, 200)


async def test_a_cut_answer_says_why_it_ended(b: Any, simulator: ProviderSimulator) -> None:
    """`finish_reason` and the cut text are in the response, whether or not BAML can close the brackets."""
    simulator.client("Primary").set(
        Finish("length", text='{"overall": 0.5, "aspects": [], "shared_ideas": [], "differences": ["cut')
    )
    collector = Collector()
    hypothesis: Any = {
        "title": "t",
        "statement": "s",
        "rationale": "r",
        "assumptions": [],
        "experiments": [],
        "citations": [],
        "novelty": "n",
        "confidence": 0.5,
    }

    score = await b.CalculateSimilarity(hypothesis, hypothesis, [], baml_options={"collector": collector})

    body = last_response(collector).body.json()
    assert score.differences == ["cut"]
    assert body["choices"][0]["finish_reason"] == "length"


async def test_a_finish_without_text_cuts_a_fitting_answer(b: Any, simulator: ProviderSimulator) -> None:
    """`Finish()` sends the first part of a fitting answer."""
    simulator.client("Primary").set(Finish())

    assert (await ask(b)).kind == "BamlValidationError"


async def test_a_gateway_page_is_sent_as_it_is(b: Any, simulator: ProviderSimulator) -> None:
    """A text body is sent unchanged, as HTML where it is HTML."""
    simulator.client("Primary").set(Status(502, body="<html>Bad Gateway</html>"))

    seen = await ask(b)

    assert (seen.status, seen.answered) == (502, 502)
    assert seen.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("when", get_args(When))
async def test_a_hang_lasts_until_the_caller_gives_up(
    b: Any, simulator: ProviderSimulator, when: When
) -> None:
    """A hanging client is silent; when the caller cancels, the connection closes and nothing is in flight."""
    simulator.client("Primary").set(Hang(when=when))
    call = asyncio.ensure_future(b.GenerateHypothesis(*GOAL))
    await until(lambda: simulator.in_flight == 1)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    await until(lambda: simulator.in_flight == 0)
    assert simulator.client("Primary").counts == {str(Hang(when=when)): 1}


async def test_a_simulator_that_closes_drops_the_hanging(b: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing drops every open request, like a provider that crashes."""
    async with ProviderSimulator() as simulator:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        simulator.client("Primary").set(Hang())
        call = asyncio.ensure_future(b.GenerateHypothesis(*GOAL))
        await until(lambda: simulator.in_flight == 1)

    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class differs by version
        await call
    assert type(caught.value).__name__ == BROKEN[0]


async def test_a_slow_answer_is_a_good_one(b: Any, simulator: ProviderSimulator) -> None:
    """`Slow` delays the answer; until then the request is in flight."""
    simulator.client("Primary").set(Slow(0.2))
    call = asyncio.ensure_future(b.GenerateHypothesis(*GOAL))
    await until(lambda: simulator.in_flight == 1)

    assert (await call).title
    assert simulator.in_flight == 0


async def test_a_stream_is_answered_in_pieces(b: Any, simulator: ProviderSimulator) -> None:
    """BAML's streams get server-sent events and end with the same answer as the plain call."""
    plain = await b.GenerateHypothesis(*GOAL)
    stream = b.stream.GenerateHypothesis(*GOAL)

    partial = [piece.title async for piece in stream]

    assert partial
    assert await stream.get_final_response() == plain
    assert [line.stream for line in simulator.requests] == [False, True]


@pytest.mark.parametrize(
    "behaviour", [Status(503), Reset(), Reset("body"), Truncate(), ErrorInBody(), Malformed()], ids=str
)
async def test_a_stream_fails_in_its_final_response(
    b: Any, simulator: ProviderSimulator, behaviour: Behaviour
) -> None:
    """Behaviours apply to streams too; BAML raises when the final response is requested."""
    simulator.client("Primary").set(behaviour)

    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class differs by version
        await b.stream.GenerateHypothesis(*GOAL).get_final_response()

    assert type(caught.value).__name__.startswith("Baml")


async def test_each_client_has_its_own_behaviour(b: Any, simulator: ProviderSimulator) -> None:
    """The behaviour of one client does not affect the others."""
    simulator.client("Primary").set(Status(503))
    registry = ClientRegistry()
    registry.set_primary("Secondary")

    answer = await b.GenerateHypothesis(*GOAL, baml_options={"client_registry": registry})

    assert answer.title
    assert simulator.counts == {"Primary": {}, "Secondary": {"200": 1}, "Tertiary": {}}
    assert [(line.client, line.model) for line in simulator.requests] == [
        ("Secondary", "simulated-secondary")
    ]


async def until(what: Callable[[], bool]) -> None:
    """Poll until *what* is true, within the test's own time limit."""
    while not what():  # noqa: ASYNC110 - the simulator has counts to read, no events to wait for
        await asyncio.sleep(0.005)
