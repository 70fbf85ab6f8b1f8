"""Decides the category of a failure: evidence first, words last.

The ranks, highest first; the first that says anything decides:

1. exceptions of ours, cancellations, and answers that arrived but cannot be used: no other evidence can change them;
2. classes of transport faults and of the caller's own mistakes, where no server responded;
3. what BAML's Collector saw: no request was built, or nothing was sent;
4. the response body: decisive codes, then sentences, then firm codes. Providers send wrong statuses (billing as 429,
   throttling as 400), so their own words outrank the status;
5. the status of the response, or a status that the body names;
6. weak codes, the finish reason of an answer, the class of the exception, and at last keywords of its text.

Text is last because a prompt or an answer may be quoted in it: "rate limit" in a prompt is not a rate limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from resilience import errors
from resilience.failure import codes, exceptions, message_rules
from resilience.failure.body import ResponseBody, unwrap
from resilience.failure.evidence import complete, evidence_of, searchable_text
from resilience.failure.finish_reasons import category_of_reason, finish_error, reports_failure
from resilience.failure.message import message_of
from resilience.failure.retry_after import stated_delay
from resilience.failure.statuses import category_of_status
from resilience.failure.taxonomy import CATEGORY_RULES, Evidence, Failure
from resilience.failure.taxonomy import ErrorCategory as Category
from resilience.redaction import redact_secrets

_NO_COOLDOWN: Final = frozenset({409, 425})
"""Statuses of one request in conflict with another: retried like a rate limit, but no reason to stop other calls."""
_THROTTLED: Final = frozenset({None, 429, 503, 529})
"""Statuses with which an exhausted rate-limit window may be the cause, so that its reset is a wait."""
_ID_HEADERS: Final = (
    "x-request-id",
    "request-id",
    "x-amzn-requestid",
    "apim-request-id",
    "x-oai-request-id",
    "cf-ray",
)
_ID_FIELDS: Final = ("request_id", "requestId", "requestID")
_NO_CODES: Final = frozenset({"error", "none", "failed"})
"""Words in the place of a code that only say that this is an error."""
_TOKEN: Final = re.compile(r"[A-Za-z_]{6,60}")
_MAX_TOKENS: Final = 400
_CLOUDFLARE_LINE: Final = "error code: "


@dataclass(frozen=True, slots=True)
class _Case:
    """Everything that is known about one failure.

    Attributes:
        evidence: what the attempt left behind.
        body: the unwrapped response body, or the unwrapped text of the exception.
        status: the status of the response; None without one and for a status of success.
        codes: the provider's codes, the most telling first.
        text: the normalised text that sentence rules search.
        delay: the wait that the provider stated, in seconds.
    """

    evidence: Evidence
    body: ResponseBody
    status: int | None
    codes: tuple[str, ...]
    text: str
    delay: float | None


def classify(exc: BaseException, *, evidence: Evidence | None = None, now: float | None = None) -> Failure:
    """Classify *exc*. Never raises, whatever the exception does when it is read.

    Args:
        exc: any exception. Its class is recognised by name, so no library has to be installed.
        evidence: what the attempt left behind; None for what the exception itself carries.
        now: epoch seconds, the start of waits that end at an absolute date. The `date` header of the response outranks
            it. Without either, such dates state no wait.

    Returns:
        The failure. Its message holds no prompt, no output and no key.
    """
    try:
        return classify_evidence(
            evidence_of(exc) if evidence is None else replace(evidence, exception=exc), now
        )
    except Exception:  # noqa: BLE001 - an exception raised here would replace the caller's own
        return _failure(
            Category.UNKNOWN, message="an error that cannot be read", exception_type=type(exc).__name__
        )


def classify_evidence(evidence: Evidence, now: float | None = None) -> Failure:
    """Classify *evidence*.

    Args:
        evidence: what an attempt left behind, with or without its exception.
        now: epoch seconds, as for `classify`.

    Returns:
        The failure. Its message holds no prompt, no output and no key.
    """
    case = _case(complete(evidence), now)
    category, code = _categorize(case)
    rules = CATEGORY_RULES[category]
    exc = case.evidence.exception
    should_retry = _flag(case.evidence.headers.get("x-should-retry"))
    failure = _failure(
        category,
        retry_after=case.delay if rules.honors_retry_after else None,
        status=case.evidence.status,
        provider_code=code if code in case.codes else _provider_code(case),
        provider_request_id=_request_id(case.evidence.headers, case.body),
        message=message_of(category, case.evidence, case.body),
        exception_type="" if exc is None else type(exc).__name__,
        should_retry=should_retry,
        starts_cooldown=rules.cooldown is not None and case.status not in _NO_COOLDOWN,
    )
    if should_retry is False or (category is Category.NETWORK and _is_permanent(case)):
        failure = replace(failure, recoverable=False)
    if isinstance(exc, errors.CircuitOpenError | errors.AllClientsFailedError):  # they carry their own wait
        return replace(failure, retry_after=exc.retry_after)
    return failure


def _failure(category: Category, *, message: str, exception_type: str, **fields: object) -> Failure:
    rules = CATEGORY_RULES[category]
    return Failure(
        category=category,
        recoverable=rules.recoverable,
        counts_against_client=rules.counts_as_failure,
        message=message,
        exception_type=exception_type,
        **fields,  # type: ignore[arg-type]  # fields of Failure, passed by this module alone
    )


# --- what is known --------------------------------------------------------------------------------------------------


def _case(evidence: Evidence, now: float | None) -> _Case:
    succeeded = evidence.status is not None and 200 <= evidence.status < 300  # noqa: PLR2004 - RFC 9110, 15.3
    body = unwrap(evidence.body or searchable_text(evidence.exception))
    # botocore writes its code into prose: "An error occurred (ThrottlingException) when calling ...".
    in_body = body.codes or tuple(token for token in _tokens(body.prose) if token.endswith("Exception"))
    return _Case(
        evidence=evidence,
        body=body,
        status=None if succeeded else evidence.status,
        codes=tuple(filter(None, (evidence.headers.get("x-amzn-errortype"), *in_body))),
        text=_rule_text(evidence, body),
        delay=stated_delay(evidence.headers, body, now, throttled=evidence.status in _THROTTLED),
    )


def _rule_text(evidence: Evidence, body: ResponseBody) -> str:
    """Return what sentence rules search. The text of a completion is the model's and says nothing about a failure."""
    if body.answer is not None and evidence.status is not None:
        return message_rules.normalize("\n".join(body.messages))
    return message_rules.normalize(body.text)


