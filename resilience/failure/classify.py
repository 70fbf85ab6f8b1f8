"""Weighs the evidence and names the failure: what was told outranks the status, the status the class, all of them prose."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus

from resilience import errors
from resilience.failure import codes, exceptions, finish_reasons, message_rules
from resilience.failure.body import ResponseBody, unwrap
from resilience.failure.evidence import complete, evidence_of, spoken
from resilience.failure.message import message_of
from resilience.failure.retry_after import stated
from resilience.failure.statuses import of_status
from resilience.failure.taxonomy import CATEGORY_RULES, Evidence, Failure
from resilience.failure.taxonomy import ErrorCategory as Kind
from resilience.redaction import redact_secrets

_WAITS = frozenset(
    {
        Kind.RATE_LIMIT,
        Kind.OVERLOADED,
        Kind.SERVICE_UNAVAILABLE,
        Kind.SERVER_ERROR,
        Kind.TIMEOUT,
        Kind.NETWORK,
    }
) | {Kind.QUOTA_EXHAUSTED, Kind.UNKNOWN}
"""Categories in which waiting can help. A delay beside any other, as in a gateway's "(reset after 23s)" behind a bad
request, makes nothing recoverable and is left out."""

_COOLS = frozenset({Kind.RATE_LIMIT, Kind.AUTHENTICATION, Kind.QUOTA_EXHAUSTED})
_NO_COOLING = frozenset({409, 425})
_IDS = ("x-request-id", "request-id", "x-amzn-requestid", "apim-request-id", "x-oai-request-id", "cf-ray")
_ID_FIELDS = ("request_id", "requestId", "requestID")
_TOKEN = re.compile(r"[A-Za-z_]{6,60}")
_TOKENS = 400
_EDGE = "error code: "


@dataclass(frozen=True, slots=True)
class _Case:
    """Everything that is known of one failure."""

    evidence: Evidence
    told: ResponseBody
    status: int | None
    """The real status, unless it says success."""
    names: tuple[str, ...]
    text: str
    delay: float | None


def classify(exc: BaseException, *, evidence: Evidence | None = None, now: float | None = None) -> Failure:
    """Name the failure that *exc* stands for. Never raises, whatever the exception does.

    Args:
        exc: any exception; its class is looked up by name, so no library need be installed.
        evidence: what the attempt left behind; without it, what the exception itself carries.
        now: epoch seconds, to count absolute dates from where the response has no `date` of its own; without either,
            such dates give no delay.

    Returns:
        The failure, with a message that holds no prompt, no output and no key.
    """
    try:
        return classify_evidence(
            evidence_of(exc) if evidence is None else replace(evidence, exception=exc), now
        )
    except Exception:  # noqa: BLE001 - an error about an error must not replace it; foreign objects can do anything
        return _failure(
            Kind.UNKNOWN, message="an error that cannot be read", exception_type=type(exc).__name__
        )


def classify_evidence(evidence: Evidence, now: float | None = None) -> Failure:
    """Name the failure that *evidence* shows; *now* is epoch seconds, as for `classify`."""
    case = _case(complete(evidence), now)
    kind, name = _weigh(case)
    exc = case.evidence.exception
    should_retry = _flag(case.evidence.headers.get("x-should-retry"))
    failure = _failure(
        kind,
        retry_after=case.delay if kind in _WAITS else None,
        status=case.evidence.status,
        provider_code=name if name in case.names else _code(case),
        provider_request_id=_request_id(case.evidence.headers, case.told),
        message=message_of(kind, case.evidence, case.told),
        exception_type="" if exc is None else type(exc).__name__,
        should_retry=should_retry,
        cools_client=kind in _COOLS and case.status not in _NO_COOLING,
    )
    incurable = kind is Kind.NETWORK and message_rules.permanent(
        f"{case.text} {message_rules.plain(spoken(exc))}"
    )
    if incurable or should_retry is False:
        failure = replace(failure, recoverable=False)
    return _ours(exc, failure)


def _case(evidence: Evidence, now: float | None) -> _Case:
    status = None if evidence.status is not None and 200 <= evidence.status < 300 else evidence.status  # noqa: PLR2004 - RFC 9110, 15.3: success
    told = unwrap(evidence.body or spoken(evidence.exception))
    spelled = told.codes or tuple(token for token in _tokens(told.prose) if token.endswith("Exception"))
    names = tuple(filter(None, (evidence.headers.get("x-amzn-errortype"), *spelled)))
    throttled = evidence.status in {None, 429, 529, 503}
    return _Case(
        evidence=evidence,
        told=told,
        status=status,
        names=names,
        text=_rule_text(evidence, told),
        delay=stated(evidence.headers, told, now, throttled=throttled),
    )


def _rule_text(evidence: Evidence, told: ResponseBody) -> str:
    """What sentence rules look at. A completion's own words are the model's and say nothing of a failure."""
    if told.answer is not None and evidence.status is not None:
        return message_rules.plain("\n".join(told.messages))
    return message_rules.plain(told.text)


def _weigh(case: _Case) -> tuple[Kind, str | None]:
    """The order of evidence."""
    exc = case.evidence.exception
    if exc is not None and (kind := exceptions.decided(exc)) is not None:
        return kind, None
    if exceptions.unusable(exc):
        return _of_answer(case), None
    if exc is not None and not (case.evidence.body or case.evidence.status) and exceptions.settled(exc):
        return _by_class(case) or Kind.UNKNOWN, None
    if case.evidence.configuration:
        return Kind.INVALID_REQUEST, None
    if case.evidence.connected is False:
        return (exceptions.kind_of(exc) if exc is not None else None) or Kind.NETWORK, None
    return _told(case) or (_untold(case), None)


def _of_answer(case: _Case) -> Kind:
    ended = exceptions.finished(case.evidence.finish_reason)
    return (
        ended
        or (finish_reasons.spoiled(case.told.answer) if case.told.answer else None)
        or Kind.OUTPUT_INVALID
    )


def _told(case: _Case) -> tuple[Kind, str | None] | None:
    """What the provider said: unmistakable codes, sentences, firm codes."""
    names = (*case.names, *exceptions.names(case.evidence.exception))
    found = codes.meaning(names, codes.DECISIVE)
    if found is not None:
        return found
    kind = message_rules.overrules(case.text, case.status)
    firm = codes.meaning(names, codes.FIRM)
    if kind is not None:
        return kind, firm[1] if firm is not None and firm[0] is kind else None
    if firm is not None and not (firm[0] is Kind.NOT_FOUND and case.status in {401, 403}):
        return firm
    if message_rules.current_quota(case.text):
        passing = case.delay is not None or codes.metered(case.names)
        return Kind.RATE_LIMIT if passing else Kind.QUOTA_EXHAUSTED, None
    return None


def _untold(case: _Case) -> Kind:
    """The status, or the one the body names; the weak codes; the answer; the class; keywords."""
    for status in (case.status, case.told.status, _edge_status(case.told)):
        if status is not None:
            return Kind.SERVICE_UNAVAILABLE if _from_edge(status, case.told) else of_status(status)
    weak = codes.meaning(case.names, codes.WEAK)
    if weak is not None and weak[0] is not Kind.CANCELLED:
        return weak[0]
    return _arrived(case) or _by_class(case) or Kind.UNKNOWN


def _arrived(case: _Case) -> Kind | None:
    """An answer did arrive; what is wrong with it?"""
    ended = exceptions.finished(case.evidence.finish_reason)
    if ended is not None or case.told.answer is None:
        return ended
    return finish_reasons.spoiled(case.told.answer)


def _by_class(case: _Case) -> Kind | None:
    """The exception's class, then keywords.

    Some classes stand for both kinds of silence: requests' ConnectionError, BAML's transport errors, and aiohttp's
    ClientConnectorError with the operating system's text in its own language.
    """
    exc = case.evidence.exception
    kind = None if exc is None else exceptions.kind_of(exc)
    if kind is Kind.NETWORK and message_rules.hints(case.text) is Kind.TIMEOUT:
        return Kind.TIMEOUT
    if kind is not None:
        return kind
    named = codes.meaning(_tokens(case.told.text), codes.DECISIVE, codes.FIRM, codes.WEAK)
    if kind := message_rules.hints(case.text) or (None if named is None else named[0]):
        return kind
    return None if case.evidence.status is None else Kind.NETWORK  # a 200 that is not the protocol


def _tokens(text: str) -> list[str]:
    """Names of classes and codes in prose: with an underscore or a capital inside, so that plain words are none."""
    found = (token[0] for token in _TOKEN.finditer(text[:8000]))
    return [
        token
        for _, token in zip(range(_TOKENS), found, strict=False)
        if "_" in token or not token[1:].islower()
    ]


def _from_edge(status: int, told: ResponseBody) -> bool:
    """A 502 whose body is no object is the page of an edge that found nobody behind it; providers answer in JSON."""
    return status == HTTPStatus.BAD_GATEWAY and bool(told.prose) and not told.objects


def _edge_status(told: ResponseBody) -> int | None:
    """Cloudflare's short page is this line and nothing else."""
    for line in (*told.messages, told.prose.strip()):
        number = line.removeprefix(_EDGE)
        if number != line and len(number) == len("522") and number.isascii() and number.isdigit():
            return int(number)
    return None


