"""Streams in the protocol of each provider, and the bytes that carry them."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from support.provider_bodies import CHAT_PROVIDERS, GOOGLE_PROVIDERS, TEXT, Json, anthropic, responses

_SIZE = len(TEXT) // 4 + 1
PIECES = [TEXT[at : at + _SIZE] for at in range(0, len(TEXT), _SIZE)]
"""The text of an answer, as a model sends it."""

Stream = list[Json | str]


@dataclass(frozen=True, slots=True)
class Dialect:
    """The protocol of a provider.

    Attributes:
        events: returns the events of a stream that ended for a finish reason.
        good: a finish reason of a whole answer.
        cut: a finish reason of a cut answer.
        error: an error inside a stream.
        category: the category of that error.
        last: how many events at the end hold the finish reason and what follows it.
    """

    events: Callable[[str], Stream]
    good: str
    cut: str
    error: Json
    category: str
    last: int


def _chunk(finish: str | None = None, **delta: object) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def _chat(finish: str) -> Stream:
    texts = [_chunk(content=piece) for piece in PIECES]
    return [_chunk(role="assistant", content=""), *texts, _chunk(finish), "[DONE]"]


def _responses(finish: str) -> Stream:
    whole = responses(finish)
    opening = {**whole, "status": "in_progress", "output": [], "usage": None}
    texts: Stream = [
        {
            "type": "response.output_text.delta",
            "sequence_number": number,
            "item_id": "m1",
            "output_index": 0,
            "content_index": 0,
            "delta": piece,
        }
        for number, piece in enumerate(PIECES, 1)
    ]
    return [
        {"type": "response.created", "sequence_number": 0, "response": opening},
        *texts,
        {"type": f"response.{whole['status']}", "sequence_number": 9, "response": whole},
    ]


def _anthropic(finish: str) -> Stream:
    message = {**anthropic(finish), "content": [], "stop_reason": None}
    texts: Stream = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
        for piece in PIECES
    ]
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *texts,
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": finish, "stop_sequence": None},
            "usage": {"input_tokens": 1, "output_tokens": 9},  # BAML cannot parse it without input_tokens
        },
        {"type": "message_stop"},
    ]


def _google_event(text: str, **fields: object) -> Json:
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    content = {"role": "model", "parts": [{"text": text}]}
    return {"candidates": [{"content": content, "index": 0, **fields}], "usageMetadata": usage}


def _google(finish: str) -> Stream:
    texts: Stream = [_google_event(piece) for piece in PIECES[:-1]]
    return [*texts, _google_event(PIECES[-1], finishReason=finish)]


def _bedrock(finish: str) -> Stream:
    """Return the payloads; `event_bytes` frames them."""
    texts: Stream = [
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": piece}}} for piece in PIECES
    ]
    usage = {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}
    return [
        {"messageStart": {"role": "assistant"}},
        *texts,
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"messageStop": {"stopReason": finish}},
        {"metadata": {"usage": usage, "metrics": {"latencyMs": 5}}},
    ]


_RATE_LIMIT: Json = {"error": {"message": "Rate limit", "type": "x", "code": "rate_limit_exceeded"}}
_UNAVAILABLE: Json = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
_RESPONSES_ERROR: Json = {
    "type": "error",
    "code": "rate_limit_exceeded",
    "message": "Rate limit",
    "param": None,
    "sequence_number": 3,
}
_ANTHROPIC_ERROR: Json = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
DIALECTS: dict[str, Dialect] = {
    **dict.fromkeys(CHAT_PROVIDERS, Dialect(_chat, "stop", "length", _RATE_LIMIT, "rate_limit", 2)),
    **dict.fromkeys(GOOGLE_PROVIDERS, Dialect(_google, "STOP", "MAX_TOKENS", _UNAVAILABLE, "overloaded", 1)),
    "openai-responses": Dialect(
        _responses, "completed", "max_output_tokens", _RESPONSES_ERROR, "rate_limit", 1
    ),
    "anthropic": Dialect(_anthropic, "end_turn", "max_tokens", _ANTHROPIC_ERROR, "overloaded", 2),
    # Its error is no event: BAML raises the SDK's debug text.
    "aws-bedrock": Dialect(
        _bedrock, "end_turn", "max_tokens", {"throttlingException": {"message": "slow"}}, "rate_limit", 2
    ),
}


def content_type(provider: str) -> str:
    """Return the type of the body that carries a stream of *provider*."""
    return "application/vnd.amazon.eventstream" if provider == "aws-bedrock" else "text/event-stream"


def event_bytes(provider: str, event: Json | str) -> bytes:
    """Return what carries *event* in a stream of *provider*."""
    if provider == "aws-bedrock" and isinstance(event, dict):
        ((kind, payload),) = event.items()
        return _frame(kind, json.dumps(payload).encode())
    text = event if isinstance(event, str) else json.dumps(event)
    name = f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""
    return f"{name}data: {text}\n\n".encode()


def _frame(kind: str, payload: bytes) -> bytes:
    """Return a message of the AWS event stream: lengths, headers and payload, each with a checksum."""
    message = "exception" if kind.endswith("Exception") else "event"
    fields = {":message-type": message, f":{message}-type": kind, ":content-type": "application/json"}
    headers = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value)) + value.encode()
        for name, value in fields.items()
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    checked = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return checked + struct.pack(">I", zlib.crc32(checked))
