"""The id of the request that is being served: the caller's own, on every line and row of the calls made for it.

It travels in a context variable, so each task, each `asyncio.to_thread` and each request of a web server has its own.
Threads of a `ThreadPoolExecutor` do not inherit it (Python copies no context there): set it inside them.
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
    """The id of the request being served here; None when nobody said, and each call then is a request of its own."""
    return _current.get()


def set_request_id(value: str | None = None) -> str:
    """Say which request is being served, from here to the end of this task or thread; gives the id in use.

    Args:
        value: the caller's id: at most 64 letters, digits, `_`, `.` and `-`. A W3C `traceparent` stands for its trace id.
            Anything else may not enter logs and rows: a fresh id is made instead.
    """
    accepted = _accepted(value) or uuid.uuid4().hex
    _current.set(accepted)
    return accepted


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """The id a request's *headers* bring: `X-Request-ID`, else the trace id of `traceparent`; None without a usable one.

    Example:
        with resilience.request_id(resilience.request_id_of(request.headers)):
            ...
    """
    named = {name.lower(): value for name, value in headers.items()}
    return _accepted(named.get(REQUEST_HEADER)) or _accepted(named.get(TRACE_HEADER))


class request_id:  # noqa: N801 - reads as the verb it is: `with request_id(...)`
    """Serve the request of this id in a `with` block; gives the id in use, as `set_request_id` does.

    It may be entered in one task and left in another, as happens to asynchronous generators.

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
        _current.set(self._before)  # by value: a token of another task's context cannot be given back


def _accepted(value: str | None) -> str | None:
    if not isinstance(value, str):
        return None
    trace = _TRACEPARENT.fullmatch(value)
    if trace is not None:
        return None if trace[1] == _NO_TRACE else trace[1]
    return value if _ID.fullmatch(value) else None
