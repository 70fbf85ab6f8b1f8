"""Prompts and answers in the form of the semantic conventions for generative AI."""

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
    """Roles and texts are those of the request; parts without a text are left out."""
    assert expected == json.loads(messages.input_messages(json.dumps(prompt)) or "")


@pytest.mark.parametrize(
    "prompt", ["plain words", '{"messages": [{"role": "us', "[1, 2]", '{"other": 1}', "null"]
)
def test_an_unknown_prompt_is_one_message_of_the_users(prompt: str) -> None:
    """Plain text, JSON that the privacy level has cut, and unknown forms are kept whole in one message."""
    assert [message("user", prompt)] == json.loads(messages.input_messages(prompt) or "")


def test_an_answer_is_the_assistants() -> None:
    """Any answer is one message of the assistant's."""
    assert [message("assistant", '{"a": 1}')] == json.loads(messages.output_messages('{"a": 1}') or "")


def test_without_content_there_is_no_message() -> None:
    """A privacy level that shows no content leaves the attributes out."""
    assert (None, None) == (messages.input_messages(None), messages.output_messages(None))
