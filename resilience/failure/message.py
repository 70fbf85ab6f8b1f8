"""One line for people about a failure: the provider's own sentence where there is one, and never the prompt or the answer."""

from __future__ import annotations

import re

from resilience import errors
from resilience.failure.body import ResponseBody
from resilience.failure.exceptions import is_pydantic, unusable
from resilience.failure.safe_access import peek, text_of
from resilience.failure.taxonomy import ErrorCategory as Kind
from resilience.failure.taxonomy import Evidence
from resilience.redaction import MESSAGE_LIMIT, redact

_LOOKED_AT = 2000
_BREAKS = re.compile(r"[\s\x00-\x1f\x7f]+")
_GENERIC = frozenset(
    {"provider returned error", "error", "bad request", "internal server error", "an error occurred"}
)

_STOCK = {
    Kind.TIMEOUT: "no answer in time",
    Kind.RATE_LIMIT: "too many requests",
    Kind.SERVICE_UNAVAILABLE: "the provider is not available",
    Kind.OVERLOADED: "the provider is overloaded",
    Kind.SERVER_ERROR: "the provider failed",
    Kind.NETWORK: "the connection failed",
    Kind.OUTPUT_INVALID: "the answer does not fit what the function promises",
    Kind.OUTPUT_TRUNCATED: "the answer was cut at the token limit",
    Kind.INVALID_REQUEST: "the request or its configuration is wrong",
    Kind.CONTEXT_LENGTH: "the request is too long for this client",
    Kind.CONTENT_POLICY: "refused by the provider's content filter",
    Kind.AUTHENTICATION: "the credentials were refused",
    Kind.PERMISSION: "not permitted",
    Kind.NOT_FOUND: "no such model or deployment",
    Kind.QUOTA_EXHAUSTED: "the account's quota or credit is used up",
    Kind.CIRCUIT_OPEN: "the client is not being asked",
    Kind.CANCELLED: "cancelled",
    Kind.UNKNOWN: "an error of unknown kind",
}

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
"""What BAML's parser complains of, in words that hold nothing of the answer."""


def message_of(kind: Kind, evidence: Evidence, told: ResponseBody) -> str:
    """The line. A text of ours names category, class and status; the provider's own sentence is redacted and cut."""
    exc = evidence.exception
    if isinstance(exc, errors.ResilienceError):
        return one_line(exc.message if isinstance(exc, errors.AllClientsFailedError) else str(exc))
    said = None if unusable(exc) else _said(evidence, told)
    return one_line(said) if said else _stock(kind, evidence)


def one_line(text: str) -> str:
    """*text* redacted, on one line, without lone surrogates, at most 300 characters."""
    safe = redact(text[:_LOOKED_AT].encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    line = _BREAKS.sub(" ", safe).strip()
    return line if len(line) <= MESSAGE_LIMIT else f"{line[: MESSAGE_LIMIT - 1]}…"


def _said(evidence: Evidence, told: ResponseBody) -> str | None:
    """The provider's sentence. The text of an exception is trusted to quote one only where a provider did answer."""
    failed = evidence.status is not None and evidence.status >= 400  # noqa: PLR2004 - RFC 9110, 15.5
    if not evidence.body and not (failed and told.objects):
        return None
    sentences = [sentence for sentence in told.messages if sentence.lower().rstrip(".") not in _GENERIC]
    if sentences or told.messages:
        return (sentences or list(told.messages))[0]
    if told.title is not None:
        return told.title
    return told.prose.strip() if failed and not told.objects else None


def _stock(kind: Kind, evidence: Evidence) -> str:
    exc = evidence.exception
    details = [
        "" if evidence.status is None else f"HTTP {evidence.status}",
        "" if exc is None else type(exc).__name__,
        _mismatch(exc),
        text_of(peek(exc, "strerror"))[:100] if isinstance(exc, OSError) else "",
    ]
    told = ", ".join(filter(None, details))
    return one_line(f"{_STOCK[kind]} ({told})" if told else _STOCK[kind])


def _mismatch(exc: BaseException | None) -> str:
    """The kind of a mismatch without its values."""
    if exc is None or not unusable(exc):
        return ""
    if is_pydantic(exc):
        return f"{text_of(peek(exc, 'title'))[:60]}".strip()
    lowered = text_of(peek(exc, "message")).lower()
    return next((phrase for phrase in _MISMATCHES if phrase in lowered), "")
