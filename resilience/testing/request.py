"""A request to the simulated provider, and what its log keeps of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resilience.testing import answers, dialects
from resilience.testing.dialects import Dialect, Endpoint

# Removed at the door: a test may print a request or a line of the log, and some tests use real keys.
_SECRET_HEADERS = frozenset(
    {"authorization", "api-key", "x-api-key", "x-goog-api-key", "x-amz-security-token"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, for a callable that chooses the behaviour.

    Attributes:
        number: the number of the request to this client, from 1.
        client: the simulated client that was asked.
        at: seconds since the simulator started.
        path: the path of the URL.
        headers: headers with names in lower case, without those that carry a key.
        function: the co-scientist function that was recognised by its prompt; None for other prompts.
        model: the model that was asked for.
        prompt: all messages as one text.
        stream: whether the client wants a stream.
        size: bytes of the request body.
        body: the parsed request body; None if it is not a JSON object.
        dialect: the protocol of the request, in which the behaviour is answered.
    """

    number: int
    client: str
    at: float
    path: str
    headers: Mapping[str, str]
    function: str | None
    model: str
    prompt: str
    stream: bool
    size: int
    body: Mapping[str, Any] | None
    dialect: Dialect = "openai"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRequest:
    """One line of the simulator's log. It holds no prompt and no key.

    Attributes:
        client: the simulated client that was asked.
        at: seconds since the simulator started.
        path: the path of the URL.
        sent: the name of the chosen behaviour: a status such as `503`, or a fault such as `hang` or `reset:before`.
        function: the co-scientist function that was recognised by its prompt; None for other prompts.
        model: the model that was asked for.
        size: bytes of the request body.
        stream: whether the client wanted a stream.
        headers: headers with names in lower case, without those that carry a key.
    """

    client: str
    at: float
    path: str
    sent: str
    function: str | None
    model: str
    size: int
    stream: bool
    headers: Mapping[str, str]


def read(
    *,
    number: int,
    client: str,
    at: float,
    path: str,
    endpoint: Endpoint,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
) -> Request:
    """Return the `Request` that came over the wire.

    Args:
        number: the number of the request to this client, from 1.
        client: the simulated client.
        at: seconds since the simulator started.
        path: the path of the URL.
        endpoint: what the URL says.
        headers: raw names and values.
        body: the raw body; one that cannot be parsed counts as empty.
    """
    document = _object(body)
    messages = dialects.messages(document) if document else []
    decoded = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
    return Request(
        number=number,
        client=client,
        at=at,
        path=path,
        headers={name: value for name, value in decoded.items() if name not in _SECRET_HEADERS},
        function=answers.recognise(messages[0]) if messages else None,
        model=endpoint.model or (str(document.get("model", "")) if document else ""),
        prompt="\n".join(messages),
        stream=endpoint.stream or bool(document and document.get("stream")),
        size=len(body),
        body=document,
        dialect=endpoint.dialect,
    )


def log(request: Request, sent: object) -> LoggedRequest:
    """Return the line of the log for *request*, which is answered with the behaviour *sent*."""
    return LoggedRequest(
        client=request.client,
        at=request.at,
        path=request.path,
        sent=str(sent),
        function=request.function,
        model=request.model,
        size=request.size,
        stream=request.stream,
        headers=request.headers,
    )


def _object(body: bytes) -> Mapping[str, Any] | None:
    try:
        value = json.loads(body)
    except ValueError:  # includes UnicodeDecodeError
        return None
    return value if isinstance(value, dict) else None
