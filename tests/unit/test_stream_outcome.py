"""What the raw events of a stream say, in the form of each provider."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.baml.stream_outcome import StreamReading
from resilience.failure import ErrorCategory as Category

CHAT = ("openai", "openai-generic", "azure-openai", "ollama")
GOOGLE = ("google-ai", "vertex-ai")
PROVIDERS = (*CHAT, *GOOGLE, "openai-responses", "anthropic", "aws-bedrock")
DONE = "[DONE]"


def read(events: Sequence[object], provider: str | None = None) -> StreamReading:
    """Return the reading of *events*: texts as they are, objects as JSON."""
    reading = StreamReading(provider)
    for event in events:
        reading.feed(event if isinstance(event, str) else json.dumps(event))
    return reading


# --- the events of each protocol ------------------------------------------------------------------------------------


def chunk(finish: str | None = None, **delta: object) -> dict[str, Any]:
    """A chunk of chat completions."""
    return {"object": "chat.completion.chunk", "choices": [{"delta": delta, "finish_reason": finish}]}


def responses(kind: str, **fields: object) -> dict[str, Any]:
    """An event of the Responses API."""
    return {"type": f"response.{kind}", **fields}


def response_end(
    kind: str, *, text: str = "", reason: str | None = None, error: object = None
) -> dict[str, Any]:
    """The terminal event of the Responses API."""
    content = [{"type": "output_text", "text": text}] if text else []
    details = None if reason is None else {"reason": reason}
    output = [{"type": "message", "content": content}]
    return responses(
        kind,
        response={"status": kind, "output": output, "incomplete_details": details, "error": error},
    )


def block(kind: str, **delta: object) -> dict[str, Any]:
    """A delta of Anthropic."""
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **delta}}


def anthropic_end(reason: str) -> dict[str, Any]:
    """The event in which Anthropic states why it stopped."""
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 2}}


def google(finish: str | None = None, *parts: object) -> dict[str, Any]:
    """An event of Google."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": {"totalTokenCount": 2}}


def bedrock(debug: str) -> dict[str, Any]:
    """The debug text that BAML makes of an event of Bedrock."""
    return {"debug": debug}


def bedrock_delta(delta: str) -> dict[str, Any]:
    """Content of Bedrock."""
    return bedrock(
        f"ContentBlockDelta(ContentBlockDeltaEvent {{ delta: Some({delta}), content_block_index: 0 }})"
    )


def bedrock_end(reason: str) -> dict[str, Any]:
    """The event in which Bedrock states why it stopped."""
    return bedrock(
        f"MessageStop(MessageStopEvent {{ stop_reason: {reason}, additional_model_response_fields: None }})"
    )


