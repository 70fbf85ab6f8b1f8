"""`resilience explore`: the history in a browser, by Datasette."""

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
from resilience.cli.exit_codes import explained
from resilience.errors import ConfigurationError, HistoryError
from resilience.history.schema import urls
from resilience.history.schema.views import VIEWS

_LIMIT: Final = 1000  # milliseconds a query may take
_HOST: Final = "127.0.0.1"


def explore(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where to listen on 127.0.0.1; 0 is any free port.")
    ] = 8001,
    *,
    browser: Annotated[bool, typer.Option("--open", help="Open a browser.")] = False,
) -> None:
    """Browse the history on 127.0.0.1 until Ctrl-C: tables, views and canned queries, read-only."""
    with explained():
        path = _file()
    with tempfile.TemporaryDirectory() as folder:
        metadata = Path(folder, "metadata.json")
        metadata.write_text(json.dumps(described(path.stem)))
        raise typer.Exit(_serve([*command(path, metadata, port), *(["--open"] if browser else [])]))


def command(path: Path, metadata: Path, port: int) -> list[str]:
    """How Datasette is started: loopback alone, and the file opened read-only, as one that others write to."""
    settings = {"sql_time_limit_ms": str(_LIMIT), "allow_download": "off", "suggest_facets": "off"}
    start = [sys.executable, "-m", "datasette", "serve", str(path), "--host", _HOST, "--port", str(port)]
    for name, value in settings.items():
        start += ["--setting", name, value]
    return [*start, "--metadata", str(metadata)]


def described(database: str) -> dict[str, Any]:
    """What Datasette is told about the file it shows as *database*: what views answer, columns hold, and what one asks."""
    return {
        "title": "History of calls",
        "description": "Times are UTC, durations seconds.",
        "databases": {
            database: {
                "queries": {
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
    """The file to show.

    Raises:
        ConfigurationError: Datasette is not installed.
        HistoryError: the history is not in a file, or there is none yet.
    """
    url = urls.parse(options.database())
    if not urls.is_sqlite(url):
        msg = (
            f"the history is at {urls.shown(url)}, and Datasette reads SQLite alone: ask it with `resilience sql`, "
            "or point psql, Grafana or Metabase at the same views (`resilience sql --views`)"
        )
        raise HistoryError(msg)
    if find_spec("datasette") is None:
        msg = "`resilience explore` needs Datasette: pip install 'baml-resilience[explore]'"
        raise ConfigurationError(msg)
    return urls.path(url)


def _serve(start: list[str]) -> int:
    """Run Datasette until it ends or we are told to; the exit code is its own, or 0 when it was told."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with subprocess.Popen(start) as server:  # noqa: S603 - our own interpreter and a file of ours
            try:
                return server.wait()
            except KeyboardInterrupt:
                server.terminate()
                return 0
    finally:
        signal.signal(signal.SIGTERM, before)
