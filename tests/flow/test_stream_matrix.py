"""Guarded streams with one backup: a cell for each protocol, and one for each kind of fault. `benchmarks/streams.py` has all."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from support import baml_projects
from support.baml_projects import PROVIDER_OPTIONS, function, provider_client, provider_name

from resilience import BAMLErrorHandler, FallbackPolicy, RetryPolicy, Settings, protect
from resilience.errors import AnswerError, AttemptTimeoutError, ContentRefusedError
from resilience.testing import Behaviour, Empty, Finish, Malformed, ProviderSimulator, Reset, Status, Stream

pytestmark = pytest.mark.baml

PROVIDERS = [
    name for name in PROVIDER_OPTIONS if name != "aws-bedrock" or baml_projects.BEDROCK_TAKES_AN_ENDPOINT
]
PLAN = {"title": "A plan", "verdict": "it will work"}
PROJECT = "class Plan {\n  title string\n  verdict string\n}\n" + "".join(
    provider_client(name)
    + function(f"Text{provider_name(name)}", f"client {provider_name(name)}Client")
    + function(f"Plan{provider_name(name)}", f"client {provider_name(name)}Client", result="Plan")
    for name in PROVIDERS
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("matrix")
    sys.path.insert(0, str(folder))
    yield baml_projects.generate(folder, "matrix_project", PROJECT).b
    sys.path.remove(str(folder))


@pytest.fixture(autouse=True)
def _one_request_for_each_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # the SDK of AWS would retry inside each attempt


@pytest.fixture
async def handler() -> AsyncIterator[BAMLErrorHandler]:
    made = BAMLErrorHandler(
        retry=RetryPolicy(max_retries=0, max_output_retries=0, first_token_timeout=30.0, stall_timeout=30.0),
        fallback=FallbackPolicy(clients=("Secondary",)),
        settings=Settings(store_url="memory://", privacy="off"),
    )
    yield made
    await made.aclose()


TEXT = "one two three four five six seven eight nine ten"


class Cell:
    """Plays one stream; `asked` is how often the client and its backup were asked."""

    def __init__(self, project: Any, handler: BAMLErrorHandler, simulator: ProviderSimulator) -> None:
        self._client = protect(project, handler)
        self._handler = handler
        self._simulator = simulator

    async def text(self, provider: str, behaviour: Behaviour) -> Any:
        """Return the answer of a function that returns text, when *provider* does *behaviour*."""
        return await self._play(f"Text{provider_name(provider)}", behaviour, TEXT)

    async def plan(self, provider: str, behaviour: Behaviour) -> Any:
        """Return the answer of a function with a typed result."""
        return (await self._play(f"Plan{provider_name(provider)}", behaviour, json.dumps(PLAN))).model_dump()

    async def _play(self, name: str, behaviour: Behaviour, content: str) -> Any:
        self._simulator.client("Primary").set(behaviour)
        self._simulator.client("Secondary").set(Stream(content))
        return await getattr(self._client.stream, name)("a question").get_final_response()

    @property
    def asked(self) -> tuple[int, int]:
        return self._simulator.client("Primary").asked, self._simulator.client("Secondary").asked

    @property
    def categories(self) -> list[str]:
        return [str(record.category) for record in self._handler.get_error_history()]


@pytest.fixture
def cell(project: Any, handler: BAMLErrorHandler, simulator: ProviderSimulator) -> Cell:
    return Cell(project, handler, simulator)


# --- each protocol ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_good_answer_is_asked_for_once(cell: Cell, provider: str) -> None:
    """A whole answer is one, and so is one whose connection stays open after its finish reason."""
    assert await cell.text(provider, Stream(TEXT)) == TEXT
    assert await cell.plan(provider, Stream(json.dumps(PLAN), fault="stall", at="mark")) == PLAN

    assert cell.asked == (2, 0)
    assert cell.categories == []


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_cut_answer_is_never_a_success(cell: Cell, provider: str) -> None:
    """An end without a finish reason, and the provider's word for a token limit, lead to the backup, also if the cut text parses."""
    cut = json.dumps({**PLAN, "verdict": "it wi"})

    assert await cell.text(provider, Stream(TEXT, fault="end", at="finish")) == TEXT
    assert await cell.plan(provider, Finish("length", cut)) == PLAN

    assert cell.categories == ["output_truncated"] * 2
    assert cell.asked == (2, 2)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_refusal_is_for_the_caller(cell: Cell, provider: str) -> None:
    """A refusal in the provider's own form is not asked for again, not even of the backup."""
    with pytest.raises(Exception) as refused:  # noqa: PT011 - BAML raises its own error for a prompt that Google blocks
        await cell.text(provider, Stream(TEXT, fault="refusal", at="opening"))

    assert isinstance(refused.value, ContentRefusedError) or "google" in provider or "vertex" in provider
    assert cell.categories == ["content_policy"]
    assert cell.asked == (1, 0)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_error_inside_the_stream_is_judged_by_its_event(cell: Cell, provider: str) -> None:
    """The provider's own code decides, whether BAML raises an error of its own or forgets the event for the next one."""
    assert await cell.text(provider, Stream(TEXT, error="rate_limit", goes_on=True)) == TEXT

    assert cell.categories == ["rate_limit"]
    assert cell.asked == (1, 1)


