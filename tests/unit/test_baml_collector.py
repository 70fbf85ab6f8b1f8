"""What is read from a Collector of BAML, whatever the provider."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from resilience.baml.collector import Usage, keys_of, last_error_of


def request(url: str, body: str = "{}", **headers: str) -> Any:
    return SimpleNamespace(url=url, headers=headers, body=SimpleNamespace(text=lambda: body))


def call(started: int, status: int | None) -> Any:
    response = None
    if status is not None:
        body = SimpleNamespace(text=lambda: "{}")
        response = SimpleNamespace(status=status, headers={"date": "x"} if status else {}, body=body)
    return SimpleNamespace(timing=SimpleNamespace(start_time_utc_ms=started), http_response=response)


@pytest.mark.parametrize(
    ("asked", "model"),
    [
        (request("https://h/v1/chat/completions", '{"model":"gpt-4o"}'), "gpt-4o"),
        (request("https://h/v1beta/models/gemini-2.0-flash:generateContent?key=k"), "gemini-2.0-flash"),
        (
            request("https://h/openai/deployments/my-gpt-4o/chat/completions?api-version=2024-06-01"),
            "my-gpt-4o",
        ),
        (
            request("/model/anthropic.claude-3-5-sonnet-20240620-v1%3A0/converse"),
            "anthropic.claude-3-5-sonnet-20240620-v1:0",
        ),
        (request("https://h/v1/chat"), None),
    ],
)
def test_the_model_is_read_from_the_body_or_the_address(asked: Any, model: str | None) -> None:
    """The body names the model, or the path does: of Google, the deployment of Azure, a versioned id of Bedrock."""
    assert model == Usage(request=asked).model


def test_keys_are_found_in_headers_and_in_the_address() -> None:
    """Whatever carries the key, what a provider repeats of it can be removed."""
    asked = request(
        "https://h/v1/models/m:generate?key=AQ.opaque%2Fkey-123&alt=sse&api-key=another-key-1",
        **{"authorization": "Bearer sk-0123456789", "x-team": "not-a-secret"},
    )

    assert ["sk-0123456789", "AQ.opaque/key-123", "another-key-1"] == keys_of(asked)


@pytest.mark.parametrize(
    ("calls", "status"),
    [
        ([call(2, None), call(1, 401)], 401),
        ([call(3, None), call(1, 503), call(2, 429)], 429),
        ([call(1, 200)], None),
        ([call(1, 500), call(2, 200)], 500),
        ([call(1, 0)], None),
        ([], None),
    ],
)
def test_the_last_finished_request_is_found(calls: list[Any], status: int | None) -> None:
    """The latest request that ended with an error status, however BAML orders them; a success or none says nothing."""
    reading = last_error_of(SimpleNamespace(last=SimpleNamespace(calls=calls)))

    assert status == (None if reading is None else reading.status)