def _ours(exc: BaseException | None, failure: Failure) -> Failure:
    """Our own refusals carry their wait."""
    if isinstance(exc, errors.CircuitOpenError | errors.AllClientsFailedError):
        return replace(failure, retry_after=exc.retry_after)
    return failure


def _failure(kind: Kind, *, message: str, exception_type: str, **more: object) -> Failure:
    traits = CATEGORY_RULES[kind]
    return Failure(
        category=kind,
        recoverable=traits.recoverable,
        counts_against_client=traits.counts_as_failure,
        message=message,
        exception_type=exception_type,
        **more,  # type: ignore[arg-type]  # the names are Failure's own, given only by judge
    )


def _flag(value: str | None) -> bool | None:
    return {"true": True, "false": False}.get((value or "").strip().lower())


def _code(case: _Case) -> str | None:
    """The first name that is one: not a number, and not the word that only says that this is an error.

    Where no provider answered, a name nobody knows is a word of an exception's text, and that may be the prompt's.
    """
    if not (case.evidence.body or case.status):
        return None
    no_codes = {"error", "none", "failed"}
    found = (name for name in case.names if name.lower() not in no_codes and not name.isdigit())
    return next(map(redact_secrets, found), None)


def _request_id(headers: Mapping[str, str], told: ResponseBody) -> str | None:
    for name in _IDS:
        if headers.get(name):
            return redact_secrets(headers[name][:200])
    found = (entry.get(name) for entry in told.objects for name in _ID_FIELDS)
    return next((redact_secrets(value[:200]) for value in found if isinstance(value, str) and value), None)
