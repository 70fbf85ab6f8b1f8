"""`resilience explore`: the history in a browser, served by Datasette.

Datasette is an optional dependency (extra `explore`) and runs in a process of its own, by its command line. What we add is its
metadata: each view with the question it answers, the meaning of its columns, and a query to start from.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from resilience.cli import options
from resilience.cli.exit_codes import exit_on_setup_error
from resilience.errors import ConfigurationError, HistoryError
from resilience.history.schema import urls
from resilience.history.schema.views import VIEWS

_QUERY_LIMIT: Final = 1000
"""Milliseconds after which Datasette stops a query."""
_HOST: Final = "127.0.0.1"


def explore(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on at 127.0.0.1; 0 is any free port.")
    ] = 8001,
    *,
    browser: Annotated[bool, typer.Option("--open", help="Open a browser.")] = False,
) -> None:
    """Browse the history on 127.0.0.1 until Ctrl-C: tables, views and canned queries, read-only.

    Needs Datasette: pip install 'baml-resilience[explore]'
    """
    with exit_on_setup_error():
        path = _file()
    with tempfile.TemporaryDirectory() as folder:
        metadata = Path(folder, "metadata.json")
        metadata.write_text(json.dumps(datasette_metadata(path.stem)))
        raise typer.Exit(_serve([*command(path, metadata, port), *(["--open"] if browser else [])]))


def command(path: Path, metadata: Path, port: int) -> list[str]:
    """Return the command that starts Datasette.

    Datasette listens on loopback only, because it shows all of the history to everyone who can connect. The file is
    opened read-only, but not as `--immutable`: agents write to it, and SQLite would not see their changes.

    Args:
        path: the history's file.
        metadata: a file with what `datasette_metadata` returned.
        port: the port to listen on.
    """
    # Queries are stopped, and facets are not counted unasked, because the agents write to the same file. A download would
    # be a copy without the write-ahead log, that is without the latest rows.
    settings = {"sql_time_limit_ms": str(_QUERY_LIMIT), "allow_download": "off", "suggest_facets": "off"}
    words = [sys.executable, "-m", "datasette", "serve", str(path), "--host", _HOST, "--port", str(port)]
    for name, value in settings.items():
        words += ["--setting", name, value]
    return [*words, "--metadata", str(metadata)]


def datasette_metadata(database: str) -> dict[str, Any]:
    """Return Datasette's metadata: the meaning of each view and column, and one canned query for each view.

    Args:
        database: the name under which Datasette shows the file.
    """
    return {
        "title": "History of calls",
        "description": "Times are UTC, durations seconds.",
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
                "tables": {
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


def _serve(words: list[str]) -> int:
    """Run Datasette until it ends or this process is interrupted.

    Returns:
        Datasette's exit code; 0 after an interruption.
    """
    # SIGTERM reaches only this process, and its default action would leave Datasette running.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with subprocess.Popen(words) as server:  # noqa: S603 - our own interpreter and a file of ours
            try:
                return server.wait()
            except KeyboardInterrupt:
                server.terminate()
                return 0
    finally:
        signal.signal(signal.SIGTERM, previous)
