"""`resilience metrics`: the fleet's metrics for Prometheus, printed once or served over HTTP.

The numbers are those of the whole fleet, so one such process is enough, beside the agents or on another machine that reaches
their history and their store.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Final

import typer

from resilience.cli.exit_codes import SETUP_ERROR, exit_on_setup_error
from resilience.cli.output import note, print_line
from resilience.prometheus import Exposition

_PATH: Final = "/metrics"
_HEALTH: Final = "/healthz"
_LOOPBACK: Final = "127.0.0.1"
_HIGHEST_PORT: Final = 65_535

_Respond = Callable[[str], tuple[bytes, str]]
"""The value of the header `Accept`, to a body and its content type."""


def metrics(
    *,
    serve: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="Serve the metrics at /metrics until SIGINT or SIGTERM, and /healthz for probes. Without a HOST, on "
            "loopback only.",
        ),
    ] = None,
) -> None:
    """Print the metrics of the whole fleet as Prometheus text, read from the history and the circuits."""
    with exit_on_setup_error():
        exposition = Exposition()
    if serve is not None:
        host, port = _parse_address(serve)
        _serve(exposition, host, port)
        return
    reading = exposition.read()
    sys.stdout.write(reading.text)
    for trouble in reading.troubles:
        note(trouble)


def _parse_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    # isascii: str.isdigit accepts digits of other scripts, which int() would read too.
    if not (port.isascii() and port.isdigit() and int(port) <= _HIGHEST_PORT):
        note(f"--serve {text!r}: give PORT or HOST:PORT, such as 127.0.0.1:9464")
        raise typer.Exit(SETUP_ERROR)
    # Brackets are how a URL writes an IPv6 address. There is no authentication, so the network is an explicit choice.
    return host.strip("[]") or _LOOPBACK, int(port)


def _serve(exposition: Exposition, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; print the address first, which tells the port where 0 was given."""
    # The first process of a container has no default action for SIGTERM: without a handler a pod's end would wait its whole
    # grace period. As KeyboardInterrupt, both signals end in the same way.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _serve_until_interrupted(exposition, host, port)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _serve_until_interrupted(exposition: Exposition, host: str, port: int) -> None:
    # One thread for each request: a scraper that reads slowly must not make another one wait.
    try:
        server = ThreadingHTTPServer((host, port), _handler(exposition.respond))
    except OSError as exc:
        note(f"{host}:{port} cannot be served: {exc.strerror or exc}")
        raise typer.Exit(SETUP_ERROR) from None
    with server:
        print_line(f"http://{host}:{server.server_address[1]}{_PATH}")
        sys.stdout.flush()  # a pipe is buffered, and the program that started us waits for the port
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def _handler(respond: _Respond) -> type[BaseHTTPRequestHandler]:
    """Bind *respond* to a handler class: the server creates one handler for each request."""

    class MetricsHandler(BaseHTTPRequestHandler):
        """Serve the metrics at one path."""

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            if path == _HEALTH:
                # The process answers: that is what a probe asks. Whether the fleet is well is in the metrics.
                body, content_type = b"ok\n", "text/plain; charset=utf-8"
            elif path == _PATH:
                body, content_type = respond(self.headers.get("Accept", ""))
            else:
                self.send_error(HTTPStatus.NOT_FOUND, f"the metrics are at {_PATH}")
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature of http.server
            """Write no access log: Prometheus scrapes every few seconds."""

    return MetricsHandler
