"""The HTTP server of `resilience metrics --serve`: bounded in threads and time, for names it knows, with a token if one is given.

It has no more threads than a few scrapers need, however many connections are opened. A connection has some seconds for its whole
request, whether it sends nothing or a byte now and then. A client that goes away is no error.
"""

from __future__ import annotations

import hmac
import os
import socket
import socketserver
import stat
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final

from resilience.cli.host_names import is_known_host

PATH: Final = "/metrics"
_HEALTH: Final = "/healthz"
_MAX_CONNECTIONS: Final = 16
_TIMEOUT: Final = 10.0
"""Seconds for a whole request, from the connection to the last byte of the answer."""
_REFUSED: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

Respond = Callable[[str], tuple[bytes, str]]
"""The value of the header `Accept`, to a body and its content type."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who is answered.

    Attributes:
        hosts: names in the header `Host`, in lower case, besides addresses and `localhost`.
        token: the token that a request must have; None for no token.
        any_host: whether every `Host` is answered: on a socket file, which no browser reaches.
    """

    hosts: Collection[str] = ()
    token: str | None = None
    any_host: bool = False

    def refusal(self, host: str, authorization: str) -> HTTPStatus | None:
        """Return the status with which a request is refused; None for one that may be answered.

        Args:
            host: its header `Host`.
            authorization: its header `Authorization`.
        """
        if not self.any_host and not is_known_host(host, self.hosts):
            return HTTPStatus.MISDIRECTED_REQUEST
        if self.token is not None and not _equal(authorization.strip(), f"Bearer {self.token}"):
            return HTTPStatus.UNAUTHORIZED
        return None


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


class _LimitedServer(socketserver.ThreadingMixIn):
    """Limits the connections and the time of each. A mix-in for the servers of both kinds of sockets."""

    daemon_threads = True
    block_on_close = False  # a client that is slow must not keep the process from ending

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._slots = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self._deadlines: dict[socket.socket, float] = {}
        super().__init__(*args, **kwargs)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection on a thread of its own, if one is free."""
        # Refused at once rather than queued: a queue of slow clients would make every scraper wait for all of them.
        if not self._slots.acquire(blocking=False):
            _send(request, _REFUSED)
            self.shutdown_request(request)  # type: ignore[attr-defined]  # of the server it is mixed into
            return
        self._deadlines[request] = time.monotonic() + _TIMEOUT
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system has no thread left
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle a connection, and give its place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def _leave(self, request: Any) -> None:
        self._deadlines.pop(request, None)
        self._slots.release()

    def service_actions(self) -> None:
        """End the connections whose time is over. Called twice a second; a limit of each read alone would let bytes drip for ever."""
        now = time.monotonic()
        for request, deadline in list(self._deadlines.items()):
            if now >= deadline:
                _shut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that went away or was too slow: a traceback for each would fill the log."""


class _TcpServer(_LimitedServer, socketserver.TCPServer):
    allow_reuse_address = True
    request_queue_size = 32


class _Ipv6Server(_TcpServer):
    address_family = socket.AF_INET6


class _UnixServer(_LimitedServer, socketserver.UnixStreamServer):
    request_queue_size = 32


def open_server(place: tuple[str, int] | Path, respond: Respond, access: Access) -> socketserver.BaseServer:
    """Return a server that listens.

    Args:
        place: host and port, or the path of a socket file, which only the owner can connect to.
        respond: makes the answer.
        access: who is answered.

    Raises:
        OSError: the place cannot be used.
    """
    # The server creates a handler for each connection, so what they share is in their class.
    shared = {"respond": staticmethod(respond), "access": access}
    handler = type("MetricsHandler", (_MetricsHandler,), shared)
    if isinstance(place, Path):
        return _unix_server(place, handler)
    kind = _Ipv6Server if ":" in place[0] else _TcpServer
    return kind(place, handler)


def _unix_server(path: Path, handler: type[BaseHTTPRequestHandler]) -> socketserver.BaseServer:
    # What a killed server left there. Anything but a socket of ours stays, and binding fails.
    if path.is_socket() and not path.is_symlink() and path.stat().st_uid == os.geteuid():
        path.unlink()
    before = os.umask(
        0o177
    )  # the mode is set as the file is created: a later chmod would leave a moment for others
    try:
        server = _UnixServer(str(path), handler)
    finally:
        os.umask(before)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o600)
    return server


class _MetricsHandler(BaseHTTPRequestHandler):
    """Serve the metrics at one path. Every connection has one request.

    Attributes:
        respond: makes the answer.
        access: who is answered.
    """

    respond: Respond
    access: Access
    timeout = _TIMEOUT
    server_version = "resilience"
    sys_version = ""

    def address_string(self) -> str:
        return "client"  # a socket file has no address

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        if path == _HEALTH:
            # The process answers: that is what a probe asks. Whether the fleet is well is in the metrics.
            self._send(b"ok\n", "text/plain; charset=utf-8", with_body=with_body)
            return
        refusal = self.access.refusal(self.headers.get("Host", ""), self.headers.get("Authorization", ""))
        if refusal is not None:
            self.send_error(refusal)
        elif path == PATH:
            self._send(*self.respond(self.headers.get("Accept", "")), with_body=with_body)
        else:
            self.send_error(HTTPStatus.NOT_FOUND, f"the metrics are at {PATH}")

    def _send(self, body: bytes, content_type: str, *, with_body: bool) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature of http.server
        """Write no access log: Prometheus scrapes every few seconds."""


def _send(request: socket.socket, answer: bytes) -> None:
    request.settimeout(0.1)
    try:
        request.sendall(answer)
    except OSError:
        return


def _shut(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:  # it is closed already
        return
