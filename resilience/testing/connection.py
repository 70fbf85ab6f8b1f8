"""One connection of the simulated provider: h11 reads the requests, replies are written as raw bytes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import cast

import h11

from resilience.testing.reply import End, Piece, Reply

Headers = list[tuple[bytes, bytes]]
Serve = Callable[[str, str, Headers, bytes], Reply]
"""Returns the reply to a request of a method, a target, headers and a body."""

# A client discards bytes that it has not read when the RST arrives. This gives it time to read them.
_SECONDS_BEFORE_RESET = 0.02
_LINGER_ZERO = struct.pack("ii", 1, 0)
"""`struct linger` with a timeout of zero: `close` then sends RST instead of FIN."""


class Connection(asyncio.Protocol):
    """A connection that serves one request after the other, until either side ends it.

    Replies may violate HTTP on purpose, which h11 refuses to send. So h11 only reads. Its state machine cannot start the
    next cycle without having sent a response; a new one is made for each request.

    Args:
        serve: returns the reply to a request.
        open_connections: the set of all open connections; this one adds and removes itself.

    Attributes:
        busy: whether a request is being answered.
        closed: a future that is done when the connection is lost.
    """

    def __init__(self, serve: Serve, open_connections: set[Connection]) -> None:
        self._serve = serve
        self._open = open_connections
        self._transport: asyncio.Transport
        self._http = h11.Connection(h11.SERVER)
        self._head: h11.Request | None = None
        self._body: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self.busy = False
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport. asyncio has set TCP_NODELAY on it, so small replies are not delayed."""
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel a delayed reply: its client has left."""
        del exc
        self._cancel_timer()
        self.busy = False
        self._open.discard(self)
        self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Read on. A request behind the one that is being answered stays in h11's buffer."""
        self._http.receive_data(data)
        self._read()

    def abort(self) -> None:
        """Drop the connection immediately."""
        self._transport.abort()

    def _read(self) -> None:
        while not self.busy and not self._transport.is_closing():
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError:
                self._transport.write(
                    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                )
                self._transport.close()
                return
            if isinstance(event, h11.Request):
                self._head = event
                self._welcome_body()
            elif isinstance(event, h11.Data):
                self._body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._answer()
            else:
                return

    def _welcome_body(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _answer(self) -> None:
        head = cast("h11.Request", self._head)
        reply = self._serve(
            head.method.decode(), head.target.decode(), list(head.headers), b"".join(self._body)
        )
        # Set before sending: `_send` may reach `_next_request`, which resets it.
        self.busy = True
        if reply.delay:
            self._later(reply.delay, self._send, reply)
        else:
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        if reply.data:
            self._transport.write(reply.data)
        self._send_pieces(reply, iter(reply.pieces))

    def _send_pieces(self, reply: Reply, pieces: Iterator[Piece]) -> None:
        """Send pieces up to the next silence, or end the reply."""
        for piece in pieces:
            if piece.wait:
                self._later(piece.wait, self._send_piece, reply, piece, pieces)
                return
            self._transport.write(piece.data)
        self._end(reply)

    def _send_piece(self, reply: Reply, piece: Piece, rest: Iterator[Piece]) -> None:
        self._transport.write(piece.data)
        self._send_pieces(reply, rest)

    def _end(self, reply: Reply) -> None:
        # After End.HANG at most heartbeats follow: the client ends the connection, or `abort` does.
        if reply.heartbeat is not None:
            self._send_pieces(reply, repeat(reply.heartbeat))
        elif reply.end is End.KEEP:
            self._next_request()
        elif reply.end is End.RESET:
            self._later(_SECONDS_BEFORE_RESET if reply.data or reply.pieces else 0, self._reset)
        elif reply.end is End.CLOSE:
            self._later(reply.hold or 0, self._transport.close)

    def _next_request(self) -> None:
        """Prepare for the next request, or close the connection if the client asked for that."""
        if self._http.their_state is not h11.DONE:
            self._transport.close()
            return
        rest, _ = self._http.trailing_data
        self._http, self._head, self._body, self.busy = h11.Connection(h11.SERVER), None, [], False
        if rest:
            self._http.receive_data(rest)
            # Not called directly: `_read` may be what led here, and each waiting request would nest one call deeper.
            asyncio.get_running_loop().call_soon(self._read)

    def _reset(self) -> None:
        """Close with RST instead of FIN."""
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._transport.abort()

    def _later(self, seconds: float, callback: Callable[..., object], *args: object) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, callback, *args)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
