"""The bodies of answers in the protocol of each provider. Each is whole or cut, as its finish reason says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from zlib import crc32

from resilience.testing.dialects import Dialect

Json = dict[str, Any]

CREATED = 1_700_000_000
"""The creation time of every answer, in epoch seconds; constant, so that equal requests get equal bytes."""
_PROMPT_TOKENS = 100
_CHARACTERS_PER_TOKEN = 4  # the providers' own rule of thumb


def chat(model: str, text: str, reason: str) -> Json:
    """Return an answer of chat completions.

    Args:
        model: the model that was asked for.
        text: the text of the answer.
        reason: the `finish_reason`; `stop` for a whole answer.
    """
    return {
        "id": f"chatcmpl-{_checksum(text)}",
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "logprobs": None,
                "finish_reason": reason,
            }
        ],
        "usage": chat_usage(text),
    }


def chat_usage(text: str) -> dict[str, int]:
    """Return the token counts of a chat answer. The prompt gets a constant: no test depends on it."""
    completion = _tokens(text)
    return {
        "prompt_tokens": _PROMPT_TOKENS,
        "completion_tokens": completion,
        "total_tokens": _PROMPT_TOKENS + completion,
    }


def responses(model: str, text: str, reason: str) -> Json:
    """Return an answer of OpenAI's Responses API.

    Args:
        model: the model that was asked for.
        text: the text of the answer.
        reason: the reason in `incomplete_details`; `completed` for a whole answer.
    """
    status = "completed" if reason == "completed" else "incomplete"
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {
        "id": f"resp_{_checksum(text)}",
        "object": "response",
        "created_at": CREATED,
        "model": model,
        "status": status,
        "incomplete_details": None if reason == "completed" else {"reason": reason},
        "output": [
            {
                "type": "message",
                "id": f"msg_{_checksum(text)}",
                "role": "assistant",
                "status": status,
                "content": content,
            }
        ],
        "usage": {
            "input_tokens": _PROMPT_TOKENS,
            "output_tokens": _tokens(text),
            "total_tokens": _PROMPT_TOKENS + _tokens(text),
        },
    }


def anthropic(model: str, text: str, reason: str) -> Json:
    """Return an answer of Anthropic's Messages API.

    Args:
        model: the model that was asked for.
        text: the text of the answer.
        reason: the `stop_reason`; `end_turn` for a whole answer.
    """
    return {
        "id": f"msg_{_checksum(text)}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {"input_tokens": _PROMPT_TOKENS, "output_tokens": _tokens(text)},
    }


def google(model: str, text: str, reason: str) -> Json:
    """Return an answer of `generateContent`, which Gemini and Vertex AI share.

    Args:
        model: the model that was asked for.
        text: the text of the answer.
        reason: the `finishReason`; `STOP` for a whole answer.
    """
    content = {"role": "model", "parts": [{"text": text}]}
    return {
        "candidates": [{"content": content, "finishReason": reason, "index": 0}],
        "usageMetadata": {
            "promptTokenCount": _PROMPT_TOKENS,
            "candidatesTokenCount": _tokens(text),
            "totalTokenCount": _PROMPT_TOKENS + _tokens(text),
        },
        "modelVersion": model,
    }


def bedrock(_: str, text: str, reason: str) -> Json:
    """Return an answer of Bedrock's `converse`, which does not name its model.

    Args:
        _: the model that was asked for; here only so that all these functions have the same arguments.
        text: the text of the answer.
        reason: the `stopReason`; `end_turn` for a whole answer.
    """
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
        "stopReason": reason,
        "usage": {
            "inputTokens": _PROMPT_TOKENS,
            "outputTokens": _tokens(text),
            "totalTokens": _PROMPT_TOKENS + _tokens(text),
        },
        "metrics": {"latencyMs": 1},
    }


_BODIES: Mapping[Dialect, Callable[[str, str, str], Json]] = {
    "openai": chat,
    "openai-responses": responses,
    "azure-openai": chat,
    "anthropic": anthropic,
    "google-ai": google,
    "aws-bedrock": bedrock,
}
# The words of chat completions are those of `Finish`. Every other word is sent as it is.
_REASONS: Mapping[Dialect, Mapping[str, str]] = {
    "openai-responses": {"stop": "completed", "length": "max_output_tokens"},
    "anthropic": {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"},
    "google-ai": {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"},
    "aws-bedrock": {"stop": "end_turn", "length": "max_tokens", "content_filter": "content_filtered"},
}


def answer_body(dialect: Dialect, model: str, text: str, reason: str) -> Json:
    """Return the body of an answer.

    Args:
        dialect: the protocol of the request.
        model: the model that was asked for.
        text: the text of the answer.
        reason: the finish reason. `stop`, `length` and `content_filter` become the provider's own words.
    """
    return _BODIES[dialect](model, text, finish_word(dialect, reason))


def finish_word(dialect: Dialect, reason: str) -> str:
    """Return the provider's word for a finish reason of chat completions; other words are returned as they are."""
    return _REASONS.get(dialect, {}).get(reason, reason)


def _tokens(text: str) -> int:
    return len(text) // _CHARACTERS_PER_TOKEN


def _checksum(text: str) -> str:
    """Return the part of an id that depends on the answer."""
    return f"{crc32(text.encode()):08x}"
