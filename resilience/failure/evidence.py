"""Gathers evidence from an exception by its shape: status, headers and body, where each library keeps them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

from resilience import errors
from resilience.failure import literals
from resilience.failure.exceptions import (
    chain,
    conclusive_category,
    is_baml,
    is_configuration_error,
    is_unusable_answer,
)
from resilience.failure.safe_access import MAX_TEXT, bounded, get_attribute, mapping_of, text_of
from resilience.failure.taxonomy import Evidence

BAML_INVENTED_STATUS: Final = 503
"""The status BAML makes up for a refused connection or an unknown host, where nothing was sent.

Read naively, a wrong host name looks like an outage of the provider. BAML's 2 stands for every other fault without a
response; it is below `_STATUSES` and therefore never taken for a status.
"""

_MAX_HEADERS = 100
_STATUSES = range(100, 600)

# A BamlClientHttpError looks alike with and without a response; these marks of its message tell them apart. With a
# response the status line and the provider's body follow; some versions print the whole Rust struct instead.
_RESPONSE_MARK = "Request failed with status code"
_RUST_DUMP = "LLMErrorResponse {"
_RUST_DUMP_MESSAGE = 'message: "'
_TRANSPORT_MARK = "reqwest::Error"
# An error that Bedrock sends inside a stream reaches us as the debug text of the AWS SDK alone.
_AWS_DUMP = re.compile(r"\bServiceError \{\s+source: (\w{1,80})\(")
_AWS_DISPATCH = "DispatchFailure {"
_AWS_DISPATCH_MESSAGE = 'message: "'
_AWS_MESSAGE = re.compile(r'\bmessage: Some\(\s*"((?:[^"\\]|\\.){0,2000}+)')
_STATUS_LINE = re.compile(r"(?:^|: )Request failed with status code: \d{3}[^.\n]{0,60}\. ?")


def evidence_of(exc: BaseException) -> Evidence:
    """Return the evidence that *exc*, or what it was raised from, carries. Never raises.

    Known shapes: BAML; httpx, requests, openai, anthropic and the like (`status_code`, `response`, `body`); aiohttp
    (`status`, `headers`); botocore (`response` is a mapping); Google (`code`, `details`); urllib (`code`, `headers`).
    """
    with_response = next(filter(_has_response, map(_evidence_of_one, chain(exc))), None)
    first = _evidence_of_one(exc) if with_response is None else with_response
    return replace(first, exception=exc)


def complete(evidence: Evidence) -> Evidence:
    """Fill what *evidence* leaves open from its exception. What was really observed is never replaced."""
    exc = evidence.exception
    if exc is None:
        return evidence
    own = evidence_of(exc)
    # The Collector saw the wire. Once it saw anything, the exception's own status may be one that BAML made up.
    observed = evidence.status is not None or bool(evidence.headers) or evidence.connected is not None
    return replace(
        evidence,
        status=evidence.status if observed else own.status,
        headers=_headers(evidence.headers) or own.headers,
        # Of a stream of Bedrock the Collector has an empty body; what the exception tells is more.
        body=text_of(evidence.body) if evidence.body else own.body,
        finish_reason=evidence.finish_reason or own.finish_reason,
        configuration=evidence.configuration or own.configuration,
        connected=evidence.connected if observed else own.connected,
    )


def searchable_text(exc: BaseException | None) -> str:
    """Return the texts of *exc* and its causes that rules may search, one a line.

    Texts that quote the prompt or the answer are left out: a prompt about "rate limits" must not look like one.
    """
    if exc is None:
        return ""
    return "\n".join(filter(None, map(_searchable_text_of_one, chain(exc))))


def _has_response(evidence: Evidence) -> bool:
    return evidence.status is not None or evidence.body is not None


def _evidence_of_one(exc: BaseException) -> Evidence:
    if conclusive_category(exc) is not None:
        return Evidence(exception=exc)
    if is_baml(exc):
        return _evidence_of_baml(exc)
    response = get_attribute(exc, "response")
    if isinstance(response, Mapping):
        return _evidence_of_botocore(exc, response)
    headers = get_attribute(response, "headers") or get_attribute(exc, "headers")
    status = _status(exc) or _status(response)
    return Evidence(
        exception=exc,
        status=status,
        headers=_headers(headers),
        body=_to_text(_body_of_stream_error(exc)) if status is None else _body(exc, response),
        finish_reason=text_of(get_attribute(exc, "finish_reason")) or None,
    )


def _evidence_of_baml(exc: BaseException) -> Evidence:
    """Tell a real status from an invented one by the message: a real one is followed by the provider's body."""
    status = _integer(get_attribute(exc, "status_code"))
    text = text_of(get_attribute(exc, "message") or exc)
    has_response = _RESPONSE_MARK in text or (_RUST_DUMP in text and _TRANSPORT_MARK not in text)
    # Bedrock's streams make up 500 where others have 2; it says nothing about whether the request was sent.
    is_unanswered = not has_response and _TRANSPORT_MARK in text
    real = status is not None and status in _STATUSES and not is_unanswered
    return Evidence(
        exception=exc,
        status=status if real else None,
        body=_body_of_aws_dump(text),
        finish_reason=text_of(get_attribute(exc, "finish_reason")) or None,
        configuration=is_configuration_error(exc),
        connected=False if is_unanswered and status == BAML_INVENTED_STATUS else None,
    )