def _tokens(text: str) -> list[str]:
    """Return the class names and codes in prose: an underscore or a capital inside tells them from plain words."""
    tokens = (token[0] for token in _TOKEN.finditer(text[:8000]))
    return [
        token
        for _, token in zip(range(_MAX_TOKENS), tokens, strict=False)
        if "_" in token or not token[1:].islower()
    ]


# --- the ranks of evidence ------------------------------------------------------------------------------------------


def _categorize(case: _Case) -> tuple[Category, str | None]:
    """Return the category, and the code that decided it where one did. The ranks are those of the module's docstring."""
    exc = case.evidence.exception
    if exc is not None and (category := exceptions.conclusive_category(exc)) is not None:
        return category, None
    if exceptions.is_unusable_answer(exc):
        return _from_unusable_answer(case)
    no_response = not (case.evidence.body or case.evidence.status)
    if exc is not None and no_response and exceptions.class_outranks_text(exc):
        return _from_class(case) or Category.UNKNOWN, None
    if case.evidence.configuration:
        return Category.INVALID_REQUEST, None
    if case.evidence.connected is False:
        return (exceptions.category_of_class(exc) if exc is not None else None) or Category.NETWORK, None
    return _from_body(case) or (_from_status(case), None)


def _from_unusable_answer(case: _Case) -> tuple[Category, str | None]:
    """Return why an answer cannot be used: its finish reason, else the error that the provider put into a success."""
    category = _finish_category(case)
    if category is None and reports_failure(case.evidence.body):
        return _from_body(case) or (Category.SERVER_ERROR, None)
    return category or Category.OUTPUT_INVALID, None


