"""What the raw events of a stream say: whether its answer is whole, cut, refused or failed. Pure: no I/O and no clock.

BAML judges each event alone and keeps the verdict of the last. It skips an event that it cannot parse, forgets an error
that a readable event follows, and closes the brackets of a cut answer. The events show all three.

An event is read by its own form and not by its provider: a project can ask for another protocol than the provider's
(`client_response_type`), and Vertex serves Anthropic's. The provider decides only whether a finish reason must come.

Five forms serve nine providers: chat completions, Responses, Anthropic, Google, and the Rust debug text that BAML makes of
Bedrock's binary events. A finish reason is judged by the one table in `failure/finish_reasons.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from resilience.failure import ErrorCategory, Evidence, classify_evidence
from resilience.failure.finish_reasons import category_of_reason, is_stated

_Event = dict[str, object]

_PROVIDERS: Final = frozenset(
    {
        *("openai", "openai-generic", "azure-openai", "ollama"),
        *("openai-responses", "anthropic", "google-ai", "vertex-ai", "aws-bedrock"),
    }
)
"""Providers whose every whole stream states a finish reason."""

_DONE: Final = "[DONE]"
_KEEP_ALIVES: Final = frozenset({"", "ping", "keepalive", "keep-alive", "heartbeat"})
"""Texts, in lower case, of events that are not JSON and lose nothing. BAML skips them like damaged ones."""

_CHAT_THOUGHTS: Final = ("reasoning", "reasoning_content", "reasoning_details", "thinking")
_CHAT_TOOLS: Final = ("tool_calls", "function_call")
_GOOGLE_KEYS: Final = ("candidates", "promptFeedback", "usageMetadata")
_NO_BLOCK: Final = "BLOCK_REASON_UNSPECIFIED"
_ANTHROPIC_TYPES: Final = frozenset(
    {
        *("message_start", "message_delta", "message_stop", "ping"),
        *("content_block_start", "content_block_delta", "content_block_stop"),
    }
)
_ANSWER_KEYS: Final = frozenset({"choices", "candidates", "delta", "content", "response", "output"})
"""Keys of events that hold text of the answer. They are left out of an error."""
_RESPONSES_PREFIX: Final = "response."
_RESPONSES_ENDS: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})

# Anchored at the start of the debug text, so that an answer that quotes `MessageStop(` is not taken for the event.
_BEDROCK_STOP: Final = re.compile(
    r'MessageStop\(MessageStopEvent \{ stop_reason: (?:Unknown\(UnknownVariantValue\("(\w{1,60})"|(\w{1,60}))'
)
_BEDROCK_TEXT: Final = re.compile(
    r'ContentBlockDelta\(ContentBlockDeltaEvent \{ delta: Some\(Text\("((?:[^"\\]|\\.)*+)"', re.DOTALL
)
_BEDROCK_DELTA: Final = "ContentBlockDelta("
_BEDROCK_END: Final = "Metadata("
_RUST_ESCAPE: Final = re.compile(r"\\(?:u\{([0-9a-fA-F]{1,6})\}|(.))", re.DOTALL)
_RUST_CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}


class StreamReading:
    """What the events of one stream have said so far.

    Feed it each event in order, while the stream runs or after it. All attributes may be read between events.

    Attributes:
        has_content: whether the model has begun: an event with text, thinking, a tool call or a refusal arrived.
            Pings, keep-alives and opening events do not count, so a first-token clock can wait for it.
        content_count: how often text, thinking, a tool call or a refusal arrived. It does not grow with pings and opening
            events, so a clock that waits for more of the answer can watch it.
        finish: the last finish reason, as the provider spells it; None before one. Responses has none of its own: it is
            `completed`, `failed`, or the reason of an incomplete response.
        end_marked: whether the event arrived after which BAML needs no other: `[DONE]`, the terminal event of Responses,
            `message_stop`, or Bedrock's `Metadata`. Google has none.
        error: the error that the provider sent inside the stream, without any text of the answer; None without one.
            Of several it is the last one that says more than "something failed". An error after a whole answer is none.
        damaged: whether an event could not be read and the answer may lack its text.
        finish_may_repeat: whether more of the answer may follow the finish reason. Old models of Google state `STOP` in
            every event, so it is final only after an event without it.
    """

    def __init__(self, provider: str | None = None) -> None:
        """Begin a reading without events.

        Args:
            provider: the provider in BAML's words. None, or one that is not known here, demands a finish reason only
                after an event of a known form.
        """
        self.has_content = False
        self.content_count = 0
        self.finish: str | None = None
        self.end_marked = False
        self.error: Mapping[str, object] | None = None
        self.damaged = False
        self._provider_is_known = provider in _PROVIDERS
        self._knows_a_form = False
        self._has_unknown_forms = False
        self._is_refused = False
        self._has_thoughts_only = False
        self._has_unfinished_candidate = False
        self.finish_may_repeat = False
        self._text: list[str] = []

    @property
    def is_complete(self) -> bool:
        """Whether the last finish reason is a good one. It may be read before the provider closes the connection."""
        return self.finish is not None and category_of_reason(self.finish) is None

    @property
    def _is_settled(self) -> bool:
        """Whether the answer is whole, whatever comes after it."""
        return self.is_complete and not self.finish_may_repeat

    @property
    def text(self) -> str:
        """The answer so far, without thinking. It is joined on each read, so read it once, at the end."""
        return "".join(self._text)

    def feed(self, event: str) -> None:
        """Read one event. Never raises.

        Args:
            event: the raw text after `data:`, as `LLMStreamCall.sse_responses()` returns it.
        """
        stripped = event.strip()
        if stripped == _DONE:
            self._knows_a_form = self.end_marked = True
            return
        try:
            value = json.loads(stripped)
        except (ValueError, RecursionError):  # not JSON, a number without end, or nested beyond all reason
            self._note_damage(stripped)
            return
        # Google's errors are lists where it does not send server-sent events.
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                self._read(item)

    def verdict(self) -> ErrorCategory | None:
        """Return what is wrong with the answer of the ended stream; None for a whole answer.

        An error outranks everything after it, even a good finish reason: BAML forgets an error that a readable event
        follows. An error after a good finish reason changes nothing. Whether a whole answer is empty, and whether it fits its type, is for the caller to judge.
        """
        if self.error is not None:
            return _category_of_error(self.error)
        if self._is_refused:
            return ErrorCategory.CONTENT_POLICY
        if self.finish is None:
            return ErrorCategory.OUTPUT_TRUNCATED if self._must_finish() or self.damaged else None
        category = category_of_reason(self.finish)
        if category is None and self.damaged:
            return ErrorCategory.OUTPUT_TRUNCATED
        if category is None and self._has_thoughts_only:  # BAML takes Vertex' thoughts for the answer
            return ErrorCategory.OUTPUT_INVALID
        return category

    def _must_finish(self) -> bool:
        """Return whether a whole stream would have stated a finish reason.

        A protocol that is not known here may have none. Its streams are left to BAML.
        """
        return self._provider_is_known or self._knows_a_form or not self._has_unknown_forms

    def _note_damage(self, event: str) -> None:
        """Note an event that is not JSON, unless the text of the answer was whole before it."""
        # One pair of brackets or a colon may stand around the word. A run of brackets is the damaged start of an event.
        word = event.removeprefix(":").strip().removeprefix("[").removesuffix("]")
        if not self._is_settled and word.lower() not in _KEEP_ALIVES:
            self.damaged = True

    # --- one event ------------------------------------------------------------------------------------------------------

    def _read(self, event: _Event) -> None:
        """Read a parsed event by its form. An error may stand beside the keys of any form."""
        kind = event.get("type")
        if not isinstance(kind, str):  # a list is unhashable, and no set can be asked for it
            kind = ""
        self._note_error(event, kind)
        if kind.startswith(_RESPONSES_PREFIX):
            self._read_responses(event, kind.removeprefix(_RESPONSES_PREFIX))
        elif kind in _ANTHROPIC_TYPES:
            self._read_anthropic(event)
        elif "choices" in event:
            self._read_chat(_first(event["choices"]))
        elif any(key in event for key in _GOOGLE_KEYS):
            self._read_google(event)
        elif isinstance(event.get("debug"), str):
            self._read_bedrock(str(event["debug"]))
        elif kind not in {"keepalive", "error"} and self.error is None:
            self._has_unknown_forms = True
            return
        self._knows_a_form = True

    def _note_error(self, event: _Event, kind: str) -> None:
        """Keep the error of *event*, if it is or has one and the answer was not whole before it."""
        error = None if self._is_settled else _error_of(event, kind)
        # Responses can send an error that says nothing, and then the code in its terminal event.
        if error is not None and (self.error is None or _classified(error) is not ErrorCategory.UNKNOWN):
            self.error = error

    def _read_chat(self, choice: _Event) -> None:
        """Read the first choice of a chunk, the only one that BAML reads."""
        self._note_finish(choice.get("finish_reason"))
        delta = _object(choice.get("delta")) or _object(choice.get("message"))
        self._note_thought(any(delta.get(key) for key in _CHAT_THOUGHTS))
        self._note_answer(any(delta.get(key) for key in _CHAT_TOOLS))
        self._note_refusal(delta.get("refusal"))
        self._note_text(delta.get("content"))
        self._note_text(choice.get("text"))  # a legacy completion

    def _read_responses(self, event: _Event, kind: str) -> None:
        """Read an event of the Responses API.

        Args:
            event: the event.
            kind: its type after `response.`.
        """
        if kind in _RESPONSES_ENDS:
            self._read_responses_end(_object(event.get("response")), kind)
        elif kind == "output_text.delta":
            self._note_text(event.get("delta"))
        elif kind.startswith("refusal."):
            self._note_refusal(event.get("delta") or event.get("refusal"))
        elif kind.startswith("reasoning"):
            self._note_thought(kind.endswith((".delta", ".done")))
        elif kind.endswith("_arguments.delta"):
            self._note_answer(event.get("delta"))

    def _read_responses_end(self, response: _Event, kind: str) -> None:
        """Read the terminal event. It repeats the whole answer, so that an event damaged before it loses nothing."""
        if kind == "failed":
            self._note_error({"type": "response.failed", "error": response.get("error")}, "error")
        self.end_marked = True
        reason = _object(response.get("incomplete_details")).get("reason")
        is_bad = isinstance(reason, str) and category_of_reason(reason) is not None
        self.finish = str(reason) if is_bad else kind
        parts = [_object(part) for item in _list(response.get("output")) for part in _content(item)]
        self._replace_text([part.get("text") for part in parts if part.get("type") == "output_text"])
        for part in parts:
            self._note_refusal(part.get("refusal"))

    def _replace_text(self, texts: list[object]) -> None:
        """Take the text of a terminal event for that of all events before it. Some servers leave it empty."""
        if any(texts):
            self._text.clear()
            self.damaged = False
            for text in texts:
                self._note_text(text)

    def _read_anthropic(self, event: _Event) -> None:
        """Read an event of Anthropic. A block may begin with text, and redacted thinking is all in its beginning."""
        delta = _object(event.get("delta")) or _object(event.get("content_block"))
        self._note_finish(delta.get("stop_reason"))
        self._note_thought(any(delta.get(key) for key in ("thinking", "signature", "data")))
        self._note_answer(delta.get("partial_json"))
        self._note_text(delta.get("text"))
        self.end_marked = self.end_marked or event.get("type") == "message_stop"

    def _read_google(self, event: _Event) -> None:
        """Read an event of Google."""
        reason = _object(event.get("promptFeedback")).get("blockReason")
        self._is_refused = self._is_refused or bool(reason and reason != _NO_BLOCK)
        candidate = _first(event.get("candidates"))
        finish = candidate.get("finishReason")
        if candidate and not is_stated(finish):
            self._has_unfinished_candidate = True
        self.finish_may_repeat = not self._has_unfinished_candidate
        self._note_finish(finish)
        for item in _list(_object(candidate.get("content")).get("parts")):
            part = _object(item)
            if part.get("thought"):
                self._note_thought(part.get("text"))
            else:
                self._note_text(part.get("text"))
                self._note_answer(part.get("functionCall"))

    def _read_bedrock(self, debug: str) -> None:
        """Read the debug text of an event. It hides thinking behind a mark of redaction, other kinds of content too."""
        stop = _BEDROCK_STOP.match(debug)
        if stop is not None:
            self._note_finish(stop[1] or stop[2])
        self.end_marked = self.end_marked or debug.startswith(_BEDROCK_END)
        text = _BEDROCK_TEXT.match(debug)
        if text is not None:
            self._note_text(_RUST_ESCAPE.sub(_unescaped, text[1]))
        else:
            self._note_answer(debug.startswith(_BEDROCK_DELTA))

    # --- what an event says -------------------------------------------------------------------------------------------

    def _note_finish(self, reason: object) -> None:
        if is_stated(reason):
            self.finish = str(reason)

    def _note_text(self, text: object) -> None:
        """Note text of the answer. Mistral's thinking models send a list of parts, whose thoughts have another key."""
        if isinstance(text, list):
            for part in map(_object, text):
                self._note_text(part.get("text"))
                self._note_thought(part.get("thinking"))
        elif isinstance(text, str) and text:
            self._text.append(text)
            self._note_answer(text)

    def _note_answer(self, content: object) -> None:
        """Note a part of the answer, be it text or a tool call."""
        if content:
            self.content_count += 1
            self.has_content = True
            self._has_thoughts_only = False

    def _note_thought(self, thought: object) -> None:
        if thought:
            self.content_count += 1
            self._has_thoughts_only = self._has_thoughts_only or not self.has_content
            self.has_content = True

    def _note_refusal(self, refusal: object) -> None:
        """Note a refusal. Chat and Responses end it like a whole answer, so only its own field shows it."""
        if refusal:
            self.content_count += 1
            self._is_refused = self.has_content = True


