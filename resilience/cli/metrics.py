"""`resilience metrics`: the fleet's metrics for Prometheus, printed once or served over HTTP.

The numbers are those of the whole fleet, so one such process is enough, beside the agents or on another machine that reaches
their history and their store.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from resilience.cli.exit_codes import SETUP_ERROR, exit_on_setup_error
from resilience.cli.host_names import is_loopback
from resilience.cli.metrics_server import PATH, Access, open_server
from resilience.cli.output import note, print_exposition, print_line
from resilience.prometheus import Exposition

_LOOPBACK: Final = "127.0.0.1"
_UNIX: Final = "unix:"
_HIGHEST_PORT: Final = 65_535
_SHORTEST_TOKEN: Final = 16


def metrics(
    *,
    serve: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT|unix:PATH",
            help="Serve the metrics at /metrics until SIGINT or SIGTERM, and /healthz for probes. Without a HOST, on "
            "loopback only; a socket file is for its owner only.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="Answer only requests with the token in this file: Authorization: Bearer TOKEN. Needed where other machines "
            "reach the address."
        ),
    ] = None,
    no_token: Annotated[
        bool,
        typer.Option(
            "--no-token",
            help="Answer without a token although other machines reach the address, such as behind a firewall.",
        ),
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Name in the header Host that is answered, besides addresses and localhost. Can be given several times."
        ),
    ] = None,
) -> None:
    """Print the metrics of the whole fleet as Prometheus text, read from the history and the circuits."""
    with exit_on_setup_error():
        exposition = Exposition()
    if serve is not None:
        place = _parse_place(serve)
        _check_reach(place, token_file, no_token=no_token)
        _serve(exposition, place, _access(place, token_file, allow_host or ()))
        return
    reading = exposition.read()
    print_exposition(reading.text)
    for trouble in reading.troubles:
        note(trouble)


def _parse_place(text: str) -> tuple[str, int] | Path:
    if text.startswith(_UNIX) and text != _UNIX:
        return Path(text.removeprefix(_UNIX)).expanduser().absolute()
    host, _, port = text.rpartition(":")
    # isascii: str.isdigit accepts digits of other scripts, which int() would read too.
    if not (port.isascii() and port.isdigit() and int(port) <= _HIGHEST_PORT):
        note(f"--serve {text!r}: give PORT or HOST:PORT, such as 127.0.0.1:9464, or unix:PATH")
        raise typer.Exit(SETUP_ERROR)
    # Brackets are how a URL writes an IPv6 address.
    return host.strip("[]") or _LOOPBACK, int(port)


def _check_reach(place: tuple[str, int] | Path, token_file: Path | None, *, no_token: bool) -> None:
    """Refuse an address that other machines reach, unless a token or an explicit word is given."""
    if token_file is not None and no_token:
        note("--token-file and --no-token exclude each other")
        raise typer.Exit(SETUP_ERROR)
    if isinstance(place, Path) or is_loopback(place[0]) or token_file is not None or no_token:
        return
    note(
        f"--serve {place[0]}:{place[1]}: other machines reach this address, and without a token each of them reads the numbers: "
        "give --token-file FILE, serve on 127.0.0.1 or unix:PATH, or, if a firewall decides who reaches it, give --no-token"
    )
    raise typer.Exit(SETUP_ERROR)


def _access(place: tuple[str, int] | Path, token_file: Path | None, names: Iterable[str]) -> Access:
    hosts = {name.strip().lower() for name in names}
    if isinstance(place, tuple):
        hosts.add(place[0].lower())
    return Access(frozenset(hosts), _token(token_file), any_host=isinstance(place, Path))


def _token(file: Path | None) -> str | None:
    """Return the token in *file*. A file that others can read holds no secret, and is refused."""
    if file is None:
        return None
    try:
        token = file.read_text(encoding="utf-8").strip()
        mode = file.stat().st_mode
    except (OSError, UnicodeDecodeError) as exc:
        note(f"--token-file {file} cannot be read ({type(exc).__name__})")
        raise typer.Exit(SETUP_ERROR) from None
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or mode & 0o007:
        note(
            f"--token-file {file}: give a file that others cannot read (chmod 600) with a token of at least "
            f"{_SHORTEST_TOKEN} ASCII characters, such as the output of `openssl rand -hex 32`"
        )
        raise typer.Exit(SETUP_ERROR)
    return token


def _serve(exposition: Exposition, place: tuple[str, int] | Path, access: Access) -> None:
    """Serve until SIGINT or SIGTERM; print the address first, which tells the port where 0 was given."""
    # The first process of a container has no default action for SIGTERM: without a handler a pod's end would wait its whole
    # grace period. As KeyboardInterrupt, both signals end in the same way.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _serve_until_interrupted(exposition, place, access)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _serve_until_interrupted(exposition: Exposition, place: tuple[str, int] | Path, access: Access) -> None:
    try:
        server = open_server(place, exposition.respond, access)
    except OSError as exc:
        shown = place if isinstance(place, Path) else f"{place[0]}:{place[1]}"
        note(f"{shown} cannot be served: {exc.strerror or exc}")
        raise typer.Exit(SETUP_ERROR) from None
    with server:
        print_line(_address(place, server.server_address))
        sys.stdout.flush()  # a pipe is buffered, and the program that started us waits for the port
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
        finally:
            if isinstance(place, Path):
                place.unlink(missing_ok=True)


def _address(place: tuple[str, int] | Path, bound: Any) -> str:
    """Return the address of a server: *bound* has the port where 0 was given."""
    if isinstance(place, Path):
        return f"unix:{place}"
    host = f"[{place[0]}]" if ":" in place[0] else place[0]
    return f"http://{host}:{bound[1]}{PATH}"
