"""`resilience metrics`: the fleet's metrics for Prometheus, printed once or served."""

from __future__ import annotations

import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Final

import typer

from resilience.cli.exit_codes import BAD_USE, explained
from resilience.prometheus.exporter import Exposition
from resilience.prometheus.text_format import CONTENT_TYPE

_PATH: Final = "/metrics"
_LOOPBACK: Final = "127.0.0.1"
_HIGHEST: Final = 65_535


def metrics(
    *,
    serve: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT", help="Serve them at /metrics until interrupted; on loopback unless told."
        ),
    ] = None,
) -> None:
    """Print the metrics of the whole fleet as Prometheus text, read from the history and the circuits."""
    with explained():
        exposition = Exposition()
    if serve is not None:
        host, port = _address(serve)
        _serve(exposition, host, port)
        return
    reading = exposition.read()
    sys.stdout.write(reading.text)
    for trouble in reading.troubles:
        sys.stderr.write(f"resilience: {trouble}\n")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) <= _HIGHEST):
        sys.stderr.write(f"resilience: --serve {text!r}: give PORT or HOST:PORT, such as 127.0.0.1:9464\n")
        raise typer.Exit(BAD_USE)
    return host.strip("[]") or _LOOPBACK, int(port)


def _serve(exposition: Exposition, host: str, port: int) -> None:
    try:
        server = ThreadingHTTPServer((host, port), _answering(exposition.render))
    except OSError as exc:
        sys.stderr.write(f"resilience: {host}:{port} cannot be served: {exc.strerror or exc}\n")
        raise typer.Exit(BAD_USE) from None
    with server:
        sys.stdout.write(f"http://{host}:{server.server_address[1]}{_PATH}\n")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def _answering(render: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Answering(BaseHTTPRequestHandler):
        """Answers one path."""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != _PATH:
                self.send_error(HTTPStatus.NOT_FOUND, f"the metrics are at {_PATH}")
                return
            body = render().encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature of http.server
            """Say nothing: Prometheus asks every few seconds."""

    return Answering