def _error_of(event: _Event, kind: str) -> Mapping[str, object] | None:
    """Return the error that *event* is or has, with what stands beside it; None without one.

    Anthropic nests it, Responses also sends it flat, and old servers of vLLM and Mistral mark it by `object`. OpenRouter
    has it in a choice too, and Groq in a field of its own.
    """
    nested = (
        event.get("error")
        or _first(event.get("choices")).get("error")
        or _object(event.get("x_groq")).get("error")
    )
    if not nested and kind != "error" and event.get("object") != "error":
        return None
    beside = {key: value for key, value in event.items() if key not in _ANSWER_KEYS}
    return {**beside, "error": nested} if nested else beside


def _classified(error: Mapping[str, object]) -> ErrorCategory:
    try:
        return classify_evidence(Evidence(body=json.dumps(error))).category
    except RecursionError:  # it was nested just deep enough to be parsed
        return ErrorCategory.SERVER_ERROR


def _category_of_error(error: Mapping[str, object]) -> ErrorCategory:
    """Return the category of an error inside a stream. One that says nothing was still the server's."""
    category = _classified(error)
    return ErrorCategory.SERVER_ERROR if category is ErrorCategory.UNKNOWN else category


def _object(value: object) -> _Event:
    """Return *value* if it is an object, else an empty one. JSON gives no other mapping than a dict."""
    return value if isinstance(value, dict) else {}


def _first(items: object) -> _Event:
    """Return the first of *items*; an empty object if there is none."""
    return _object(items[0]) if isinstance(items, list) and items else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _content(item: object) -> list[object]:
    return _list(_object(item).get("content"))


def _unescaped(match: re.Match[str]) -> str:
    """Return the character that an escape of Rust's debug text stands for."""
    if match[1] is None:
        return _RUST_CONTROLS.get(match[2], match[2])
    number = int(match[1], 16)
    return chr(number) if number <= 0x10FFFF else match[0]  # noqa: PLR2004 - the last code point of Unicode