# --- each kind of fault -----------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Behaviour, str]] = {
    "error before the stream": (Status(529), "overloaded"),
    "reset before the headers": (Reset(), "network"),
    "plain text in an event": (
        Status(200, body="data: Internal Error\n\n", headers={"content-type": "text/event-stream"}),
        "output_truncated network",
    ),
    "reset inside the headers": (Stream(TEXT, fault="cut", at="head"), "network"),
    "no event": (Stream(TEXT, fault="end", at="headers"), "network"),
    "cut in the middle": (Stream(TEXT, fault="cut"), "network output_truncated"),
    "closed inside an event": (Stream(TEXT, fault="close", at="event"), "network output_truncated"),
    "no finish reason": (Stream(TEXT, finish=None), "output_truncated"),
    "broken event": (Stream(TEXT, fault="malformed"), "output_truncated"),
    "broken finish event": (Stream(TEXT, fault="malformed", at="finish"), "output_truncated"),
    "empty answer": (Empty(), "output_invalid"),
    "JSON instead of a stream": (Malformed('{"choices": []}'), "network"),
    "error, then an open connection": (
        Stream(TEXT, error="overloaded", fault="stall"),
        "overloaded",
    ),
    "error instead of a finish reason": (Stream(TEXT, error="overloaded", at="finish"), "overloaded"),
    "another error object": (Stream(TEXT, error={"type": "server_error", "message": "x"}), "server_error"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_leads_to_the_backup(cell: Cell, fault: str) -> None:
    """The backup gives the whole answer, and the record names what went wrong."""
    behaviour, categories = FAULTS[fault]

    assert await cell.text("openai-generic", behaviour) == TEXT

    assert cell.categories[0] in categories.split()
    assert cell.asked == (1, 1)


GOOD = {
    "thinking": Stream(TEXT, fault="thinking", at="opening"),
    "heartbeats, then content": Stream(TEXT, fault="heartbeats", at="opening", seconds=0.1),
    "event by event": Stream(TEXT, interval=0.005),
    "no end mark": Stream(TEXT, fault="end", at="mark"),
    "reset after the finish reason": Stream(TEXT, fault="cut", at="mark"),
    "error after the end": Stream(TEXT, error="overloaded", at="end"),
    "finish reason twice": Stream(TEXT, fault="finish", at="mark"),
    "broken event after the finish reason": Stream(TEXT, fault="malformed", at="mark"),
}


@pytest.mark.parametrize("how", GOOD)
async def test_what_takes_nothing_from_an_answer(cell: Cell, how: str) -> None:
    """An answer with a good finish reason stands, whatever comes before and after it."""
    assert await cell.text("anthropic", GOOD[how]) == TEXT

    assert cell.asked == (1, 0)
    assert cell.categories == []


@pytest.mark.parametrize("at", ["opening", "content"])
async def test_heartbeats_are_no_content(project: Any, simulator: ProviderSimulator, at: Any) -> None:
    """Pings neither begin an answer nor go on with it, so both limits run through them."""
    handler = BAMLErrorHandler(
        retry=RetryPolicy(max_retries=0, first_token_timeout=0.3, stall_timeout=0.3),
        settings=Settings(store_url="memory://", privacy="off"),
    )
    cell = Cell(project, handler, simulator)

    with pytest.raises(AttemptTimeoutError):
        await cell.text("anthropic", Stream(TEXT, fault="heartbeats", at=at))

    await handler.aclose()


def google(text: str, **more: Any) -> str:
    """An event of Google."""
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    return (
        "data: " + json.dumps({"candidates": [{**candidate, **more.pop("candidate", {})}], **more}) + "\n\n"
    )


async def test_an_event_that_baml_skips_is_not_lost(cell: Cell) -> None:
    """BAML passes over an event of Google without `usageMetadata`, and its answer lacks the text. The guarded one has it."""
    usage = {"usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}}
    end = google("three", candidate={"finishReason": "STOP"}, **usage)
    body = google("one ", **usage) + google("two ") + end
    behaviour = Status(200, body=body, headers={"content-type": "text/event-stream"})

    assert await cell.text("google-ai", behaviour) == "one two three"
    assert cell.asked == (1, 0)


async def test_a_whole_text_that_does_not_parse_is_an_invalid_answer(cell: Cell) -> None:
    """The connection stays open, so the text is parsed here; a failure is no mistake of the configuration."""
    stream = Stream("I would rather not", fault="stall", at="mark")

    with pytest.raises(Exception) as failed:  # noqa: PT011 - the group of both clients' errors
        await cell._play("PlanOpenai", stream, "nor would I")

    assert isinstance(failed.value, ExceptionGroup)
    assert isinstance(failed.value.exceptions[0], AnswerError)
    assert cell.categories[-1] == "output_invalid"
