"""Prompts and answers in the form of the semantic conventions: JSON, a list of messages with a role and parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

_MESSAGE_FIELDS: Final = ("messages", "contents", "input")
"""Fields that hold the messages of a request, in the providers' protocols."""


def input_messages(prompt: str | None) -> str | None:
    """Return the messages of a request: as the provider's protocol has them, else all of *prompt* as one of the user's."""
    if prompt is None:
        return None
    # A prompt of an unknown form is shown whole rather than left out.
    messages = list(_parse(prompt)) or [_message("user", prompt)]
    return json.dumps(messages, ensure_ascii=False)


def output_messages(answer: str | None) -> str | None:
    """Return the answer as one message of the assistant's."""
    return None if answer is None else json.dumps([_message("assistant", answer)], ensure_ascii=False)


def _parse(prompt: str) -> Iterator[dict[str, Any]]:
    try:
        request = json.loads(prompt)
    except (ValueError, RecursionError):  # plain text, or JSON that the privacy level has cut
        return
    if not isinstance(request, dict):
        return
    if "system" in request:  # Anthropic keeps it apart from the messages
        yield _message("system", *_texts(request["system"]))
    lists = (request[name] for name in _MESSAGE_FIELDS if isinstance(request.get(name), list))
    messages: list[Any] = next(lists, [])
    for message in messages:
        if isinstance(message, dict):
            content = message.get("content", message.get("parts", ""))
            yield _message(str(message.get("role", "user")), *_texts(content))


def _texts(content: object) -> Iterator[str]:
    """Yield the texts of a message: the content itself, or its parts that have a text. Images and files are left out."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            text = part.get("text") if isinstance(part, dict) else None
            if isinstance(text, str):
                yield text


def _message(role: str, *texts: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text} for text in texts]}