def _body_of_aws_dump(text: str) -> str | None:
    """Return the code and the message in the debug text of an AWS error as a body; None for any other text."""
    name = _AWS_DUMP.search(text)
    if name is None:
        return None
    message = _AWS_MESSAGE.search(text, name.end())
    return json.dumps({"code": name[1], "message": literals.unescape(message[1]) if message else ""})


def _evidence_of_botocore(exc: BaseException, response: Mapping[object, object]) -> Evidence:
    metadata = mapping_of(response.get("ResponseMetadata"))
    error = mapping_of(response.get("Error"))
    body = {"code": text_of(error.get("Code")), "message": text_of(error.get("Message"))}
    return Evidence(
        exception=exc,
        status=_integer(metadata.get("HTTPStatusCode")),
        headers=_headers(metadata.get("HTTPHeaders")),
        body=json.dumps(body) if error else None,
    )


def _status(source: object) -> int | None:
    """Return the HTTP status that an exception or a response carries, under the names that libraries use."""
    for name in ("status_code", "status", "http_status", "code"):
        value = get_attribute(source, name)
        if name == "code" and callable(value):
            continue  # grpc: a method that returns an enum, whose name is a code and not a status
        status = _integer(value)
        if status is not None and status in _STATUSES:
            return status
    return None


def _integer(value: object) -> int | None:
    """Return *value* if it is an int, an `HTTPStatus` included; None for a bool and anything else."""
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _headers(headers: object) -> dict[str, str]:
    """Return *headers* with lower-case names. httpx, aiohttp and requests each have a mapping of their own."""
    with suppress(BaseException):  # a foreign mapping may raise anything
        return dict(_header_pairs(headers))
    return {}


def _header_pairs(headers: object) -> Iterator[tuple[str, str]]:
    items = get_attribute(headers, "items")
    if not callable(items):
        return
    for _, (name, value) in zip(range(_MAX_HEADERS), items(), strict=False):
        yield text_of(name).lower()[:100], text_of(value)[:2000]


def _body_of_stream_error(exc: BaseException) -> object:
    """Return the parsed error object of a stream, which openai and anthropic put into `body`.

    Without a status a *text* in `body` may be anything, the prompt included, and is not taken.
    """
    body = get_attribute(exc, "body")
    return body if isinstance(body, Mapping) else None


def _body(exc: BaseException, response: object) -> str | None:
    """Return the response body: of the exception, where the library has parsed it, or of its response."""
    for source, names in ((exc, ("body", "details", "error")), (response, ("text", "content"))):
        for name in names:
            text = _to_text(get_attribute(source, name))
            if text:
                return text
    return None


def _to_text(value: object) -> str | None:
    """Return *value* as text; a body that was already parsed is serialised again."""
    if isinstance(value, str | bytes):
        return text_of(value)
    if not isinstance(value, Mapping | list) or not value:
        return None
    with suppress(BaseException):  # a foreign mapping may raise anything
        return json.dumps(bounded(value))[:MAX_TEXT]
    return None


def _searchable_text_of_one(exc: BaseException) -> str:
    # BAML's validation and configuration errors quote the answer or the arguments. Ours name a category, which must not be
    # read as a provider's word.
    if is_unusable_answer(exc) or is_configuration_error(exc) or isinstance(exc, errors.ResilienceError):
        return ""
    text = text_of(get_attribute(exc, "message") or exc) if is_baml(exc) else text_of(exc)
    if _RUST_DUMP in text:  # the dump quotes the prompt; the provider's message is its last field
        _, mark, text = text.rpartition(_RUST_DUMP_MESSAGE)
        return literals.unescape(text) if mark else ""
    if _AWS_DISPATCH in text:  # the outer messages are placeholders; the innermost is the operating system's
        return text.rpartition(_AWS_DISPATCH_MESSAGE)[2]
    return _STATUS_LINE.sub("", text, count=1)
