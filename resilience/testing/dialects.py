"""The protocols that the simulated provider speaks, and how a request shows which one it is in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote

Dialect: TypeAlias = Literal[
    "openai", "openai-responses", "azure-openai", "anthropic", "google-ai", "aws-bedrock"
]
"""A protocol, by the word of BAML for its first provider.

`openai` is also that of `openai-generic` and `ollama`; `google-ai` is also that of `vertex-ai`."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the URL of a request says.

    Attributes:
        dialect: the protocol of the request.
        model: the model in the path; None if the path names none.
        stream: whether the path asks for a stream. Other protocols ask in the body.
    """

    dialect: Dialect
    model: str | None = None
    stream: bool = False


# The paths behind a base URL, as BAML builds them. Azure's errors differ from OpenAI's, its answers do not.
_PATHS: tuple[tuple[Dialect, re.Pattern[str]], ...] = (
    ("openai", re.compile(r"(?P<model>)/chat/completions")),
    ("azure-openai", re.compile(r"/openai/deployments/(?P<model>[^/]+)/chat/completions")),
    ("openai-responses", re.compile(r"(?P<model>)/responses")),
    ("anthropic", re.compile(r"(?P<model>)(/v1)?/messages")),
    (
        "google-ai",
        re.compile(r"\A(/.*)?/(?P<model>[^/:]+):(generateContent|(?P<stream>streamGenerateContent))"),
    ),
    ("aws-bedrock", re.compile(r"/model/(?P<model>[^/]+)/converse(?P<stream>-stream)?")),
)


def endpoint(path: str, query: str) -> Endpoint | None:
    """Return what the URL of a request says; None if no provider has that path.

    Args:
        path: the path behind the base URL, such as `/chat/completions`.
        query: the query, in which `api-version` is the mark of Azure.
    """
    for dialect, pattern in _PATHS:
        match = pattern.fullmatch(path)
        if match:
            is_azure = dialect == "openai" and re.search(r"(^|&)api-version=", query)
            return Endpoint(
                "azure-openai" if is_azure else dialect,
                unquote(match["model"]) or None,
                bool(match.groupdict().get("stream")),
            )
    return None


def messages(document: Mapping[str, Any]) -> list[str]:
    """Return the texts of all messages of a request, with the system's first.

    Args:
        document: the body of the request, in any of the protocols.
    """
    system = document.get("system") or document.get("systemInstruction") or document.get("system_instruction")
    turns = document.get("messages") or document.get("input") or document.get("contents")
    if isinstance(turns, str):  # the short form of the Responses API
        turns = [turns]
    texts = [_text(turn) for turn in turns] if isinstance(turns, list) else []
    return [_text(system), *texts] if system else texts


def _text(message: object) -> str:
    """Return the text of one message: a text, a list of parts, or an object that holds either."""
    if isinstance(message, Mapping):
        message = message.get("content") or message.get("parts")
    if isinstance(message, str):
        return message
    parts = message if isinstance(message, list) else []
    return "\n".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