def _from_body(case: _Case) -> tuple[Category, str | None] | None:
    """Return what the provider's words say: decisive codes, sentences, firm codes; None if they say nothing."""
    names = (*case.codes, *exceptions.library_class_names(case.evidence.exception))
    decisive = codes.category_of_codes(names, codes.DECISIVE)
    if decisive is not None:
        return decisive
    category = message_rules.category_of_message(case.text, case.status)
    firm = codes.category_of_codes(names, codes.FIRM)
    if category is not None:
        return category, firm[1] if firm is not None and firm[0] is category else None
    # "not found" under 401 or 403 hides whether the model exists from those who may not use it.
    if firm is not None and not (firm[0] is Category.NOT_FOUND and case.status in {401, 403}):
        return firm
    if message_rules.mentions_current_quota(case.text):
        temporary = case.delay is not None or codes.names_a_window(case.codes)
        return Category.RATE_LIMIT if temporary else Category.QUOTA_EXHAUSTED, None
    return None


def _from_status(case: _Case) -> Category:
    """Return what the status says, or the status that the body names; without any, what weaker evidence says."""
    for status in (case.status, case.body.status, _cloudflare_status(case.body)):
        if status is not None:
            unreachable = _is_gateway_page(status, case.body)
            return Category.SERVICE_UNAVAILABLE if unreachable else category_of_status(status)
    weak = codes.category_of_codes(case.codes, codes.WEAK)
    if weak is not None and weak[0] is not Category.CANCELLED:
        return weak[0]
    return _finish_category(case) or _from_class(case) or Category.UNKNOWN


def _finish_category(case: _Case) -> Category | None:
    """Return what is wrong with the answer, where one arrived."""
    category = category_of_reason(case.evidence.finish_reason)
    if category is not None or case.body.answer is None:
        return category
    return finish_error(case.body.answer)


def _from_class(case: _Case) -> Category | None:
    """Return what the class of the exception says, then what keywords of its text say.

    Some classes stand for a refused connection and for a silent one: requests' ConnectionError, BAML's transport errors,
    and aiohttp's ClientConnectorError, whose text is the operating system's in its own language. Keywords tell them apart.
    """
    exc = case.evidence.exception
    category = None if exc is None else exceptions.category_of_class(exc)
    keywords = message_rules.category_of_keywords(case.text)
    if category is Category.NETWORK and keywords is Category.TIMEOUT:
        return Category.TIMEOUT
    if category is not None or keywords is not None:
        return category or keywords
    code = codes.category_of_codes(_tokens(case.body.text), codes.DECISIVE, codes.FIRM, codes.WEAK)
    if code is not None:
        return code[0]
    return None if case.evidence.status is None else Category.NETWORK  # a 200 that is not the protocol


def _is_permanent(case: _Case) -> bool:
    """Return whether a network failure lies in a certificate, which no retry changes."""
    text = f"{case.text} {message_rules.normalize(searchable_text(case.evidence.exception))}"
    return message_rules.is_permanent(text)


def _is_gateway_page(status: int, body: ResponseBody) -> bool:
    """Return whether a 502 is the page of a gateway that found no server behind it. Providers themselves send JSON."""
    return status == HTTPStatus.BAD_GATEWAY and bool(body.prose) and not body.objects


def _cloudflare_status(body: ResponseBody) -> int | None:
    """Return the status of Cloudflare's short page, which is the line "error code: 522" and nothing else."""
    for line in (*body.messages, body.prose.strip()):
        number = line.removeprefix(_CLOUDFLARE_LINE)
        if number != line and len(number) == len("522") and number.isascii() and number.isdigit():
            return int(number)
    return None


# --- fields of the failure ------------------------------------------------------------------------------------------


def _flag(value: str | None) -> bool | None:
    return {"true": True, "false": False}.get((value or "").strip().lower())


def _provider_code(case: _Case) -> str | None:
    """Return the first code that is more than a number or a word for "error".

    Without a response a token is a word of an exception's text, and may be the prompt's.
    """
    if not (case.evidence.body or case.status):
        return None
    telling = (code for code in case.codes if code.lower() not in _NO_CODES and not code.isdigit())
    return next(map(redact_secrets, telling), None)


def _request_id(headers: Mapping[str, str], body: ResponseBody) -> str | None:
    for name in _ID_HEADERS:
        if headers.get(name):
            return redact_secrets(headers[name][:200])
    ids = (entry.get(name) for entry in body.objects for name in _ID_FIELDS)
    return next((redact_secrets(value[:200]) for value in ids if isinstance(value, str) and value), None)
