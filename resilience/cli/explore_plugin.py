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
def render_cell(value: Any, datasette: Any) -> str | None:
    """Return what a cell with bytes shows: a text, as in all other commands. All else is left to Datasette.

    Only a damaged row has bytes. Datasette would link them by the rowid, and fails at a view, which has none.
    """
    if not isinstance(value, bytes) or datasette.plugin_config(PLUGIN) is None:
        return None
    longest = datasette.setting("truncate_cells_html")
    text = value.decode(errors="backslashreplace")
    return text if len(text) <= longest else f"{text[:longest]}…"


def _is_trouble(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def _unguarded(application: Any) -> Any:
    return application
