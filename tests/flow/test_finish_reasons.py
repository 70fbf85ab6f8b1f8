"""An answer that the provider says it cut or withheld never passes as a good one, over the real BAML runtime."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Any

import pytest
from support import baml_projects
from support.provider_bodies import GOAL, TEXT, WHOLE, anthropic, bedrock, client_options, google, responses

from resilience import BAMLErrorHandler, FallbackPolicy, Settings, protect
from resilience.errors import AnswerError, ContentRefusedError, OutputTruncatedError
from resilience.testing import Answer, Finish, ProviderSimulator

pytestmark = pytest.mark.baml


@pytest.fixture
def baml_py() -> ModuleType:
    import baml_py  # noqa: PLC0415 - only tests that run BAML may load it

    return baml_py


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., BAMLErrorHandler]]:
    handlers: list[BAMLErrorHandler] = []

    def build(**fallback: Any) -> BAMLErrorHandler:
        settings = Settings(store_url="memory://", privacy="off")
        handlers.append(BAMLErrorHandler(fallback=FallbackPolicy(**fallback), settings=settings))
        return handlers[-1]

    yield build
    for handler in handlers:
        await handler.aclose()


# --- the OpenAI protocol ----------------------------------------------------------------------------------------------

CUT = ("length", "max_tokens", "model_length", "model_context_window_exceeded")
REFUSED = ("content_filter", "recitation", "blocklist", "spii", "image_safety", "SAFETY", "sensitive")


@pytest.mark.parametrize("reason", CUT)
async def test_a_cut_answer_is_replaced_by_a_backups(
    simulator: ProviderSimulator, b: Any, make: Any, reason: str
) -> None:
    """Every word for "cut" leads to the next client, although BAML found nothing wrong with the answer."""
    simulator.client("Primary").set(Finish(reason, text=TEXT))
    handler = make(clients=("Secondary",))

    answer = await protect(b, handler).ParseResearchGoal(GOAL)

    assert answer.suggested_methods != WHOLE["suggested_methods"]
    assert ["output_truncated"] == [record.category for record in handler.get_error_history()]
    assert [1, 1] == [simulator.client(name).asked for name in ("Primary", "Secondary")]


@pytest.mark.parametrize("reason", REFUSED)
async def test_a_withheld_answer_goes_to_content_clients_only(
    simulator: ProviderSimulator, b: Any, make: Any, reason: str
) -> None:
    """Every word for "withheld" leads to the clients for refused content, and not to an ordinary backup."""
    simulator.client("Primary").set(Finish(reason, text=TEXT))
    handler = make(clients=("Secondary",), content_clients=("Tertiary",))

    await protect(b, handler).ParseResearchGoal(GOAL)

    assert ["content_policy"] == [record.category for record in handler.get_error_history()]
    asked = [simulator.client(name).asked for name in ("Primary", "Secondary", "Tertiary")]
    assert asked == [1, 0, 1]


@pytest.mark.parametrize("reason", ["error", "insufficient_system_resource", "OTHER"])
async def test_an_answer_that_broke_off_is_asked_for_again(
    simulator: ProviderSimulator, b: Any, make: Any, reason: str
) -> None:
    """Where the provider failed while it wrote, the same client gets the one retry of unusable output."""
    simulator.client("Primary").script([Finish(reason, text=TEXT)])
    handler = make()

    await protect(b, handler).ParseResearchGoal(GOAL)

    assert ["output_invalid"] == [record.category for record in handler.get_error_history()]
    assert simulator.client("Primary").asked == 2


@pytest.mark.parametrize(
    ("reason", "error"),
    [("length", OutputTruncatedError), ("content_filter", ContentRefusedError), ("error", AnswerError)],
)
async def test_the_error_keeps_the_result(
    simulator: ProviderSimulator, b: Any, make: Any, reason: str, error: type[AnswerError]
) -> None:
    """What BAML made of the answer is on the error, for callers that can use a part of it."""
    simulator.client("Primary").set(Finish(reason, text=TEXT))

    with pytest.raises(error) as caught:
        await protect(b, make()).ParseResearchGoal(GOAL)

    assert type(caught.value) is error
    assert caught.value.result.suggested_methods == ["cut he"]  # type: ignore[attr-defined] # BAML's type


async def test_an_answer_cut_inside_its_json_falls_back(
    simulator: ProviderSimulator, b: Any, make: Any
) -> None:
    """A cut answer that BAML can close, or not, is replaced by a whole one of the next client."""
    simulator.client("Primary").set(Finish("length"))

    answer = await protect(b, make(clients=("Secondary",))).ParseResearchGoal(GOAL)

    assert answer.goal
    assert [1, 1] == [simulator.client(name).asked for name in ("Primary", "Secondary")]


async def test_an_answer_may_talk_about_finish_reasons(
    simulator: ProviderSimulator, b: Any, make: Any
) -> None:
    """An answer that contains "finish_reason": "length" is not taken for a cut one."""
    words = {**WHOLE, "goal": '"finish_reason": "length"', "domain": "length", "subdomains": ["recitation"]}
    simulator.client("Primary").set(Answer(words))

    assert (await protect(b, make()).ParseResearchGoal(GOAL)).domain == "length"


# --- the other protocols ----------------------------------------------------------------------------------------------


PROVIDERS = {
    "anthropic": anthropic,
    "google-ai": google,
    "openai-responses": responses,
    "aws-bedrock": bedrock,
}
PROTOCOL_REASONS = {
    "anthropic": {
        "max_tokens": "output_truncated",
        "model_context_window_exceeded": "output_truncated",
        "refusal": "content_policy",
        "end_turn": None,
    },
    "google-ai": {
        "MAX_TOKENS": "output_truncated",
        "SAFETY": "content_policy",
        "RECITATION": "content_policy",
        "BLOCKLIST": "content_policy",
        "SPII": "content_policy",
        "IMAGE_SAFETY": "content_policy",
        "PROHIBITED_CONTENT": "content_policy",
        "LANGUAGE": "content_policy",
        "MALFORMED_FUNCTION_CALL": "output_invalid",
        "OTHER": "output_invalid",
        "STOP": None,
    },
    "openai-responses": {
        "max_output_tokens": "output_truncated",
        "content_filter": "content_policy",
        "completed": None,
    },
    "aws-bedrock": {
        "max_tokens": "output_truncated",
        "model_context_window_exceeded": "output_truncated",
        "guardrail_intervened": "content_policy",
        "content_filtered": "content_policy",
        "end_turn": None,
    },
}


@pytest.fixture
async def served() -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """A server that answers every request with the JSON object given to it, and its URL."""
    answer: dict[str, Any] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
        body = json.dumps(answer).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n")
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", answer


@pytest.mark.parametrize(
    ("provider", "reason", "category"),
    [
        (name, reason, category)
        for name, words in PROTOCOL_REASONS.items()
        for reason, category in words.items()
    ],
)
async def test_every_protocol(
    served: tuple[str, dict[str, Any]],
    simulator: ProviderSimulator,
    b: Any,
    make: Any,
    baml_py: ModuleType,
    provider: str,
    reason: str,
    category: str | None,
) -> None:
    """Anthropic, Gemini, Responses and Bedrock each have their own words and places for them."""
    if provider == "aws-bedrock" and not baml_projects.BEDROCK_TAKES_AN_ENDPOINT:
        pytest.skip("this BAML asks Bedrock only at its own address")
    del simulator  # its environment variables keep protect() from warning
    url, answer = served
    answer.update(PROVIDERS[provider](reason))
    registry = baml_py.ClientRegistry()
    registry.add_llm_client("Own", provider, client_options(provider, url))
    registry.set_primary("Own")
    handler = make()
    guarded = protect(b, handler)

    if category is None:
        result = await guarded.ParseResearchGoal(GOAL, baml_options={"client_registry": registry})
        assert result.suggested_methods == WHOLE["suggested_methods"]
    else:
        with pytest.raises(AnswerError):
            await guarded.ParseResearchGoal(GOAL, baml_options={"client_registry": registry})

    assert {category} - {None} == {str(record.category) for record in handler.get_error_history()}
