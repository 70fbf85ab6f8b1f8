"""Prompts and answers in the form the conventions for generative AI give them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from resilience.telemetry import messages


def message(role: str, *texts: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text} for text in texts]}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ({"messages": [{"role": "system", "content": "Be brief"}]}, [message("system", "Be brief")]),
        (
            {
                "system": [{"type": "text", "text": "Be brief"}],
                "messages": [{"role": "user", "content": "Why?"}],
            },
            [message("system", "Be brief"), message("user", "Why?")],
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}
                ]
            },
            [message("user", "a")],
        ),
        (
            {"contents": [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}]},
            [message("user", "a", "b")],
        ),
        ({"messages": ["no object", {"content": 7}]}, [message("user")]),
    ],
    ids=["OpenAI", "Anthropic", "parts", "Gemini", "odd"],
)
def test_the_messages_of_each_protocol_are_found(prompt: object, expected: object) -> None:
    """Roles and texts are those of the request; what is no text is left out."""
    assert expected == json.loads(messages.asked(json.dumps(prompt)) or "")


@pytest.mark.parametrize(
    "prompt", ["plain words", '{"messages": [{"role": "us', "[1, 2]", '{"other": 1}', "null"]
)
def test_what_cannot_be_read_is_one_message_of_the_users(prompt: str) -> None:
    """Plain text, JSON that the privacy level cut, and unknown forms are told as they are."""
    assert [message("user", prompt)] == json.loads(messages.asked(prompt) or "")


def test_an_answer_is_the_assistants() -> None:
    """It is told as one message, whatever it is."""
    assert [message("assistant", '{"a": 1}')] == json.loads(messages.answered('{"a": 1}') or "")


def test_nothing_is_told_of_nothing() -> None:
    """Where the privacy level shows nothing there is no message."""
    assert (None, None) == (messages.asked(None), messages.answered(None))