MESSAGE_START = {"type": "message_start", "message": {"content": [], "stop_reason": None}}
MESSAGE_STOP = {"type": "message_stop"}
PING = {"type": "ping"}
METADATA = bedrock("Metadata(ConverseStreamMetadataEvent { usage: None, metrics: None, trace: None })")
OPENING: dict[str, list[object]] = {
    **{name: [chunk(role="assistant", content="", refusal=None)] for name in CHAT},
    **{name: [] for name in GOOGLE},
    "openai-responses": [responses("created"), responses("in_progress"), responses("output_item.added")],
    "anthropic": [
        MESSAGE_START,
        {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
    ],
    "aws-bedrock": [bedrock("MessageStart(MessageStartEvent { role: Assistant })")],
}
THOUGHT: dict[str, object] = {
    **dict.fromkeys(CHAT, chunk(reasoning_content="well")),
    **dict.fromkeys(GOOGLE, google(None, {"text": "well", "thought": True})),
    "openai-responses": responses("reasoning_summary_text.delta", delta="well"),
    "anthropic": block("thinking_delta", thinking="well"),
    "aws-bedrock": bedrock_delta("*** Sensitive Data Redacted ***"),
}
WORDS: dict[str, list[object]] = {  # "one " and "two", split in the middle of the text
    **{name: [chunk(content="one "), chunk(content="two")] for name in CHAT},
    **{name: [google(None, {"text": "one "}), google(None, {"text": "two"})] for name in GOOGLE},
    "openai-responses": [
        responses("output_text.delta", delta="one "),
        responses("output_text.delta", delta="two"),
    ],
    "anthropic": [block("text_delta", text="one "), block("text_delta", text="two")],
    "aws-bedrock": [bedrock_delta('Text("one ")'), bedrock_delta('Text("two")')],
}
MARKS: dict[str, list[object]] = {
    **{name: [DONE] for name in CHAT},
    **{name: [] for name in GOOGLE},
    "openai-responses": [],
    "anthropic": [MESSAGE_STOP],
    "aws-bedrock": [METADATA],
}


def end(provider: str, reason: str) -> list[object]:
    """The event that states *reason*, in the words of *provider*, and the end mark after it."""
    if provider in CHAT:
        event = chunk(reason)
    elif provider in GOOGLE:
        event = google(reason)
    elif provider == "openai-responses":
        whole = reason == "completed"
        event = (
            response_end("completed", text="one two") if whole else response_end("incomplete", reason=reason)
        )
    else:
        event = anthropic_end(reason) if provider == "anthropic" else bedrock_end(reason)
    return [event, *MARKS[provider]]


GOOD = {
    **dict.fromkeys(CHAT, ("stop", "tool_calls")),
    **dict.fromkeys(GOOGLE, ("STOP",)),
    "openai-responses": ("completed",),
    "anthropic": ("end_turn", "stop_sequence", "tool_use"),
    "aws-bedrock": ("EndTurn", "StopSequence", "ToolUse"),
}
CUT = {
    **dict.fromkeys(CHAT, ("length",)),
    **dict.fromkeys(GOOGLE, ("MAX_TOKENS",)),
    "openai-responses": ("max_output_tokens", "a_reason_of_tomorrow"),
    "anthropic": ("max_tokens", "model_context_window_exceeded"),
    "aws-bedrock": ("MaxTokens", 'Unknown(UnknownVariantValue("model_context_window_exceeded"))'),
}
REFUSED = {
    **dict.fromkeys(CHAT, ("content_filter",)),
    **dict.fromkeys(GOOGLE, ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")),
    "openai-responses": ("content_filter",),
    "anthropic": ("refusal",),
    "aws-bedrock": ("ContentFiltered", "GuardrailIntervened", 'Unknown(UnknownVariantValue("refusal"))'),
}


def endings(table: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """Return each provider of *table* with each of its words."""
    return [(provider, reason) for provider in PROVIDERS for reason in table[provider]]


# --- finish reasons -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("provider", "reason"), endings(GOOD))
@pytest.mark.parametrize("is_known", [True, False])
def test_a_whole_answer(provider: str, reason: str, *, is_known: bool) -> None:
    """A good finish reason makes the answer whole, with and without the name of the provider."""
    events = [*OPENING[provider], THOUGHT[provider], *WORDS[provider], *end(provider, reason)]

    reading = read(events, provider if is_known else None)

    assert reading.verdict() is None
    assert (reading.text, reading.finish) == ("one two", reason)
    assert reading.is_complete
    assert reading.has_content
    assert not reading.damaged
    assert reading.error is None
    assert reading.end_marked is (provider not in GOOGLE)


@pytest.mark.parametrize(("provider", "reason"), endings(CUT))
def test_a_cut_answer(provider: str, reason: str) -> None:
    """A word for "cut" spoils the answer, whatever the end mark says."""
    reading = read([*OPENING[provider], *WORDS[provider], *end(provider, reason)], provider)

    assert reading.verdict() is Category.OUTPUT_TRUNCATED
    assert not reading.is_complete
    assert reading.text == "one two"


@pytest.mark.parametrize(("provider", "reason"), endings(REFUSED))
def test_a_refused_answer(provider: str, reason: str) -> None:
    """A word for "withheld" is a refusal, also with a guardrail's own text before it."""
    reading = read([*OPENING[provider], *WORDS[provider], *end(provider, reason)], provider)

    assert reading.verdict() is Category.CONTENT_POLICY
    assert not reading.is_complete


@pytest.mark.parametrize(
    "events",
    [
        [chunk(refusal="I cannot"), chunk("stop"), DONE],
        [
            responses("refusal.delta", delta="I cannot"),
            responses("refusal.done", refusal="I cannot"),
            response_end("completed"),
        ],
        [
            responses(
                "completed",
                response={"output": [{"content": [{"type": "refusal", "refusal": "I cannot"}]}]},
            )
        ],
        [{"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {}}],
        [{"promptFeedback": {"blockReason": "SAFETY"}}],
    ],
)
def test_a_refusal_without_a_finish_reason_of_its_own(events: list[object]) -> None:
    """A refusal that ends like a whole answer, or before any candidate, is found by its own field."""
    assert read(events).verdict() is Category.CONTENT_POLICY


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_stream_without_a_finish_reason_is_cut(provider: str) -> None:
    """Neither a clean end nor an end mark proves that the answer is whole."""
    events = [*OPENING[provider], *WORDS[provider]]

    assert read(events, provider).verdict() is Category.OUTPUT_TRUNCATED
    assert read([*events, *MARKS[provider]]).verdict() is Category.OUTPUT_TRUNCATED
    assert read([], provider).verdict() is Category.OUTPUT_TRUNCATED


@pytest.mark.parametrize("provider", [name for name in PROVIDERS if MARKS[name]])
def test_the_end_mark_may_be_missing(provider: str) -> None:
    """A good finish reason suffices."""
    finish, *_ = end(provider, GOOD[provider][0])

    reading = read([*WORDS[provider], finish], provider)

    assert reading.verdict() is None
    assert not reading.end_marked


def test_the_last_finish_reason_counts() -> None:
    """Old models of Google send `STOP` in every event, so only the last word says how the answer ended."""
    events = [google("STOP", {"text": "a"}), google("STOP", {"text": "b"}), google("MAX_TOKENS")]

    assert read(events[:2]).verdict() is None
    assert read(events).verdict() is Category.OUTPUT_TRUNCATED


@pytest.mark.parametrize("reason", [None, "", "null", "FINISH_REASON_UNSPECIFIED"])
def test_a_word_for_unfinished_is_no_finish_reason(reason: str | None) -> None:
    """Some servers state a reason in every event; "none yet" is not taken for a good one."""
    assert read([chunk(reason, content="a"), DONE]).verdict() is Category.OUTPUT_TRUNCATED


def test_a_provider_that_is_not_known() -> None:
    """Events of an unknown form demand no finish reason, so a protocol of tomorrow is left to BAML."""
    assert read([{"token": "a"}, {"token": "b"}], "of-tomorrow").verdict() is None
    assert read([{"token": "a"}], "openai").verdict() is Category.OUTPUT_TRUNCATED
    assert read([chunk(content="a")], "of-tomorrow").verdict() is Category.OUTPUT_TRUNCATED


# --- errors inside the stream ---------------------------------------------------------------------------------------

ERRORS: list[tuple[str, object, Category]] = [
    *(
        (name, {"error": {"message": "slow", "code": "rate_limit_exceeded"}}, Category.RATE_LIMIT)
        for name in CHAT
    ),
    (
        "openai-generic",
        {"error": {"message": "x", "code": 502}, "choices": [chunk("error")]},
        Category.SERVER_ERROR,
    ),
    (
        "openai-generic",
        {"choices": [{"finish_reason": "error", "error": {"code": 429}}]},
        Category.RATE_LIMIT,
    ),
    ("openai-generic", {"object": "error", "message": "x", "code": 500}, Category.SERVER_ERROR),
    ("openai-generic", {"error": "overloaded"}, Category.OVERLOADED),
    ("openai-generic", {"error": {"message": "no word of any table"}}, Category.SERVER_ERROR),
    (
        "openai-responses",
        {"type": "error", "code": "rate_limit_exceeded", "message": "x"},
        Category.RATE_LIMIT,
    ),
    ("openai-responses", {"type": "error", "error": {"code": "server_error"}}, Category.SERVER_ERROR),
    ("openai-responses", response_end("failed", error={"code": "rate_limit_exceeded"}), Category.RATE_LIMIT),
    ("openai-responses", response_end("failed"), Category.SERVER_ERROR),
    (
        "anthropic",
        {"type": "error", "error": {"type": "overloaded_error", "message": "x"}},
        Category.OVERLOADED,
    ),
    (
        "google-ai",
        {"error": {"code": 503, "status": "UNAVAILABLE", "message": "overloaded"}},
        Category.OVERLOADED,
    ),
    ("vertex-ai", [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}], Category.RATE_LIMIT),
]


@pytest.mark.parametrize(("provider", "event", "category"), ERRORS)
def test_an_error_inside_the_stream(provider: str, event: object, category: Category) -> None:
    """The error's own words decide, also where BAML forgets it for a readable event that follows."""
    before = [*OPENING[provider], *WORDS[provider], event]

    for events in (before, [*before, *WORDS[provider]], [*before, *end(provider, GOOD[provider][0])]):
        reading = read(events, provider)
        assert reading.error is not None
        assert reading.verdict() is category


def test_the_error_holds_no_text_of_the_answer() -> None:
    """The choices beside an error are left out, so that it may be logged."""
    event = {"error": {"message": "m"}, "choices": [{"delta": {"content": "secret"}}]}

    assert read([event]).error == {"error": {"message": "m"}}
    assert read([{**event, "object": "error"}]).error == {"error": {"message": "m"}, "object": "error"}


@pytest.mark.parametrize("error", [None, {}, ""])
def test_an_empty_error_is_none(error: object) -> None:
    """Some servers send an empty `error` with every event."""
    assert read([{**chunk("stop", content="a"), "error": error}]).verdict() is None


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
def test_damage_in_the_middle(provider: str) -> None:
    """BAML skips an event that is not JSON, so its text is lost, except in Responses, whose last event repeats it."""
    first, second = WORDS[provider]
    reading = read([first, '{"broken": "ev', second])
    assert reading.damaged

    reading = read([first, '{"broken": "ev', second, *end(provider, GOOD[provider][0])], provider)

    is_healed = provider == "openai-responses"
    assert reading.damaged is not is_healed
    assert reading.verdict() is (None if is_healed else Category.OUTPUT_TRUNCATED)


def test_a_terminal_event_without_the_text_heals_nothing() -> None:
    """A Responses server that leaves the output out of its last event leaves the damage."""
    events = [responses("output_text.delta", delta="a"), "{", response_end("completed")]

    assert read(events).verdict() is Category.OUTPUT_TRUNCATED


def test_damage_after_the_whole_text_is_harmless() -> None:
    """Only usage follows a good finish reason; with old models of Google also text, so there it counts."""
    assert read([chunk(content="a"), chunk("stop"), '{"usage": {', DONE]).verdict() is None
    assert read([google("STOP", {"text": "a"}), "{", google("STOP")]).verdict() is Category.OUTPUT_TRUNCATED
    assert read([google(None, {"text": "a"}), google("STOP"), "{"]).verdict() is None


@pytest.mark.parametrize("text", ["", "  ", "ping", "keep-alive", "[DONE]"])
def test_a_text_that_loses_nothing(text: str) -> None:
    """An empty event, a keep-alive in words and the end mark are no damage."""
    assert read([chunk(content="a"), text, chunk("stop")]).verdict() is None


# --- content --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
def test_content_begins_with_thinking(provider: str) -> None:
    """A thought is content but no answer text; opening events are neither."""
    events = OPENING[provider]

    assert not read(events).has_content
    reading = read([*events, THOUGHT[provider]])
    assert reading.has_content
    assert reading.text == ""


@pytest.mark.parametrize(
    "event", [PING, {"type": "keepalive"}, "", chunk(), chunk(content=""), google(), METADATA]
)
def test_a_heartbeat_is_no_content(event: object) -> None:
    """Any number of heartbeats leaves a first-token clock running, and is no answer."""
    reading = read([event] * 3)

    assert not reading.has_content
    assert reading.text == ""
    assert reading.verdict() is Category.OUTPUT_TRUNCATED


@pytest.mark.parametrize(
    "event",
    [
        chunk(reasoning="well"),
        chunk(tool_calls=[{"index": 0}]),
        chunk(refusal="no"),
        chunk(content=[{"type": "thinking", "thinking": [{"text": "well"}]}]),
        responses("function_call_arguments.delta", delta="{"),
        responses("refusal.delta", delta="no"),
        block("signature_delta", signature="s"),
        block("input_json_delta", partial_json="{"),
        {"type": "content_block_start", "content_block": {"type": "redacted_thinking", "data": "x"}},
        google(None, {"functionCall": {"name": "f"}}),
        bedrock_delta('ToolUse(ToolUseBlockDelta { input: "{" })'),
    ],
)
def test_content_without_text(event: object) -> None:
    """Thinking, tool calls and refusals show that the model has begun."""
    reading = read([event])

    assert reading.has_content
    assert reading.text == ""


def test_thoughts_are_no_answer() -> None:
    """Vertex' thoughts become the answer when no text follows them. That answer is unusable."""
    thought = THOUGHT["vertex-ai"]

    assert read([thought, google("STOP")]).verdict() is Category.OUTPUT_INVALID
    assert read([thought, google("STOP", {"text": "a"})]).verdict() is None


def test_only_the_first_choice_counts() -> None:
    """BAML reads no other choice."""
    event = {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}, {"finish_reason": "length"}]}

    assert read([event]).verdict() is None


def test_a_message_of_parts() -> None:
    """The text parts of Mistral's thinking models are answer text."""
    parts = [{"type": "thinking", "thinking": [{"text": "well"}]}, {"type": "text", "text": "a"}]

    assert read([chunk(content=parts)]).text == "a"


def test_debug_text_is_unescaped() -> None:
    """Bedrock's text arrives with Rust's escapes, and may quote the name of another event."""
    delta = (
        r'Text("a \"q\" \n\t\\ \u{1f389}\u{110000} \' MessageStop(MessageStopEvent { stop_reason: MaxTokens")'
    )

    reading = read([bedrock_delta(delta), bedrock_end("EndTurn")])

    assert (
        reading.text
        == 'a "q" \n\t\\ \U0001f389\\u{110000} \' MessageStop(MessageStopEvent { stop_reason: MaxTokens'
    )
    assert reading.verdict() is None


# --- hostile events -------------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_KEYS = (
    *(
        "type",
        "object",
        "error",
        "choices",
        "delta",
        "message",
        "content",
        "text",
        "finish_reason",
        "refusal",
    ),
    *("response", "output", "incomplete_details", "reason", "content_block", "stop_reason", "thinking"),
    *("promptFeedback", "blockReason", "candidates", "parts", "thought", "finishReason", "debug"),
)
_KINDS = (
    *("error", "response.completed", "response.incomplete", "response.failed", "response.refusal.delta"),
    *("response.output_text.delta", "message_delta", "content_block_delta", "message_stop", "stop"),
    *(
        "MessageStop(MessageStopEvent { stop_reason: ",
        'ContentBlockDelta(ContentBlockDeltaEvent { delta: Some(Text("',
    ),
)
_EVENT = st.recursive(
    _JSON | st.sampled_from(_KINDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    max_leaves=15,
)


@given(
    events=st.lists(st.text(max_size=40) | _EVENT.map(json.dumps), max_size=6),
    provider=st.sampled_from(PROVIDERS),
)
def test_no_event_raises(events: list[str], provider: str) -> None:
    """Whatever a provider sends, a reading gives a category or None."""
    reading = read(events, provider)

    assert reading.verdict() in {None, *Category}
    assert isinstance(reading.text, str)
    assert reading.finish is None or isinstance(reading.finish, str)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"error": ' * 100_000, "9" * 100_000, '{"a": ' + "9" * 10_000 + "}"]
)
def test_no_depth_and_no_number_raises(text: str) -> None:
    """JSON that the parser gives up on is damage."""
    assert read([chunk(content="a"), text, chunk("stop")]).verdict() is Category.OUTPUT_TRUNCATED


@pytest.mark.parametrize("depth", [50, 200, 400, 900])
def test_an_error_of_any_depth(depth: int) -> None:
    """An error nested just deep enough to be parsed still gets a category."""
    assert read(['{"error": ' * depth + "1" + "}" * depth]).verdict() is not None
