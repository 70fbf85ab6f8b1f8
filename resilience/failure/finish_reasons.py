"""The one table of finish reasons: what a provider's word for "why I stopped" says about the answer.

A response with status 200 can hold an answer that was cut, withheld or broken off. BAML closes open brackets, so such
an answer may even parse: only the finish reason gives it away. The table serves all readers of answers: `failure/`,
which classifies errors, and two of `baml/`. `collector.py` checks answers that BAML accepted, `stream_outcome.py` checks
streams. A reason that is not in the table is read by its words: `max_output` is a cut answer, `blocked_by_moderation` a withheld
one. What has none of these words is good (`stop`, `end_turn`, `COMPLETE`, `tool_calls` ...), so that a new word for "complete" fails
no call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from resilience.failure.body import fold
from resilience.failure.safe_access import mapping_of
from resilience.failure.taxonomy import ErrorCategory as Category

# Folded when the table is built, so `max_tokens`, `MAX_TOKENS` and Bedrock's `MaxTokens` are one entry.
_WORDS: Final[Mapping[Category, str]] = {
    # The text is cut: at the token limit, at the end of the context window, or in the middle of the provider's own turn.
    Category.OUTPUT_TRUNCATED: """
        length max_tokens max_output_tokens max_length token_limit
        model_length
        model_context_window_exceeded error_limit
        pause_turn
        incomplete
        """,  # OpenAI, Anthropic, Gemini, Responses, Ollama, watsonx; Mistral; Anthropic, Bedrock, Zhipu, Cohere; Anthropic; Responses
    # The text was withheld or broken off by a filter.
    Category.CONTENT_POLICY: """
        content_filter content_filtered guardrail_intervened refusal sensitive error_toxic
        safety recitation blocklist prohibited_content spii language model_armor
        image_safety image_prohibited_content image_recitation
        """,  # OpenAI, Azure, Mistral; Bedrock; Anthropic; Zhipu; Cohere; the second and third line are Gemini's and Vertex'
    # Something broke while the answer was written. Another try may succeed, so it counts as unusable output.
    Category.OUTPUT_INVALID: """
        malformed_function_call unexpected_tool_call too_many_tool_calls missing_thought_signature malformed_response
        image_other no_image other
        malformed_model_output malformed_tool_use
        error insufficient_system_resource network_error timeout time_limit abort
        failed cancelled
        """,  # Gemini; Bedrock; Mistral, OpenRouter, Cohere, DeepSeek, Zhipu, watsonx, vLLM; Responses
}
FINISH_REASONS: Final[Mapping[str, Category]] = MappingProxyType(
    {fold(word): category for category, words in _WORDS.items() for word in words.split()}
)
"""Folded finish reason to the category of the answer that it spoils."""

_PARTS: Final[Mapping[Category, frozenset[str]]] = {
    Category.CONTENT_POLICY: frozenset(
        [
            "filter",
            "filtered",
            "safety",
            "unsafe",
            "block",
            "blocked",
            "moderation",
            "moderated",
            "policy",
            "guardrail",
            "guardrails",
            "refusal",
            "refused",
            "sensitive",
            "toxic",
            "toxicity",
            "prohibited",
            "censored",
            "harmful",
            "violation",
        ]
    ),
    Category.OUTPUT_TRUNCATED: frozenset(
        [
            "max",
            "maximum",
            "limit",
            "limited",
            "length",
            "window",
            "exceeded",
            "truncated",
            "truncation",
            "incomplete",
            "cutoff",
        ]
    ),
    Category.OUTPUT_INVALID: frozenset(
        [
            "error",
            "errored",
            "fail",
            "failed",
            "failure",
            "timeout",
            "aborted",
            "abort",
            "cancel",
            "cancelled",
            "canceled",
            "interrupted",
            "malformed",
            "invalid",
        ]
    ),
}
"""Words inside of a finish reason that is in no table. A filter is asked for first: `content_length_policy` is one."""
_PART: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_NEGATIONS: Final = frozenset({"no", "not", "non", "without"})

_UNSTATED: Final = frozenset(map(fold, ("null", "none", "FINISH_REASON_UNSPECIFIED")))
"""Folded words that events of a stream carry before the answer has ended."""

_KEYS: Final = (
    "finish_reason",
    "finishReason",
    "stop_reason",
    "stopReason",
    "done_reason",
    "completionReason",
)
_INCOMPLETE: Final = "incomplete_details"
"""Responses API: an object whose `reason` is the finish reason; null in a complete response."""

_KEY_END: Final = 'eason"'
"""The end of every key in `_KEYS`, and of the `reason` inside `incomplete_details`."""
_MAX_KEY: Final = 20
"""Characters of the longest key with its quotes."""
_PARENT: Final = re.compile(rf'"{_INCOMPLETE}"\s*:\s*\{{\s*\Z')
_MAX_PARENT: Final = 60
"""Characters of that parent key with its colon, its brace and some white space."""
_VALUE: Final = re.compile(r'\s{0,64}+:\s{0,64}+"([\w .:/-]{1,60})"')
_REFUSAL: Final = re.compile(r'"refusal"\s*:\s*"[^"]')
_FAILED: Final = re.compile(r'"status"\s*:\s*"failed"')


@lru_cache(maxsize=64)  # nearly all answers end with one of a few words
def category_of_reason(reason: str | None) -> Category | None:
    """Return the category of an answer that ended for *reason*; None for a good answer and for words that say nothing of it."""
    return (FINISH_REASONS.get(fold(reason)) or _category_of_parts(reason)) if reason else None


def _category_of_parts(reason: str) -> Category | None:
    parts = {part.lower() for part in _PART.findall(reason)}
    if parts & _NEGATIONS:
        return None
    return next((category for category, words in _PARTS.items() if parts & words), None)


def is_stated(reason: object) -> bool:
    """Return whether *reason* is a finish reason at all: a word that does not stand for "not finished yet"."""
    return isinstance(reason, str) and bool(fold(reason)) and fold(reason) not in _UNSTATED


def bad_finish_reason(body: str | None) -> str | None:
    """Return the finish reason in the raw *body* that makes its answer unusable; None without one.

    It runs on every successful call and therefore looks for keys in the text instead of parsing JSON. That is exact:
    quotes inside a JSON string are escaped, so an answer that talks about `"finish_reason"` does not match.
    """
    if body is None:
        return None
    # OpenAI puts a refusal beside the finish reason `stop`: `message.refusal`, or a part of the type `refusal`.
    if '"refusal"' in body and _REFUSAL.search(body) is not None:
        return "refusal"
    return next((reason for reason in _reasons_in(body) if category_of_reason(reason) is not None), None)


def reports_failure(body: str | None) -> bool:
    """Return whether the raw *body* of a success says that the request failed: `failed` of the Responses API.

    The error object beside it has the provider's code, which tells a rate limit from a broken server.
    """
    return body is not None and _FAILED.search(body) is not None


def finish_error(answer: Mapping[str, object]) -> Category | None:
    """Return what is wrong with a parsed completion: cut, withheld or empty; None if it looks complete."""
    if mapping_of(answer.get("promptFeedback")).get("blockReason"):
        return Category.CONTENT_POLICY
    choices = next((answer[key] for key in ("choices", "candidates") if key in answer), None)
    first = mapping_of(choices[0]) if isinstance(choices, list) and choices else {}
    category = _category_of_part(mapping_of(answer)) or _category_of_part(first)
    if category is not None:
        return category
    return Category.OUTPUT_INVALID if _is_empty(answer, choices, first) else None


def _reasons_in(body: str) -> Iterator[str]:
    """Yield the first value of each key, which is that of the first choice: BAML reads no other.

    One search for the common end of all keys finds the one place of a good answer, whatever the number of words.
    """
    seen: set[str] = set()
    end = body.find(_KEY_END)
    while end >= 0:
        end += len(_KEY_END)
        start = body.rfind('"', max(0, end - _MAX_KEY), end - 1)
        key = body[start + 1 : end - 1]
        if key not in seen and (key in _KEYS or (key == "reason" and _has_parent(body, start))):
            value = _VALUE.match(body, end)
            if value is not None:  # else null, or an object of another form
                seen.add(key)
                yield value[1]
        end = body.find(_KEY_END, end)


def _has_parent(body: str, start: int) -> bool:
    """Return whether the key at *start* is the first of the object `incomplete_details`."""
    return _PARENT.search(body, max(0, start - _MAX_PARENT), start) is not None


def _category_of_part(part: Mapping[object, object]) -> Category | None:
    incomplete = mapping_of(part.get(_INCOMPLETE)).get("reason")
    reasons = (*(part.get(key) for key in _KEYS), incomplete)
    categories = (category_of_reason(reason) for reason in reasons if isinstance(reason, str))
    return next(filter(None, categories), None)


def _is_empty(answer: Mapping[str, object], choices: object, first: Mapping[object, object]) -> bool:
    if choices is not None and not first:
        return True
    message = mapping_of(first.get("message") or first.get("content") or answer.get("message"))
    contents = [
        value
        for key, value in message.items()
        if fold(str(key)) in {"content", "toolcalls", "parts", "functioncall"}
    ]
    has_message = bool(first or "message" in answer)
    # A chunk of a stream (`delta`) and a legacy completion (`text`) hold their text elsewhere.
    return has_message and "delta" not in first and "text" not in first and not any(contents)
