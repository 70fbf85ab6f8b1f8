"""The one line for people about a failure: the provider's own sentence, or our stock text; never the prompt or the answer."""

from __future__ import annotations

import re

from resilience import errors
from resilience.failure.body import ResponseBody
from resilience.failure.exceptions import is_pydantic, is_unusable_answer
from resilience.failure.safe_access import get_attribute, text_of
from resilience.failure.taxonomy import CATEGORY_RULES, Evidence
from resilience.failure.taxonomy import ErrorCategory as Category
from resilience.redaction import MESSAGE_LIMIT, redact

_MAX_REDACTED = 2000
"""Characters of a sentence that are redacted; only the first `MESSAGE_LIMIT` are shown."""
_BREAKS = re.compile(r"[\s\x00-\x1f\x7f]+")
_GENERIC = frozenset(
    {"provider returned error", "error", "bad request", "internal server error", "an error occurred"}
)
"""Sentences that say nothing; a gateway writes them in front of the provider's own."""

_MISMATCHES = (
    "missing required field",
    "failed while parsing required fields",
    "assertion",
    "failed to find any",
    "could not find a json",
    "expected",
    "failed to coerce",
    "failed to parse",
)
"""What BAML's parser complains about, in words that quote nothing of the answer."""


def message_of(category: Category, evidence: Evidence, body: ResponseBody) -> str:
    """Return one line about a failure, redacted.

    Args:
        category: the category of the failure; its stock text is used where the provider sent no sentence.
        evidence: what the attempt left behind.
        body: the unwrapped response body.
    """
    exc = evidence.exception
    if isinstance(exc, errors.ResilienceError):
        return one_line(exc.message if isinstance(exc, errors.AllClientsFailedError) else str(exc))
    # An unusable answer is a response too, but its sentences are the model's.
    sentence = None if is_unusable_answer(exc) else _provider_sentence(evidence, body)
    # A sentence of control characters alone leaves nothing to show.
    return (one_line(sentence) if sentence else "") or _stock_message(category, evidence)


def one_line(text: str) -> str:
    """Return *text* redacted, on one line, without lone surrogates, at most `MESSAGE_LIMIT` characters."""
    # A lone surrogate cannot be written to UTF-8 files or databases; UTF-16 turns it into the replacement character.
    encodable = text[:_MAX_REDACTED].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    line = _BREAKS.sub(" ", redact(encodable)).strip()
    return line if len(line) <= MESSAGE_LIMIT else f"{line[: MESSAGE_LIMIT - 1]}…"


def _provider_sentence(evidence: Evidence, body: ResponseBody) -> str | None:
    """Return the provider's sentence, if there is one.

    The text of an exception may quote a prompt. It is trusted to quote a provider only where a provider did respond.
    """
    failed = evidence.status is not None and evidence.status >= 400  # noqa: PLR2004 - RFC 9110, 15.5
    if not evidence.body and not (failed and body.objects):
        return None
    telling = [sentence for sentence in body.messages if sentence.lower().rstrip(".") not in _GENERIC]
    if body.messages:
        return telling[0] if telling else body.messages[0]
    if body.title is not None:
        return body.title
    return body.prose.strip() if failed and not body.objects else None


def _stock_message(category: Category, evidence: Evidence) -> str:
    exc = evidence.exception
    details = [
        "" if evidence.status is None else f"HTTP {evidence.status}",
        "" if exc is None else type(exc).__name__,
        _mismatch(exc),
        text_of(get_attribute(exc, "strerror"))[:100] if isinstance(exc, OSError) else "",
    ]
    listed = ", ".join(filter(None, details))
    stock = CATEGORY_RULES[category].message
    return one_line(f"{stock} ({listed})" if listed else stock)


def _mismatch(exc: BaseException | None) -> str:
    """Return how an answer does not fit its type, without its values."""
    if exc is None or not is_unusable_answer(exc):
        return ""
    if is_pydantic(exc):
        return text_of(get_attribute(exc, "title"))[:60].strip()
    lowered = text_of(get_attribute(exc, "message")).lower()
    return next((phrase for phrase in _MISMATCHES if phrase in lowered), "")
