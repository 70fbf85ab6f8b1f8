"""What the simulator reads from a request of each protocol, and the bodies that it answers with."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from resilience.testing import Behaviour, Finish, ProviderSimulator, Status
from resilience.testing.dialects import Endpoint, endpoint, messages

PATHS = {
    "openai": "/chat/completions",
    "openai-responses": "/responses",
    "azure-openai": "/openai/deployments/m/chat/completions",
    "anthropic": "/v1/messages",
    "google-ai": "/models/m:generateContent",
    "aws-bedrock": "/model/m/converse",
}
"""The path of each protocol behind the base URL."""


def ask(
    simulator: ProviderSimulator, path: str, behaviour: Behaviour, **body: Any
) -> tuple[http.client.HTTPResponse, Any]:
    """Return the response to one request, and its body as an object."""
    simulator.client("Primary").set(behaviour)
    parts = urlsplit(simulator.url("Primary"))
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    connection.request("POST", parts.path + path, json.dumps(body))
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response, json.loads(text)


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/chat/completions", "", Endpoint("openai")),
        ("/chat/completions", "api-version=2024-10-21", Endpoint("azure-openai")),
        ("/chat/completions", "no-api-version=1", Endpoint("openai")),
        (PATHS["azure-openai"], "", Endpoint("azure-openai", "m")),
        ("/responses", "", Endpoint("openai-responses")),
        ("/v1/messages", "", Endpoint("anthropic")),
        ("/messages", "", Endpoint("anthropic")),
        ("/models/gemini-2.5-pro:generateContent", "key=x", Endpoint("google-ai", "gemini-2.5-pro")),
        ("/publishers/google/models/m:generateContent", "", Endpoint("google-ai", "m")),
        ("/model/anthropic.claude-v2%3A0/converse", "", Endpoint("aws-bedrock", "anthropic.claude-v2:0")),
        ("/models", "", None),
        ("/models/m:streamGenerateContent", "alt=sse", Endpoint("google-ai", "m", stream=True)),
        ("/model/m/converse-stream", "", Endpoint("aws-bedrock", "m", stream=True)),
        ("/chat/completions/x", "", None),
    ],
)
def test_the_url_shows_the_protocol(path: str, query: str, expected: Endpoint | None) -> None:
    """The path tells the protocols apart, and holds the model of those that name it there."""
    assert endpoint(path, query) == expected


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]},
        {"input": [{"role": "system", "content": [{"type": "input_text", "text": "a"}]}, {"content": "b"}]},
        {"system": "a", "messages": [{"content": [{"type": "text", "text": "b"}]}]},
        {"system": [{"text": "a"}], "messages": [{"role": "user", "content": [{"text": "b"}]}]},
        {"systemInstruction": {"parts": [{"text": "a"}]}, "contents": [{"parts": [{"text": "b"}]}]},
        {"system_instruction": {"parts": [{"text": "a"}]}, "contents": [{"parts": [{"text": "b"}]}]},
    ],
)
def test_the_messages_of_each_protocol(body: dict[str, Any]) -> None:
    """The system's text comes first, wherever the protocol has it."""
    assert messages(body) == ["a", "b"]


@pytest.mark.parametrize(
    "body", [{}, {"messages": 7}, {"messages": [7, None, {"content": 3}]}, {"input": ""}]
)
def test_a_body_without_messages(body: dict[str, Any]) -> None:
    """A body of no protocol has no text, and is no error."""
    assert "".join(messages(body)) == ""


def test_the_short_form_of_an_input() -> None:
    """The Responses API also takes a text as its whole input."""
    assert messages({"input": "b"}) == ["b"]


@pytest.mark.parametrize(
    ("protocol", "keys", "word"),
    [
        ("openai", ("choices", 0, "finish_reason"), "length"),
        ("openai-responses", ("incomplete_details", "reason"), "max_output_tokens"),
        ("azure-openai", ("choices", 0, "finish_reason"), "length"),
        ("anthropic", ("stop_reason",), "max_tokens"),
        ("google-ai", ("candidates", 0, "finishReason"), "MAX_TOKENS"),
        ("aws-bedrock", ("stopReason",), "max_tokens"),
    ],
)
@pytest.mark.parametrize("reason", ["length", "another word"])
def test_the_field_of_the_finish_reason(
    provider_simulator: ProviderSimulator, protocol: str, keys: tuple[Any, ...], word: str, reason: str
) -> None:
    """`length` becomes the provider's word; every other word is sent as it is."""
    _, value = ask(provider_simulator, PATHS[protocol], Finish(reason))

    for key in keys:
        value = value[key]
    assert value == (word if reason == "length" else reason)


@pytest.mark.parametrize(
    ("protocol", "wait", "header", "delay"),
    [
        ("openai", 7, "7", None),
        ("anthropic", 1.5, "1.5", None),
        ("aws-bedrock", 7, "7", None),
        ("google-ai", 7, None, "7s"),
        ("google-ai", 0.25, None, "0.25s"),
        ("google-ai", "Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("google-ai", None, None, None),
    ],
)
def test_the_place_of_a_wait(
    provider_simulator: ProviderSimulator,
    protocol: str,
    wait: float | str | None,
    header: str | None,
    delay: str | None,
) -> None:
    """Google states seconds in `RetryInfo`; the others, and every other text, use `Retry-After`."""
    response, body = ask(provider_simulator, PATHS[protocol], Status(429, retry_after=wait))

    details = body["error"].get("details", [{}]) if "error" in body else [{}]
    assert (response.getheader("retry-after"), details[0].get("retryDelay")) == (header, delay)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 418, 429, 500, 503, 507, 529])
def test_the_errors_of_each_protocol(provider_simulator: ProviderSimulator, code: int) -> None:
    """Every status has a body in every protocol, also one that a provider does not document."""
    answers = {name: ask(provider_simulator, path, Status(code)) for name, path in PATHS.items()}

    assert {response.status for response, _ in answers.values()} == {code}
    bodies = {name: body for name, (_, body) in answers.items()}
    assert set(bodies["openai"]["error"]) == {"message", "type", "param", "code"}
    assert set(bodies["azure-openai"]["error"]) == {"message", "code"}
    assert bodies["anthropic"]["type"] == "error"
    assert bodies["google-ai"]["error"]["code"] == code
    assert set(bodies["aws-bedrock"]) == {"message"}
    assert str(answers["aws-bedrock"][0].getheader("x-amzn-errortype")).endswith("Exception")


@pytest.mark.parametrize("own", ["a gateway's page", {"detail": "no"}])
def test_a_body_of_the_tests_own(provider_simulator: ProviderSimulator, own: Any) -> None:
    """A body that a test gives is sent as it is; a wait is then in the header, also for Google."""
    body = json.dumps(own) if isinstance(own, str) else own
    response, sent = ask(provider_simulator, PATHS["google-ai"], Status(503, body=body, retry_after=3))

    assert (sent, response.getheader("retry-after")) == (own, "3")
