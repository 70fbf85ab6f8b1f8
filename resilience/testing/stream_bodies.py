"""The events of streamed answers in the protocol of each provider: one row of functions for each form of stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from resilience.testing.answer_bodies import CREATED, Json, answer_body, chat_usage, finish_word, google
from resilience.testing.dialects import Dialect
from resilience.testing.provider_errors import ErrorKind, error_event

Event = Json | str
"""An object that is sent as JSON; a text is sent as it is. One that begins with a colon is a comment."""
_PIECES = 8


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """An answer that is about to be streamed.

    Attributes:
        dialect: the protocol.
        model: the model that was asked for.
        text: the text of the answer.
        reason: the finish reason; `stop`, `length` and `content_filter` become the provider's own words.
    """

    dialect: Dialect
    model: str
    text: str
    reason: str = "stop"

    @property
    def pieces(self) -> list[str]:
        """The text in eight pieces at most; one empty piece for an empty text."""
        step = max(1, -(-len(self.text) // _PIECES))  # rounded up; range() refuses 0
        return [self.text[at : at + step] for at in range(0, len(self.text), step)] or [""]

    @property
    def body(self) -> Json:
        """The same answer as one document, from which events take ids and usage."""
        return answer_body(self.dialect, self.model, self.text, self.reason)


@dataclass(frozen=True, slots=True)
class StreamEvents:
    """The events of one answer, by their part in it.

    Attributes:
        opening: what is sent before the model has begun.
        content: one event for each piece of the text.
        finish: the events that state the finish reason.
        mark: what follows it: the usage, the end mark.
    """

    opening: list[Event]
    content: list[Event]
    finish: list[Event]
    mark: list[Event]


@dataclass(frozen=True, slots=True)
class _StreamFormat:
    """The form of a stream.

    Attributes:
        events: returns the events of an answer.
        thought: returns an event of the model's thinking.
        refusal: returns the events with which a refusal ends; the words of the refusal are the text.
        heartbeat: what keeps a silent connection alive; None where the provider sends nothing.
        failed: returns the event that stands for the finish reason when the answer failed, from the event of the error.
    """

    events: Callable[[StreamedAnswer], StreamEvents]
    thought: Callable[[str], Event]
    refusal: Callable[[StreamedAnswer], list[Event]]
    heartbeat: Event | None
    failed: Callable[[Json], Json] = lambda error: error


# --- chat completions -----------------------------------------------------------------------------------------------------


def _chunk(answer: StreamedAnswer | None = None, finish: str | None = None, **delta: object) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    frame = {"object": "chat.completion.chunk", "created": CREATED, "choices": [choice]}
    model, text = (answer.model, answer.text) if answer else ("m", "")
    return {"id": f"chatcmpl-{crc32(text.encode()):08x}", "model": model, **frame}


def _chat(answer: StreamedAnswer) -> StreamEvents:
    usage = {**_chunk(answer), "choices": [], "usage": chat_usage(answer.text)}
    return StreamEvents(
        [_chunk(answer, role="assistant", content="")],
        [_chunk(answer, content=piece) for piece in answer.pieces],
        [_chunk(answer, answer.reason)],
        [usage, "[DONE]"],
    )


def _chat_refusal(answer: StreamedAnswer) -> list[Event]:
    """Return OpenAI's refusal: a field of its own beside a finish reason that is a good one."""
    return [*(_chunk(answer, refusal=piece) for piece in answer.pieces), _chunk(answer, "stop"), "[DONE]"]


def _chat_failed(error: Json) -> Json:
    """Return the last chunk of OpenRouter for an answer that failed."""
    return {**_chunk(None, "error", content=""), **error}


# --- Responses ------------------------------------------------------------------------------------------------------------


def _response(kind: str, **fields: object) -> Json:
    return {"type": f"response.{kind}", "sequence_number": 1, **fields}


def _responses(answer: StreamedAnswer) -> StreamEvents:
    whole = answer.body
    item = whole["output"][0]
    opening = {**whole, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    begun = {**item, "status": "in_progress", "content": []}
    return StreamEvents(
        [
            _response("created", response=opening),
            _response("in_progress", response=opening),
            _response("output_item.added", output_index=0, item=begun),
            _response("content_part.added", **where, part=part),
        ],
        [_response("output_text.delta", **where, delta=piece) for piece in answer.pieces],
        [
            _response("output_text.done", **where, text=answer.text),
            _response("content_part.done", **where, part={**part, "text": answer.text}),
            _response("output_item.done", output_index=0, item=item),
            _response(whole["status"], response=whole),
        ],
        [],
    )


def _responses_refusal(answer: StreamedAnswer) -> list[Event]:
    """Return a refusal: events of its own, and a response that is completed."""
    whole = answer.body
    whole["output"][0]["content"] = [{"type": "refusal", "refusal": answer.text}]
    where = {"item_id": whole["output"][0]["id"], "output_index": 0, "content_index": 0}
    deltas = [_response("refusal.delta", **where, delta=piece) for piece in answer.pieces]
    done = _response("refusal.done", **where, refusal=answer.text)
    return [*deltas, done, _response("completed", response=whole)]


def _responses_failed(error: Json) -> Json:
    """Return the terminal event of a response that failed."""
    details = {key: error[key] for key in ("code", "message")}
    whole = answer_body("openai-responses", "m", "", "completed")
    return _response("failed", response={**whole, "status": "failed", "error": details, "output": []})


# --- Anthropic ------------------------------------------------------------------------------------------------------------


def _delta(**delta: object) -> Json:
    return {"type": "content_block_delta", "index": 0, "delta": delta}


def _anthropic(answer: StreamedAnswer) -> StreamEvents:
    whole = answer.body
    message = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    return StreamEvents(
        [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "ping"},
        ],
        [_delta(type="text_delta", text=piece) for piece in answer.pieces],
        [
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": stop, "usage": whole["usage"]},
        ],
        [{"type": "message_stop"}],
    )


