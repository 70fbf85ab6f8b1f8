"""Gathers evidence from an exception by its shape: status, headers and body, as each library carries them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from resilience import errors
from resilience.failure import literals
from resilience.failure.exceptions import chain, configuration, decided, fields, is_baml, unusable
from resilience.failure.safe_access import LONGEST, peek, text_of
from resilience.failure.taxonomy import Evidence

_HEADERS = 100
_INVENTED = 503
"""BAML's status for a connection it never had; 2 stands for everything else that was no answer."""
_STATUSES = range(100, 600)
_DUMP = "LLMErrorResponse {"
_DUMPED = 'message: "'
_ANSWERED = "Request failed with status code"
_NAMED = re.compile(r"(?:^|: )Request failed with status code: \d{3}[^.\n]{0,60}\. ?")


def evidence_of(exc: BaseException) -> Evidence:
    """Build Evidence from what *exc*, or what it was raised from, carries. Never raises.

    Known shapes: BAML; httpx, requests, openai, anthropic and their kin (`status_code`, `response`, `body`); aiohttp
    (`status`, `headers`); botocore (`response` is a mapping); Google (`code`, `details`); urllib (`code`, `headers`).
    """
    found = next(filter(_tells, map(_of_one, chain(exc))), None)
    first = _of_one(exc) if found is None else found
    return replace(first, exception=exc)


def complete(evidence: Evidence) -> Evidence:
    """Fill what *evidence* leaves open from its exception; what was really observed is never replaced."""
    exc = evidence.exception
    if exc is None:
        return evidence
    own = evidence_of(exc)
    observed = evidence.status is not None or bool(evidence.headers) or evidence.connected is not None
    return replace(
        evidence,
        status=evidence.status if observed else own.status,
        headers=_plain(evidence.headers) or own.headers,
        body=own.body if evidence.body is None else text_of(evidence.body),
        finish_reason=evidence.finish_reason or own.finish_reason,
        configuration=evidence.configuration or own.configuration,
        connected=evidence.connected if observed else own.connected,
    )


def spoken(exc: BaseException | None) -> str:
    """The texts of *exc* and its causes that rules may look at: never those that quote the prompt or the answer."""
    if exc is None:
        return ""
    return "\n".join(filter(None, map(_speech, chain(exc))))


def _tells(evidence: Evidence) -> bool:
    return evidence.status is not None or evidence.body is not None


def _of_one(exc: BaseException) -> Evidence:
    if decided(exc) is not None:
        return Evidence(exception=exc)
    if is_baml(exc):
        return _of_baml(exc)
    response = peek(exc, "response")
    if isinstance(response, Mapping):
        return _of_botocore(exc, response)
    carried = peek(response, "headers") or peek(exc, "headers")
    status = _status(exc) or _status(response)
    return Evidence(
        exception=exc,
        status=status,
        headers=_plain(carried),
        body=_written(_parsed(exc)) if status is None else _body(exc, response),
        finish_reason=text_of(peek(exc, "finish_reason")) or None,
    )


def _of_baml(exc: BaseException) -> Evidence:
    """A real answer is told from an invented status by its message: BAML puts the body behind the status line."""
    status = _whole(peek(exc, "status_code"))
    text = text_of(peek(exc, "message") or exc)
    answered = _ANSWERED in text or (_DUMP in text and "reqwest::Error" not in text)
    invented = status == _INVENTED and not answered and "reqwest::Error" in text
    real = status is not None and status in _STATUSES and not invented
    return Evidence(
        exception=exc,
        status=status if real else None,
        finish_reason=text_of(peek(exc, "finish_reason")) or None,
        configuration=configuration(exc),
        connected=False if invented else None,
    )


def _of_botocore(exc: BaseException, response: Mapping[object, object]) -> Evidence:
    meta = fields(response.get("ResponseMetadata"))
    error = fields(response.get("Error"))
    told = {"code": text_of(error.get("Code")), "message": text_of(error.get("Message"))}
    return Evidence(
        exception=exc,
        status=_whole(meta.get("HTTPStatusCode")),
        headers=_plain(meta.get("HTTPHeaders")),
        body=json.dumps(told) if error else None,
    )


def _status(source: object) -> int | None:
    for name in ("status_code", "status", "http_status", "code"):
        value = peek(source, name)
        if name == "code" and callable(
            value
        ):  # grpc: a method that gives an enum, whose name is a code, not a status
            continue
        status = _whole(value)
        if status is not None and status in _STATUSES:
            return status
    return None


def _whole(value: object) -> int | None:
    """An int, also an `HTTPStatus`; no flag."""
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _plain(headers: object) -> dict[str, str]:
    """Lower-case names and text, of any mapping-like thing; httpx, aiohttp and requests each have their own."""
    with suppress(Exception):  # foreign mappings may do anything
        return dict(_pairs(headers))
    return {}


def _pairs(headers: object) -> Iterator[tuple[str, str]]:
    items = peek(headers, "items")
    if not callable(items):
        return
    for _, (name, value) in zip(range(_HEADERS), items(), strict=False):
        yield text_of(name).lower()[:100], text_of(value)[:2000]


def _parsed(exc: BaseException) -> object:
    """The body of an error inside a stream: openai and anthropic hand on the object; a text here may be anything."""
    body = peek(exc, "body")
    return body if isinstance(body, Mapping) else None


def _body(exc: BaseException, response: object) -> str | None:
    for source, names in ((exc, ("body", "details", "error")), (response, ("text", "content"))):
        for name in names:
            text = _written(peek(source, name))
            if text:
                return text
    return None


def _written(value: object) -> str | None:
    """A body that was already parsed is written down again; `default=str` never meets a cycle, and json tells of one."""
    if isinstance(value, str | bytes):
        return text_of(value)
    if not isinstance(value, Mapping | list) or not value:
        return None
    with suppress(Exception):  # a cycle, or keys and values that raise
        return json.dumps(value, default=text_of)[:LONGEST]
    return None


def _speech(exc: BaseException) -> str:
    if unusable(exc) or configuration(exc) or isinstance(exc, errors.ResilienceError):
        return ""
    text = text_of(peek(exc, "message") or exc) if is_baml(exc) else text_of(exc)
    if _DUMP in text:  # Rust's dump holds the prompt; its message stands behind it
        _, found, text = text.rpartition(_DUMPED)
        return literals.unescape(text) if found else ""
    return _NAMED.sub("", text, count=1)
