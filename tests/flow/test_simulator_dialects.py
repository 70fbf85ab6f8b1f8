"""The simulator in the protocol of each provider that BAML knows, through `protect()` and the real BAML runtime."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from support import baml_projects
from support.baml_projects import PROVIDER_OPTIONS, function, provider_client, provider_name
from support.provider_bodies import GOAL, client_options

from resilience import BAMLErrorHandler, RetryPolicy, Settings, protect
from resilience.errors import ContentRefusedError, OutputTruncatedError
from resilience.testing import (
    Behaviour,
    Empty,
    ErrorInBody,
    Finish,
    Malformed,
    ProviderSimulator,
    Request,
    Reset,
    Status,
    Truncate,
    WrongSchema,
)

pytestmark = [
    pytest.mark.baml,
    pytest.mark.skipif(
        not baml_projects.BEDROCK_TAKES_AN_ENDPOINT,
        reason="this BAML cannot compile the clients of all providers",
    ),
]

CUT_WORDS = {
    "openai-responses": "max_output_tokens",
    "anthropic": "max_tokens",
    "google-ai": "MAX_TOKENS",
    "vertex-ai": "MAX_TOKENS",
    "aws-bedrock": "max_tokens",
}
"""The word of each provider for an answer at the token limit; that of the others is `length`."""


PROJECT = "class Box {\n  ok bool\n}\n" + "".join(
    provider_client(provider)
    + function(provider_name(provider), f"client {provider_name(provider)}Client", result="Box")
    for provider in PROVIDER_OPTIONS
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("dialects")
    sys.path.insert(0, str(folder))
    yield baml_projects.generate(folder, "dialects_project", PROJECT).b
    sys.path.remove(str(folder))


@pytest.fixture
async def handler(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BAMLErrorHandler]:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # its SDK would retry inside each attempt
    made = BAMLErrorHandler(
        retry=RetryPolicy(max_retries=0, max_output_retries=0),
        settings=Settings(store_url="memory://", privacy="off"),
    )
    yield made
    await made.aclose()


async def _ask(project: Any, handler: BAMLErrorHandler, provider: str) -> Any:
    return await getattr(protect(project, handler), provider_name(provider))("a question")


@pytest.mark.parametrize("provider", PROVIDER_OPTIONS)
async def test_a_good_answer(
    simulator: ProviderSimulator, project: Any, handler: BAMLErrorHandler, provider: str
) -> None:
    """The default answer parses, and the request shows its model and prompt, wherever its protocol has them."""
    requests: list[Request] = []

    def look(request: Request) -> Behaviour:
        requests.append(request)
        return Status(200)

    simulator.client("Primary").set(look)

    assert (await _ask(project, handler, provider)).ok
    assert [request.model for request in requests] == ["m"]
    assert "a question" in requests[0].prompt


@pytest.mark.parametrize("provider", PROVIDER_OPTIONS)
async def test_the_co_scientists_prompts_are_recognised(
    simulator: ProviderSimulator, b: Any, handler: BAMLErrorHandler, provider: str
) -> None:
    """The default answer fits the function of the prompt, which each protocol has in another place."""
    import baml_py  # noqa: PLC0415 - only tests that run BAML may load it

    registry = baml_py.ClientRegistry()
    registry.add_llm_client("Own", provider, client_options(provider, simulator.url("Primary")))
    registry.set_primary("Own")

    answer = await protect(b, handler).ParseResearchGoal(GOAL, baml_options={"client_registry": registry})

    assert answer.domain == "biology"
    assert [line.function for line in simulator.requests] == ["ParseResearchGoal"]


@pytest.mark.parametrize("provider", PROVIDER_OPTIONS)
async def test_a_rate_limit_states_its_wait(
    simulator: ProviderSimulator, project: Any, handler: BAMLErrorHandler, provider: str
) -> None:
    """A 429 is a rate limit in every protocol, with its wait in the place where the provider states it."""
    simulator.client("Primary").set(Status(429, retry_after=7))

    with pytest.raises(Exception, match=r"."):
        await _ask(project, handler, provider)

    assert [(record.category, record.retry_after) for record in handler.get_error_history()] == [
        ("rate_limit", 7.0)
    ]


STATUSES = {
    401: {"authentication"},
    403: {"permission"},
    404: {"not_found"},
    500: {"server_error"},
    503: {"service_unavailable", "overloaded"},
    529: {"service_unavailable", "overloaded"},
}
"""The categories that are right for each status. Bodies tell a provider that is away from one that is overloaded."""


@pytest.mark.parametrize("provider", PROVIDER_OPTIONS)
@pytest.mark.parametrize("code", STATUSES)
async def test_every_status(
    simulator: ProviderSimulator, project: Any, handler: BAMLErrorHandler, provider: str, code: int
) -> None:
    """A status means the same in every protocol, with the body and the headers of each."""
    simulator.client("Primary").set(Status(code))

    with pytest.raises(Exception, match=r"."):
        await _ask(project, handler, provider)

    (record,) = handler.get_error_history()
    assert record.category in STATUSES[code]


@pytest.mark.parametrize(
    ("provider", "word"),
    [*((provider, "length") for provider in PROVIDER_OPTIONS), *CUT_WORDS.items()],
)
async def test_a_cut_answer(
    simulator: ProviderSimulator, project: Any, handler: BAMLErrorHandler, provider: str, word: str
) -> None:
    """`length` and the provider's own word for it both reach the field in which the provider has its finish reason."""
    simulator.client("Primary").set(Finish(word, text='{"ok": true}'))

    with pytest.raises(OutputTruncatedError):
        await _ask(project, handler, provider)


@pytest.mark.parametrize("provider", PROVIDER_OPTIONS)
async def test_a_withheld_answer(
    simulator: ProviderSimulator, project: Any, handler: BAMLErrorHandler, provider: str
) -> None:
    """`content_filter` becomes the word of each provider for an answer that it withheld."""
    simulator.client("Primary").set(Finish("content_filter", text='{"ok": true}'))

    with pytest.raises(ContentRefusedError):
        await _ask(project, handler, provider)


FAULTS: dict[str, tuple[Behaviour, str]] = {
    "empty": (Empty(), "output_invalid"),
    "wrong schema": (WrongSchema(), "output_invalid"),
    "error in body": (ErrorInBody(), "rate_limit"),
    "malformed": (Malformed(), "network"),
    "truncate": (Truncate(), "network"),
    "reset": (Reset("body"), "network"),
}
"""Each further behaviour, and the category of its record."""


@pytest.mark.parametrize("provider", PROVIDER_OPTIONS)
@pytest.mark.parametrize("fault", FAULTS)
async def test_every_other_fault(
    simulator: ProviderSimulator, project: Any, handler: BAMLErrorHandler, provider: str, fault: str
) -> None:
    """A fault is the same kind of failure in every protocol."""
    behaviour, category = FAULTS[fault]
    simulator.client("Primary").set(behaviour)

    with pytest.raises(Exception, match=r"."):
        await _ask(project, handler, provider)

    assert [record.category for record in handler.get_error_history()] == [category]
    assert simulator.client("Primary").asked == 1
