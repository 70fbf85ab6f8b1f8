"""The id of the application's request, which all log lines and rows of the calls made for it carry.

It is a context variable: each task and each `asyncio.to_thread` inherits it, and each request of a web server has its own.
Threads of a `ThreadPoolExecutor` do not inherit it, since Python copies no context there: set it inside them.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Final

REQUEST_HEADER: Final = "x-request-id"
TRACE_HEADER: Final = "traceparent"

_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_NO_TRACE: Final = "0" * 32

_current: ContextVar[str | None] = ContextVar("resilience_request_id", default=None)


def current_request_id() -> str | None:
    """Return the id of the current request; None if none was set, and then each call is a request of its own."""
    return _current.get()


def set_request_id(value: str | None = None) -> str:
    """Set the id of the current request, from here to the end of this task or thread.

    Args:
        value: at most 64 letters, digits, `_`, `.` and `-`, or a W3C `traceparent`, of which the trace id is used. Other
            values must not enter logs and rows: a new id is generated for them.

    Returns:
        The id in use.
    """
    request = _valid_id(value) or uuid.uuid4().hex
    _current.set(request)
    return request


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """Return the id in the *headers* of a request: `X-Request-ID`, else the trace id of `traceparent`; None without a valid one.

    Example:
        with resilience.request_id(resilience.request_id_of(request.headers)):
            ...
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    return _valid_id(lowered.get(REQUEST_HEADER)) or _valid_id(lowered.get(TRACE_HEADER))


class request_id:  # noqa: N801 - used like a function: `with request_id(...)`
    """Set the id of the current request for a `with` block. The value of `as` is the id in use.

    The block may be entered in one task and left in another, as happens in asynchronous generators.

    Args:
        value: as for `set_request_id`.

    Example:
        with resilience.request_id(header) as request:
            answer = await b.ExtractResume(text)
    """

    __slots__ = ("_before", "_value")

    def __init__(self, value: str | None = None) -> None:
        self._value = value
        self._before: str | None = None

    def __enter__(self) -> str:
        self._before = _current.get()
        return set_request_id(self._value)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Not by the token of the first `set`: a token can only be reset in the context that made it, and the block may be left
        # in another task.
        _current.set(self._before)


def _valid_id(value: str | None) -> str | None:
    if not isinstance(value, str):
        return None
    trace = _TRACEPARENT.fullmatch(value)
    if trace is not None:
        return None if trace[1] == _NO_TRACE else trace[1]
    return value if _ID.fullmatch(value) else None
