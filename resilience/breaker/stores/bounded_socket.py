"""Sockets whose reads and writes together may take a limited time and a limited number of bytes.

The time limit of a socket counts for each read alone. A server that sends one byte in each fifth of a second never exceeds it, and a
reply without an end fills the memory. So the sync thread opens an `Allowance` for a whole step, and every read on this thread
takes from it: handshakes, all replies, and those of each node of a cluster.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from redis._parsers import _RESP2Parser
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ResponseError
from redis.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

from resilience.breaker.stores import connection_progress

_LAST_LOOK: Final = 0.05
"""Seconds that a read gets when the time is over. A process that was stopped or starved meanwhile finds the reply in the kernel."""

_thread: Final = threading.local()


class Allowance:
    """What is left of the time and the bytes of a step.

    Args:
        seconds: time for the whole step.
        size: bytes that the server may send.
    """

    __slots__ = ("_deadline", "_left", "_overdue")

    def __init__(self, seconds: float, size: int) -> None:
        self._deadline = time.monotonic() + seconds
        self._left = size
        self._overdue = False

    def seconds(self) -> float:
        """Return the seconds that the next read or write may take.

        Raises:
            TimeoutError: the time is over, and one read after it has begun already.
        """
        left = self._deadline - time.monotonic()
        if left > _LAST_LOOK:
            return left
        if self._overdue:
            msg = "the reply is not complete within the time of a step"
            raise TimeoutError(msg)
        self._overdue = left <= 0
        return _LAST_LOOK

    def spend(self, size: int) -> None:
        """Take the bytes of a read.

        Raises:
            OSError: the server has sent more than it may.
        """
        self._left -= size
        if self._left < 0:
            msg = "the reply is longer than any reply of a step can be"
            raise OSError(msg)


@contextlib.contextmanager
def allowance(seconds: float, size: int) -> Iterator[None]:
    """Limit what all connections of this module do on this thread, until the end of the block.

    Args:
        seconds: time for everything in the block.
        size: bytes that servers may send.
    """
    _thread.allowance = Allowance(seconds, size)
    try:
        yield
    finally:
        _thread.allowance = None


def _current() -> Allowance | None:
    return getattr(_thread, "allowance", None)


class _BoundedSocket:
    """A connected socket that takes from the allowance of the thread that uses it."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self._timeout = inner.gettimeout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds
        self._inner.settimeout(seconds)

    def recv(self, size: int, flags: int = 0) -> bytes:
        self._limit()
        data = self._inner.recv(size, flags)
        self._spend(len(data))
        return data

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        self._limit()
        count = self._inner.recv_into(buffer, size, flags)
        self._spend(count)
        return count

    def sendall(self, data: Any, flags: int = 0) -> None:
        self._limit()
        self._inner.sendall(data, flags)

    def _limit(self) -> None:
        current = _current()
        if (
            current is None or self._timeout == 0
        ):  # 0: redis-py looks whether anything has come, without waiting
            return
        left = current.seconds()
        self._inner.settimeout(left if self._timeout is None else min(self._timeout, left))

    def _spend(self, size: int) -> None:
        current = _current()
        if current is not None:
            current.spend(size)


class _BoundedConnection:
    """A connection of redis-py whose socket is bounded.

    The parser in Python reads a reply piece by piece. The one of hiredis reserves memory for as many elements as a reply announces.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("parser_class", _RESP2Parser)
        super().__init__(*args, **options)
        self._connect_timeout = getattr(self, "socket_connect_timeout", None)
        # Without these redis-py sends no `CLIENT SETINFO`, twice and one after the other: each would delay the first look of a
        # process by a round trip. Newer versions have one attribute for both.
        vars(self).update(driver_info=None, lib_name=None, lib_version=None)

    def _connect(self) -> Any:
        current = _current()
        if current is not None:
            left = current.seconds()
            limit = self._connect_timeout
            self.socket_connect_timeout = left if limit is None else min(limit, left)
        line = _BoundedSocket(super()._connect())  # type: ignore[misc]  # the class that this one is mixed into has it
        connection_progress.note()
        return line

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            reply = super().read_response(*args, **options)  # type: ignore[misc]
        except ResponseError:  # a refusal is a reply too
            connection_progress.note()
            raise
        connection_progress.note()
        return reply


class BoundedConnection(_BoundedConnection, Connection):
    """A TCP connection."""


class BoundedSSLConnection(_BoundedConnection, SSLConnection):
    """A TLS connection."""


class BoundedUnixConnection(_BoundedConnection, UnixDomainSocketConnection):
    """A connection to a Unix socket."""


class BoundedMasterConnection(_BoundedConnection, SentinelManagedConnection):
    """A TCP connection to the server that the Sentinels name."""


class BoundedMasterSSLConnection(_BoundedConnection, SentinelManagedSSLConnection):
    """A TLS connection to the server that the Sentinels name."""