def _anthropic_refusal(answer: StreamedAnswer) -> list[Event]:
    refused = _anthropic(StreamedAnswer(answer.dialect, answer.model, answer.text, "refusal"))
    return [*refused.finish, *refused.mark]


# --- Google ---------------------------------------------------------------------------------------------------------------


def _google_event(text: str, **fields: object) -> Json:
    event = google("m", text, "STOP")
    candidate = {"content": event["candidates"][0]["content"], "index": 0, **fields}
    return {**event, "candidates": [candidate]}


def _google(answer: StreamedAnswer) -> StreamEvents:
    finish = _google_event("", finishReason=finish_word(answer.dialect, answer.reason))
    return StreamEvents([], [_google_event(piece) for piece in answer.pieces], [finish], [])


def _google_thought(text: str) -> Event:
    event = _google_event(text)
    event["candidates"][0]["content"]["parts"][0]["thought"] = True
    return event


def _google_refusal(answer: StreamedAnswer) -> list[Event]:
    """Return the event of a prompt that was blocked: it has no candidate."""
    usage = google("m", answer.text, "STOP")["usageMetadata"]
    return [{"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage}]


# --- Bedrock: each event is `{its type: its payload}` -----------------------------------------------------------------------


def _bedrock(answer: StreamedAnswer) -> StreamEvents:
    whole = answer.body
    return StreamEvents(
        [{"messageStart": {"role": "assistant"}}],
        [
            {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": piece}}}
            for piece in answer.pieces
        ],
        [
            {"contentBlockStop": {"contentBlockIndex": 0}},
            {"messageStop": {"stopReason": whole["stopReason"]}},
        ],
        [{"metadata": {"usage": whole["usage"], "metrics": whole["metrics"]}}],
    )


def _bedrock_thought(text: str) -> Event:
    return {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": text}}}}


def _bedrock_refusal(answer: StreamedAnswer) -> list[Event]:
    """Return the answer of a guardrail: its canned text is content like any other."""
    reason = "guardrail_intervened"
    blocked = _bedrock(StreamedAnswer(answer.dialect, answer.model, answer.text, reason))
    return [*blocked.content, *blocked.finish, *blocked.mark]


# --------------------------------------------------------------------------------------------------------------------------

_CHAT = _StreamFormat(
    _chat, lambda text: _chunk(reasoning_content=text), _chat_refusal, ": PROCESSING", _chat_failed
)
_FORMS: Mapping[Dialect, _StreamFormat] = {
    "openai": _CHAT,
    "azure-openai": _CHAT,
    "openai-responses": _StreamFormat(
        _responses,
        lambda text: _response("reasoning_summary_text.delta", delta=text),
        _responses_refusal,
        {"type": "keepalive", "sequence_number": 1},
        _responses_failed,
    ),
    "anthropic": _StreamFormat(
        _anthropic,
        lambda text: _delta(type="thinking_delta", thinking=text),
        _anthropic_refusal,
        {"type": "ping"},
    ),
    "google-ai": _StreamFormat(_google, _google_thought, _google_refusal, None),
    "aws-bedrock": _StreamFormat(_bedrock, _bedrock_thought, _bedrock_refusal, None),
}


def answer_events(answer: StreamedAnswer) -> StreamEvents:
    """Return the events of *answer*."""
    return _FORMS[answer.dialect].events(answer)


def thinking(dialect: Dialect, text: str) -> Event:
    """Return an event of the model's thinking."""
    return _FORMS[dialect].thought(text)


def refusal(answer: StreamedAnswer) -> list[Event]:
    """Return the events with which a stream ends that the model or the provider refused to go on with.

    Args:
        answer: its text is the words of the refusal, where the provider sends any.
    """
    return _FORMS[answer.dialect].refusal(answer)


def heartbeat(dialect: Dialect) -> Event | None:
    """Return what the provider sends to keep a silent connection alive; None if it sends nothing."""
    return _FORMS[dialect].heartbeat


def error(dialect: Dialect, kind: ErrorKind | Mapping[str, Any], model: str, *, is_finish: bool) -> Event:
    """Return the event of an error inside a stream.

    Args:
        dialect: the protocol.
        kind: the kind of the error, or the object of a provider's error.
        model: the model that was asked for.
        is_finish: whether it stands in the place of the finish reason, where some providers have another form for it.
    """
    event = error_event(dialect, kind, model)
    return _FORMS[dialect].failed(event) if is_finish else event
