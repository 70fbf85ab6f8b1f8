"""Signs of life within a request: a connection that stands, or the reply to a step of its handshake.

The first request of a process connects, and may speak TLS and log in: several round trips, none of which is silence. Single bytes
are no sign of life, because a server that drips them never completes a reply.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Final

_listener: Final[ContextVar[Callable[[], None] | None]] = ContextVar("listener", default=None)


@contextlib.contextmanager
def heard_by(listener: Callable[[], None]) -> Iterator[None]:
    """Call *listener* with each sign of life on this thread, until the end of the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def note() -> None:
    """Note a sign of life of the store that this thread asks."""
    listener = _listener.get()
    if listener is not None:
        listener()
