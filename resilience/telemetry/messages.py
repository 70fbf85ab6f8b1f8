"""Prompts and answers in the form the conventions give them: JSON, a list of messages with a role and parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

_TOLD: Final = ("messages", "contents", "input")
"""Where the providers' protocols have the messages."""


def asked(text: str | None) -> str | None:
    """The prompt: its messages where they can be read, else one message of the user's."""
    if text is None:
        return None
    found = list(_messages(text)) or [_message("user", text)]
    return json.dumps(found, ensure_ascii=False)


def answered(text: str | None) -> str | None:
    """The answer: one message of the assistant's."""
    return None if text is None else json.dumps([_message("assistant", text)], ensure_ascii=False)


def _messages(text: str) -> Iterator[dict[str, Any]]:
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError):  # plain text, or cut by the privacy level
        return
    if not isinstance(asked, dict):
        return
    if "system" in asked:
        yield _message("system", *_texts(asked["system"]))
    found: list[Any] = next((asked[name] for name in _TOLD if isinstance(asked.get(name), list)), [])
    for each in found:
        if isinstance(each, dict):
            yield _message(str(each.get("role", "user")), *_texts(each.get("content", each.get("parts", ""))))


def _texts(content: object) -> Iterator[str]:
    """The texts of a message's content: a text, or parts of which some have one; images and files are left out."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            text = part.get("text") if isinstance(part, dict) else None
            if isinstance(text, str):
                yield text


def _message(role: str, *texts: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text} for text in texts]}
