"""The table of finish reasons: every word of a provider for an answer that is not whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from resilience.baml.collector import answer_error
from resilience.errors import AnswerError, ContentRefusedError, EmptyAnswerError, OutputTruncatedError
from resilience.failure import ErrorCategory, Evidence, classify, classify_evidence
from resilience.failure.finish_reasons import (
    FINISH_REASONS,
    bad_finish_reason,
    category_of_reason,
    finish_error,
)

TRUNCATED, WITHHELD, BROKEN = (
    ErrorCategory.OUTPUT_TRUNCATED,
    ErrorCategory.CONTENT_POLICY,
    ErrorCategory.OUTPUT_INVALID,
)
REASONS = {
    "length": TRUNCATED,  # OpenAI, Ollama
    "max_tokens": TRUNCATED,  # Anthropic, Bedrock
    "MAX_TOKENS": TRUNCATED,  # Gemini, Cohere
    "MaxTokens": TRUNCATED,  # Bedrock, as BAML prints it
    "max_output_tokens": TRUNCATED,  # Responses
    "model_length": TRUNCATED,  # Mistral
    "model_context_window_exceeded": TRUNCATED,  # Anthropic, Bedrock, Zhipu
    "ERROR_LIMIT": TRUNCATED,  # Cohere
    "pause_turn": TRUNCATED,  # Anthropic
    "content_filter": WITHHELD,  # OpenAI, Azure
    "content_filtered": WITHHELD,  # Bedrock
    "ContentFiltered": WITHHELD,  # Bedrock, as BAML prints it
    "guardrail_intervened": WITHHELD,  # Bedrock
    "refusal": WITHHELD,  # Anthropic
    "SAFETY": WITHHELD,  # Gemini, and the next six
    "RECITATION": WITHHELD,
    "BLOCKLIST": WITHHELD,
    "PROHIBITED_CONTENT": WITHHELD,
    "SPII": WITHHELD,
    "IMAGE_SAFETY": WITHHELD,
    "LANGUAGE": WITHHELD,
    "MODEL_ARMOR": WITHHELD,  # Vertex
    "ERROR_TOXIC": WITHHELD,  # Cohere
    "sensitive": WITHHELD,  # Zhipu
    "MALFORMED_FUNCTION_CALL": BROKEN,  # Gemini, and the next
    "OTHER": BROKEN,
    "malformed_model_output": BROKEN,  # Bedrock
    "error": BROKEN,  # Mistral, OpenRouter
    "insufficient_system_resource": BROKEN,  # DeepSeek
    "network_error": BROKEN,  # Zhipu
    "abort": BROKEN,  # vLLM
}
GOOD = (
    *("stop", "tool_calls", "function_call"),  # OpenAI
    *("end_turn", "stop_sequence", "tool_use"),  # Anthropic, Bedrock
    *("STOP", "FINISH_REASON_UNSPECIFIED"),  # Gemini
    *("COMPLETE", "STOP_SEQUENCE", "TOOL_CALL"),  # Cohere
    *("eos", "eos_token", "load", "a_word_of_tomorrow"),
)
ERRORS: dict[ErrorCategory, type[AnswerError]] = {
    TRUNCATED: OutputTruncatedError,
    WITHHELD: ContentRefusedError,
    BROKEN: AnswerError,
}


def bodies(reason: str) -> list[dict[str, Any]]:
    """Return a whole answer that ended for *reason*, in the protocol of each provider."""
    text = "a whole answer"
    return [
        {"choices": [{"message": {"content": text}, "finish_reason": reason}]},
        {"content": [{"type": "text", "text": text}], "stop_reason": reason},
        {"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": reason}]},
        {"output": {"message": {"content": [{"text": text}]}}, "stopReason": reason},
        {"message": {"content": text}, "done_reason": reason},
        {"message": {"content": [{"text": text}]}, "finish_reason": reason},
    ]


@pytest.mark.parametrize(("reason", "category"), REASONS.items())
def test_one_table_serves_errors_and_accepted_answers(reason: str, category: ErrorCategory) -> None:
    """An answer that is not whole is an error in every protocol, whether BAML raised or accepted it."""
    for body in bodies(reason):
        for text in (json.dumps(body), json.dumps(body, separators=(",", ":"))):
            assert ERRORS[category] is answer_error("a whole answer", text), body
            assert category is classify_evidence(Evidence(status=200, body=text)).category, body
        assert category is finish_error(body)
    assert category is classify_evidence(Evidence(status=200, finish_reason=reason)).category


@pytest.mark.parametrize(
    ("reason", "category"),
    [
        ("max_output", ErrorCategory.OUTPUT_TRUNCATED),
        ("max-new-tokens", ErrorCategory.OUTPUT_TRUNCATED),
        ("contextWindowExceeded", ErrorCategory.OUTPUT_TRUNCATED),
        ("TRUNCATED", ErrorCategory.OUTPUT_TRUNCATED),
        ("blocked_by_moderation", ErrorCategory.CONTENT_POLICY),
        ("content-filter", ErrorCategory.CONTENT_POLICY),
        ("PolicyViolation", ErrorCategory.CONTENT_POLICY),
        ("USER_CANCEL", ErrorCategory.OUTPUT_INVALID),
        ("generation error", ErrorCategory.OUTPUT_INVALID),
        ("no_error", None),
        ("eos_token", None),
        ("stopSequence", None),
        ("not-truncated", None),
    ],
)
def test_a_reason_of_no_table_is_read_by_its_words(reason: str, category: ErrorCategory | None) -> None:
    """Words of providers that are not known yet say cut, withheld or broken in any spelling; others are good."""
    for body in bodies(reason):
        assert ERRORS.get(category) is answer_error("a whole answer", json.dumps(body))  # type: ignore[arg-type] # None has no error


@pytest.mark.parametrize("reason", GOOD)
def test_a_good_answer_passes(reason: str) -> None:
    """A word for a complete answer, and a word that no table has, fail no call."""
    assert category_of_reason(reason) is None
    for body in bodies(reason):
        assert answer_error("a whole answer", json.dumps(body)) is None
        assert finish_error(body) is None


@pytest.mark.parametrize(("reason", "category"), REASONS.items())
def test_an_answer_may_talk_about_finish_reasons(reason: str, category: ErrorCategory) -> None:
    """Quotes inside a JSON string are escaped, so the model's own words are never taken for the protocol's."""
    del category
    words = json.dumps({"finish_reason": reason, "stop_reason": reason})
    body = json.dumps({"choices": [{"message": {"content": words}, "finish_reason": "stop"}]})

    assert bad_finish_reason(body) is None


@pytest.mark.parametrize(
    ("reason", "category"), [("max_output_tokens", TRUNCATED), ("content_filter", WITHHELD)]
)
def test_an_incomplete_response(reason: str, category: ErrorCategory) -> None:
    """The Responses API has the reason in an object, which is null in a complete response."""
    body = {
        "status": "incomplete",
        "output": [{"text": "a whole answer"}],
        "incomplete_details": {"reason": reason},
    }
    complete = '{"status": "completed", "output": [{"text": "x"}], "incomplete_details": null}'

    assert ERRORS[category] is answer_error("a whole answer", json.dumps(body))
    assert category is classify_evidence(Evidence(status=200, body=json.dumps(body))).category
    assert category is finish_error(body)
    assert bad_finish_reason(complete) is None


def test_the_first_choice_counts() -> None:
    """BAML reads the first choice, so its reason counts; a null before it does not hide it."""
    first_good = '{"choices": [{"finish_reason": "stop"}, {"finish_reason": "content_filter"}]}'
    after_null = '{"finish_reason": null, "stop_reason": null, "choices": [{"finish_reason": "length"}]}'

    assert bad_finish_reason(first_good) is None
    assert bad_finish_reason(after_null) == "length"
    assert bad_finish_reason(None) is None


def test_words_are_folded_once() -> None:
    """The keys of the table are folded, so that one entry serves `max_tokens`, `MAX_TOKENS` and `MaxTokens`."""
    assert all(word.islower() and word.isalpha() for word in FINISH_REASONS)


def test_an_empty_text_is_no_answer() -> None:
    """A function that returns a string gets EmptyAnswerError for an empty one, not success."""
    assert answer_error("", None) is EmptyAnswerError
    assert answer_error("x", None) is None


class BamlValidationError(Exception):
    """As BAML raises it for an answer that does not parse."""


BamlValidationError.__module__ = "baml_py.internal_monkeypatch"


def unparsable(body: object) -> ErrorCategory:
    """The category of an answer with this body that BAML could not parse."""
    text, error = json.dumps(body), BamlValidationError("does not parse")
    evidence = Evidence(
        exception=error,
        status=200,
        headers={"date": "x"},
        body=text,
        finish_reason=bad_finish_reason(text),
    )
    return classify(error, evidence=evidence).category


@pytest.mark.parametrize(
    ("body", "category"),
    [
        (
            {"choices": [{"message": {"content": None, "refusal": "I cannot"}, "finish_reason": "stop"}]},
            ErrorCategory.CONTENT_POLICY,
        ),
        (
            {"status": "completed", "output": [{"content": [{"type": "refusal", "refusal": "no"}]}]},
            ErrorCategory.CONTENT_POLICY,
        ),
        (
            {"choices": [{"message": {"content": "{bad", "refusal": None}, "finish_reason": "stop"}]},
            ErrorCategory.OUTPUT_INVALID,
        ),
        (
            {"choices": [{"message": {"content": '{"refusal": "quoted"}'}, "finish_reason": "stop"}]},
            ErrorCategory.OUTPUT_INVALID,
        ),
        (
            {"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "Rate limit"}},
            ErrorCategory.RATE_LIMIT,
        ),
        (
            {"status": "failed", "error": {"code": "server_error", "message": "The server had an error"}},
            ErrorCategory.SERVER_ERROR,
        ),
        ({"status": "failed", "error": None, "output": []}, ErrorCategory.SERVER_ERROR),
    ],
)
def test_a_refusal_or_a_failure_inside_a_success_is_found(body: object, category: ErrorCategory) -> None:
    """A refusal beside the reason `stop`, and a Responses object that says `failed`, are no unparsable answers."""
    assert category is unparsable(body)
