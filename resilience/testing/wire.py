"""Turns a behaviour into bytes: what is sent for it, and how the connection ends. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache, singledispatch
from http import HTTPStatus
from typing import Any

from resilience.testing import answers
from resilience.testing.answer_bodies import answer_body
from resilience.testing.behaviours import (
    Answer,
    Behaviour,
    Empty,
    ErrorInBody,
    Finish,
    Hang,
    Malformed,
    Reset,
    Status,
    Stream,
    Truncate,
    When,
    WrongSchema,
)
from resilience.testing.dialects import Dialect
from resilience.testing.provider_errors import ErrorKind, error_body, error_headers, states_wait_in_body
from resilience.testing.reply import BODILESS, End, Reply
from resilience.testing.reply import head as response_head
from resilience.testing.request import Request
from resilience.testing.stream_bodies import StreamedAnswer
from resilience.testing.streams import render_stream, stream_body, stream_head

_WRONG_SCHEMA = '{"unexpected": ["shape"]}'
_GATEWAY_ERROR: Mapping[str, Any] = {
    "code": 429,
    "message": "Provider returned error",
    "metadata": {"raw": "rate-limited upstream"},
}


@singledispatch
def render(behaviour: Behaviour, request: Request) -> Reply:
    """Return the reply to *request* that *behaviour* makes.

    Raises:
        TypeError: *behaviour* is no behaviour of this package.
    """
    msg = f"{request.client} cannot do {behaviour!r}: give one of resilience.testing, or a callable that returns one"
    raise TypeError(msg)


@render.register
def _answer(behaviour: Answer, request: Request) -> Reply:
    text = _text_of(behaviour.content, request)
    head, body = _completion(request, text, "stop", headers=behaviour.headers)
    return Reply(data=head + body, delay=behaviour.delay)


@render.register
def _status(behaviour: Status, request: Request) -> Reply:
    headers = dict(behaviour.headers or {})
    if behaviour.retry_after is not None and _wait_in_body(behaviour, request) is None:
        headers["retry-after"] = _header_value(behaviour.retry_after)
    # A status from 200 to 299 that may have a body gets a good answer, unless the behaviour has a body of its own.
    if (
        behaviour.body is None
        and behaviour.code < HTTPStatus.MULTIPLE_CHOICES
        and behaviour.code not in BODILESS
    ):
        head, body = _completion(
            request, _text_of(None, request), "stop", status=behaviour.code, headers=headers
        )
    else:
        if behaviour.body is None:
            headers = {**error_headers(request.dialect, behaviour.code), **headers}
        head, body = _document(request, behaviour.code, _error_document(behaviour, request), headers)
    return Reply(data=head + body, delay=behaviour.delay)


@render.register
def _hang(behaviour: Hang, request: Request) -> Reply:
    end = End.HANG if behaviour.seconds is None else End.CLOSE
    return Reply(data=_until(behaviour.when, request), end=end, hold=behaviour.seconds)


@render.register
def _reset(behaviour: Reset, request: Request) -> Reply:
    return Reply(data=_until(behaviour.when, request), end=End.CLOSE if behaviour.orderly else End.RESET)


@render.register
def _truncate(behaviour: Truncate, request: Request) -> Reply:
    # The headers state the whole length, so the client knows that bytes are missing.
    head, body = _completion(request, _text_of(None, request), "stop")
    return Reply(data=head + body[: min(behaviour.size, len(body) - 1)], end=End.CLOSE)


@render.register
def _malformed(behaviour: Malformed, request: Request) -> Reply:
    head, body = _document(request, HTTPStatus.OK, behaviour.body)
    return Reply(data=head + body)


@render.register
def _wrong_schema(_: WrongSchema, request: Request) -> Reply:
    head, body = _completion(request, _WRONG_SCHEMA, "stop")
    return Reply(data=head + body)


@render.register
def _empty(_: Empty, request: Request) -> Reply:
    head, body = _completion(request, "", "stop")
    return Reply(data=head + body)


@render.register
def _finish(behaviour: Finish, request: Request) -> Reply:
    text = behaviour.text
    if text is None:
        whole = _text_of(None, request)
        text = whole[: len(whole) * 3 // 5]
    head, body = _completion(request, text, behaviour.reason)
    return Reply(data=head + body)


@render.register
def _error_in_body(behaviour: ErrorInBody, request: Request) -> Reply:
    # The status is 200 although the call failed: the gateway had answered before its provider did.
    if request.stream:
        return render_stream(Stream(error=_error_in_stream(behaviour, request), at="headers"), "", request)
    head, body = _document(request, HTTPStatus.OK, _error_of_gateway(behaviour, request))
    return Reply(data=head + body)


@render.register
def _stream(behaviour: Stream, request: Request) -> Reply:
    text = _text_of(behaviour.content, request)
    if request.stream:
        return render_stream(behaviour, text, request)
    head, body = _completion(request, text, behaviour.finish or "stop")
    return Reply(data=head + body, delay=behaviour.delay)


def not_found(method: str, path: str) -> Reply:
    """Return the reply to a request for a path that a provider does not have."""
    return _refusal(f"Invalid URL ({method} {path})")


def _refusal(message: str) -> Reply:
    body = json.dumps(
        {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
    ).encode()
    return Reply(
        data=b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (len(body), body)
    )


def _text_of(content: Any, request: Request) -> str:
    """Return the text of an answer: *content*, or by default one that fits the function of *request*."""
    if content is None:
        return answers.answer(request.function, request.prompt)
    return content if isinstance(content, str) else json.dumps(content)


def _error_document(behaviour: Status, request: Request) -> Any:
    if behaviour.code in BODILESS:
        return ""
    if behaviour.body is not None:
        return behaviour.body
    wait = _wait_in_body(behaviour, request)
    return error_body(request.dialect, behaviour.code, request.model, wait)


def _wait_in_body(behaviour: Status, request: Request) -> float | None:
    """Return the wait in seconds that the body states; None if the header `Retry-After` states it, or nothing does."""
    wait = behaviour.retry_after
    # A body of the behaviour's own is sent as it is, and a text such as an HTTP date has a meaning only in the header.
    if behaviour.body is not None or isinstance(wait, str) or not states_wait_in_body(request.dialect):
        return None
    return wait


def _error_of_gateway(behaviour: ErrorInBody, request: Request) -> Mapping[str, Any]:
    if behaviour.error is not None:
        frame = {"type": "error"} if request.dialect == "anthropic" else {}
        return {**frame, "error": behaviour.error}
    if request.dialect == "openai":
        return {"error": _GATEWAY_ERROR}
    return error_body(request.dialect, HTTPStatus.TOO_MANY_REQUESTS, request.model)


def _error_in_stream(behaviour: ErrorInBody, request: Request) -> Mapping[str, Any] | ErrorKind:
    error = behaviour.error
    if error is None:
        return _GATEWAY_ERROR if request.dialect == "openai" else "rate_limit"
    return {"message": error} if isinstance(error, str) else error


def _until(when: When, request: Request) -> bytes:
    """Return the part of a good answer that is sent before a fault."""
    if when == "before":
        return b""
    head, body = _completion(request, _text_of(None, request), "stop")
    return head if when == "headers" else head + body[: len(body) // 2]


# Documents are built whole before anything is sent: a fault then cuts bytes that are known, at an exact place.
def _completion(
    request: Request, text: str, reason: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> tuple[bytes, bytes]:
    if request.stream:
        answer = StreamedAnswer(request.dialect, request.model, text, reason)
        return stream_head(request, status, headers), stream_body(answer)
    body = _completion_body(request.dialect, request.model, text, reason)
    return response_head(request, status, "application/json", len(body), headers), body


def _document(
    request: Request, status: int, content: Any, headers: Mapping[str, str] | None = None
) -> tuple[bytes, bytes]:
    text = content if isinstance(content, str) else json.dumps(content)
    kinds = {"{": "application/json", "[": "application/json", "<": "text/html; charset=utf-8"}
    body = text.encode()
    length = None if status in BODILESS else len(body)
    return response_head(
        request, status, kinds.get(text.lstrip()[:1], "text/plain; charset=utf-8"), length, headers
    ), body


@lru_cache(maxsize=1024)
def _completion_body(dialect: Dialect, model: str, text: str, reason: str) -> bytes:
    """Return the document of a whole answer. It is cached: fleets and benchmarks repeat the same requests."""
    return json.dumps(answer_body(dialect, model, text, reason)).encode()


def _header_value(retry_after: float | str) -> str:
    return retry_after if isinstance(retry_after, str) else f"{retry_after:g}"
