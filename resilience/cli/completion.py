"""What the shell completes besides commands and options: names of clients, functions, namespaces and categories.

A completion runs at each press of a key, so three rules hold. It is bounded in time: the names are read on a thread of their own,
and what is not there in time is left out. It never fails: whatever a source raises means no names. And it only looks: a store or a
history that does not exist is not created.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import typer

from resilience.cli.location import use
from resilience.history.sqlite_url import file_of

if TYPE_CHECKING:
    from resilience.config.settings import Settings

LIMIT: Final = 1.5
"""Seconds after which a completion offers the names that it has."""
_META: Final = "resilience.place"
_SAFE: Final = re.compile(r"[\w./@+][\w./@+-]{0,199}")
"""Names that every shell reads as one word, and no command as an option. Names come from rows and stores: one with a command in
it must not reach `eval`."""
_BUSY: Final = 0.2
"""Seconds to wait for a lock on the file of the history."""
_QUERIES: Final = {
    "client": "SELECT DISTINCT client FROM rollups WHERE namespace = :namespace",
    "function": "SELECT DISTINCT function FROM rollups WHERE namespace = :namespace",
    "namespace": "SELECT DISTINCT namespace FROM rollups",
}

Source = Callable[["Settings"], Iterable[str]]


def place_of(context: typer.Context) -> dict[str, str]:
    """Return the values of `--at` and `--namespace` that were given so far, for reading and writing."""
    place: dict[str, str] = context.meta.setdefault(_META, {})
    return place


def clients(context: typer.Context, incomplete: str) -> list[str]:
    """Return the clients of the store and of the history."""
    return _matching(context, incomplete, _clients_of_store, _from_history("client"))


def functions(context: typer.Context, incomplete: str) -> list[str]:
    """Return the BAML functions of the history."""
    return _matching(context, incomplete, _from_history("function"))


def namespaces(context: typer.Context, incomplete: str) -> list[str]:
    """Return the namespaces of the store and of the history."""
    return _matching(context, incomplete, _namespaces_of_store, _from_history("namespace"))


def categories(incomplete: str) -> list[str]:
    """Return the failure categories."""
    from resilience.failure import ErrorCategory  # noqa: PLC0415 - only this completion needs it

    return [category.value for category in ErrorCategory if category.value.startswith(incomplete)]


def _matching(context: typer.Context, incomplete: str, *sources: Source) -> list[str]:
    """Return the names that begin with *incomplete*, sorted: those that were read within the limit."""
    names, place = set[str](), dict(place_of(context))
    # A daemon: one that still waits for a server does not keep the process from ending.
    reader = threading.Thread(target=_read, args=(place, sources, names.update), daemon=True)
    reader.start()
    reader.join(LIMIT)
    return sorted(name for name in names.copy() if name.startswith(incomplete) and _SAFE.fullmatch(name))


def _read(place: dict[str, str], sources: Iterable[Source], found: Callable[[Iterable[str]], None]) -> None:
    from resilience.config.settings import Settings  # noqa: PLC0415 - completing a command needs none

    disabled, restore = logging.root.manager.disable, None
    logging.disable(logging.CRITICAL)
    # Whatever is printed would stand in the middle of the line that is typed.
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            restore = use(place.get("at"), place.get("namespace"))
            settings = Settings().complete()
            for source in sources:
                with contextlib.suppress(Exception):
                    found(tuple(source(settings)))
        except Exception:  # noqa: BLE001, S110 - no names
            pass
        finally:
            logging.disable(disabled)
            if restore is not None:
                restore()


def _clients_of_store(settings: Settings) -> Iterable[str]:
    store = settings.circuit_store
    if store.missing_file or not store.shared:
        return ()
    with contextlib.closing(store.open(namespace=settings.namespace)) as opened:
        return opened.names()


def _namespaces_of_store(settings: Settings) -> Iterable[str]:
    store = settings.circuit_store
    if store.missing_file or not store.shared:
        return ()
    with contextlib.closing(store.open_whole()) as opened:
        return opened.namespaces()


def _from_history(column: str) -> Source:
    """Return a function that reads a column of the roll-ups, which are few rows and kept long."""

    def read(settings: Settings) -> Iterable[str]:
        if not settings.keeps_history:
            return ()
        url, query, namespace = settings.database_url or "", _QUERIES[column], settings.namespace or ""
        file = file_of(url)
        if file is None:
            if url.startswith("sqlite"):
                return ()  # a URL with options: opening it might create the file
            from resilience.history import SyncHistory  # noqa: PLC0415 - SQLAlchemy, which a file does not need

            return [row[0] for row in SyncHistory(url, namespace).sql(query, {"namespace": namespace}).rows]
        if not file.is_file():
            return ()
        import sqlite3  # noqa: PLC0415 - as above

        # `rw` creates no file. `ro` would leave the two files of the write-ahead log behind.
        uri = f"{file.as_uri()}?mode=rw"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY)) as connection:
            connection.execute("PRAGMA query_only=ON")
            return [row[0] for row in connection.execute(query, {"namespace": namespace})]

    return read
