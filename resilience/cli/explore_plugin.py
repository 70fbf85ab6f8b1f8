"""The plugin that Datasette loads, which puts a `TokenGuard` in front of it.

Every Datasette of an environment loads the plugins that are installed there. So this one does nothing unless the metadata asks for it, as that
of `resilience explore` does.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any

from resilience.cli.explore_guard import PLUGIN, TokenGuard

_datasette: Any = importlib.import_module("datasette")  # an optional dependency without types


@_datasette.hookimpl  # type: ignore[untyped-decorator]  # as above
def asgi_wrapper(datasette: Any) -> Callable[[Any], Any]:
    """Return what wraps the application: the guard, or nothing for a Datasette that is not ours."""
    if datasette.plugin_config(PLUGIN) is None:
        return _unguarded
    # The terminal has the address to open. A line for each request would push it out of sight.
    for name in ("uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).addFilter(_is_trouble)
    return TokenGuard


@_datasette.hookimpl  # type: ignore[untyped-decorator]  # as above
def prepare_connection(conn: Any, datasette: Any) -> None:
    """Let a connection read bytes as text, as all other commands do. Only damaged rows have bytes.

    Datasette links bytes by the rowid of their row, and fails at a view, which has none: its page is an error, and its CSV ends there.
    """
    if datasette.plugin_config(PLUGIN) is not None:
        row = conn.row_factory  # of the SQLite module that Datasette has chosen
        conn.row_factory = lambda cursor, values: row(cursor, tuple(map(_readable, values)))


def _readable(value: Any) -> Any:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def _is_trouble(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def _unguarded(application: Any) -> Any:
    return application
