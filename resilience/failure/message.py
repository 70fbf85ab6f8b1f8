"""The one line for people about a failure: the provider's own sentence, or our stock text; never the prompt or the answer."""

from __future__ import annotations

import re

from resilience import errors
from resilience.failure.body import ResponseBody
from resilience.failure.exceptions import is_pydantic, is_unusable_answer
from resilience.failure.identifiers import safe_class_name
from resilience.failure.safe_access import get_attribute, text_of
from resilience.failure.taxonomy import CATEGORY_RULES, Evidence
from resilience.failure.taxonomy import ErrorCategory as Category
from resilience.redaction import MESSAGE_LIMIT, SentText, cut, redact_whole

_MAX_REDACTED = 2000
"""Characters of a sentence that are redacted; only the first `MESSAGE_LIMIT` are shown."""
_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_HIDDEN = re.compile("[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
"""Characters that show nothing, or change the order in which a text is shown. Two of their kind are letters of some scripts and stay."""
_LONGEST_WORD = 100
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
    exc, sent = evidence.exception, evidence.sent
    if isinstance(exc, errors.AllClientsFailedError):
        return one_line(exc.message, sent)  # it names classes of others
    if isinstance(exc, errors.ResilienceError):
        return one_line(str(exc))
    # An unusable answer is a response too, but its sentences are the model's.
    sentence = None if is_unusable_answer(exc) else _provider_sentence(evidence, body)
    # A sentence of control characters alone leaves nothing to show.
    return (one_line(sentence, sent) if sentence else "") or _stock_message(category, evidence)


def one_line(text: str, sent: SentText | None = None) -> str:
    """Return *text* on one line, at most `MESSAGE_LIMIT` characters: redacted, without echo, hidden characters and lone surrogates.

    Args:
        text: any text.
        sent: what was sent; None where that is unknown.
    """
    line = _without_content(text, sent)
    if not (line.isascii() and line.isprintable()):
        line = _BREAKS.sub(" ", _HIDDEN.sub("", line))
    line = " ".join(line.split())
    return line if len(line) <= MESSAGE_LIMIT else f"{line[: MESSAGE_LIMIT - 1]}…"


def _without_content(text: str, sent: SentText | None) -> str:
    """Return the beginning of *text*, redacted and without what it repeats of what was sent.

    Both see more than is returned, so that neither a key nor a word at the cut is left in half.
    """
    # A lone surrogate cannot be written to UTF-8 files or databases; UTF-16 turns it into the replacement character.
    beginning = text[: _MAX_REDACTED * 2]
    if not beginning.isascii():
        beginning = beginning.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    redacted = cut(beginning, _MAX_REDACTED, redact_whole)
    if sent is None:
        return redacted
    if len(text) > _MAX_REDACTED:
        redacted = redacted[:-_LONGEST_WORD].rpartition(" ")[0]
    return sent.without_echo(redacted)


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
    exc, sent = evidence.exception, evidence.sent
    details = [
        "" if evidence.status is None else f"HTTP {evidence.status}",
        "" if exc is None else safe_class_name(exc, sent),
        _mismatch(exc, sent),
        one_line(text_of(get_attribute(exc, "strerror")), sent)[:100] if isinstance(exc, OSError) else "",
    ]
    listed = ", ".join(filter(None, details))
    stock = CATEGORY_RULES[category].message
    return one_line(f"{stock} ({listed})" if listed else stock)


def _mismatch(exc: BaseException | None, sent: SentText | None) -> str:
    """Return how an answer does not fit its type, without its values."""
    if exc is None or not is_unusable_answer(exc):
        return ""
    if is_pydantic(exc):
        return one_line(text_of(get_attribute(exc, "title")), sent)[:60].strip()
    lowered = text_of(get_attribute(exc, "message")).lower()
    return next((phrase for phrase in _MISMATCHES if phrase in lowered), "")
