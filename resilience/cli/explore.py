"""`resilience explore`: the history in a browser, served by Datasette.

Datasette and its charts are optional dependencies (extra `explore`). It runs in a process of its own, see `explore_server.py`. What we add is its
metadata (each view with the question it answers, the meaning of its columns, and a query to start from) and a plugin that answers only
requests with a token, since every user of the machine reaches the port. The token travels in the environment: other users see the
arguments of a process.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from resilience.cli import options
from resilience.cli.exit_codes import exit_on_setup_error
from resilience.cli.explore_guard import PARAMETER, PLUGIN, TOKEN_VARIABLE
from resilience.cli.output import print_line
from resilience.errors import ConfigurationError, HistoryError
from resilience.history.schema import urls
from resilience.history.schema.views import VIEWS

_HOST: Final = "127.0.0.1"
# Datasette paints the bar beside a name red, which looks like an alarm, unless the file is immutable.
_CSS: Final = ".page-header, h2[style] { border-color: #2b6cb0 !important }"
_START: Final = 30.0
"""Seconds to wait for Datasette before a browser is opened."""


def explore(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on at 127.0.0.1; 0 is any free port.")
    ] = 8001,
    *,
    browser: Annotated[bool, typer.Option("--open", help="Open a browser.")] = False,
    payloads: Annotated[
        bool, typer.Option("--payloads", help="List the table of prompts and answers, too.")
    ] = False,
) -> None:
    """Browse the history on 127.0.0.1 until Ctrl-C: tables, views and canned queries, read-only.

    Only a browser that has opened the printed address is answered: it has a
    token. A new token is made at each start.

    Needs Datasette, which the extra `explore` of baml-resilience installs.
    """
    with exit_on_setup_error():
        path = _file()
    token, port = secrets.token_urlsafe(24), port or _free_port()
    # The page of the database, and not the first one: it has the questions to start from.
    address = f"http://{_HOST}:{port}/{_in_url(path.stem)}?{PARAMETER}={token}"
    with tempfile.TemporaryDirectory() as folder:  # mode 0700
        metadata = Path(folder, "metadata.json")
        metadata.write_text(json.dumps(datasette_metadata(path.stem, payloads=payloads)))
        print_line(address)
        sys.stdout.flush()
        page = _redirection(Path(folder, "open.html"), address) if browser else None
        raise typer.Exit(_serve(command(path, metadata, port), token, page, port))


def command(path: Path, metadata: Path, port: int) -> list[str]:
    """Return the command that starts Datasette.

    Datasette listens on loopback only, because it shows all of the history.

    Args:
        path: the history's file.
        metadata: a file with what `datasette_metadata` returned.
        port: the port to listen on.
    """
    return [sys.executable, "-m", "resilience.cli.explore_server", str(path), str(metadata), _HOST, str(port)]


def datasette_metadata(database: str, *, payloads: bool = False) -> dict[str, Any]:
    """Return Datasette's metadata: the meaning of each view and column, and one canned query for each view.

    Args:
        database: the name under which Datasette shows the file.
        payloads: whether the table of prompts and answers is listed and has a page.
    """
    hidden = {} if payloads else {"payloads": {"hidden": True, "allow": False}}
    return {
        "title": "History of calls",
        "description": "Times are UTC, durations seconds.",
        "plugins": {PLUGIN: {}},
        "extra_css_urls": [{"url": f"data:text/css,{quote(_CSS)}"}],
        "databases": {
            database: {
                "queries": {
                    # An example of one request has '...' for its id: Datasette makes a form field of a :parameter.
                    view.name.removeprefix("v_"): {
                        "title": view.answers,
                        "description": f"{view.name}: {view.window}",
                        "sql": view.example.replace("'...'", ":request_id"),
                    }
                    for view in VIEWS
                },
                "tables": hidden
                | {
                    view.name: {
                        "description": f"{view.answers} ({view.window})",
                        "columns": dict(view.columns),
                    }
                    for view in VIEWS
                },
            }
        },
    }


def _file() -> Path:
    """Return the history's file.

    Raises:
        ConfigurationError: Datasette is not installed.
        HistoryError: the history is on a server, or its file does not exist.
    """
    url = urls.parse(options.database())
    if not urls.is_sqlite(url):
        msg = (
            f"the history is at {urls.shown(url)}, and Datasette reads only SQLite: query it with `resilience sql`, "
            "or point psql, Grafana or Metabase at the same views (`resilience sql --views`)"
        )
        raise HistoryError(msg)
    if find_spec("datasette") is None:
        msg = "`resilience explore` needs Datasette: pip install 'baml-resilience[explore]'"
        raise ConfigurationError(msg)
    return urls.path(url)


def _in_url(database: str) -> str:
    """Return the name of a database as Datasette has it in its addresses: all but letters, digits, - and _ as ~XX."""
    safe = string.ascii_letters + string.digits + "-_"
    return "".join(character if character in safe else _escaped(character) for character in database)


def _escaped(character: str) -> str:
    return "".join(f"~{byte:02X}" for byte in character.encode())


def _free_port() -> int:
    """Return a port that was free a moment ago. Datasette cannot be handed a socket, and the address has to be printed before it starts."""
    with socket.create_server((_HOST, 0)) as server:
        return int(server.getsockname()[1])


def _redirection(page: Path, address: str) -> Path:
    """Write a page that leads to *address*: other users see the arguments of the command that opens a browser, but not this file."""
    page.write_text(f'<meta http-equiv="refresh" content="0; url={address}">')
    return page


def _serve(words: list[str], token: str, page: Path | None, port: int) -> int:
    """Run Datasette until it ends or this process is interrupted.

    Args:
        words: the command.
        token: the token of its requests.
        page: the page to open once it listens; None to open none.
        port: the port it listens on.

    Returns:
        Datasette's exit code; 0 after an interruption.
    """
    # SIGTERM reaches only this process, and its default action would leave Datasette running.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    environment = {**os.environ, TOKEN_VARIABLE: token}
    try:
        with subprocess.Popen(words, env=environment) as server:  # noqa: S603 - our own interpreter and a file of ours
            try:
                if page is not None and _listens(server, port):
                    webbrowser.open(page.as_uri())
                return server.wait()
            except KeyboardInterrupt:
                server.terminate()
                return 0
    finally:
        signal.signal(signal.SIGTERM, previous)


def _listens(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the port accepts connections. Return whether it does."""
    end = time.monotonic() + _START
    while server.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection((_HOST, port), timeout=1):
            return True
        time.sleep(0.1)
    return False
