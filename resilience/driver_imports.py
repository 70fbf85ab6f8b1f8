"""The import of SQLAlchemy, the drivers and tenacity, when a handler is made.

They are large, so `from resilience import protect` does not import them. No background thread imports them either, though that would
be quicker: their modules import one another in circles. Where two threads begin with different parts at the same time, each waits for
the other, and Python ends that by handing out modules that are not complete. An application whose own first
`import sqlalchemy.engine`, `redis.client` or `psycopg.rows` ran at that moment got an ImportError each time it was tried.
So the thread that makes a handler imports them. That is the start of a program, usually outside of an event loop. The one exception is a
`Recorder` that a program makes without a handler: its writer thread imports SQLAlchemy.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import suppress

from resilience import lifecycle
from resilience.breaker.stores.store_url import StoreKind
from resilience.config.settings import Settings
from resilience.errors import ConfigurationError
from resilience.history import database_url
from resilience.history.database_url import DatabaseUrl


def import_drivers(settings: Settings) -> None:
    """Import what the circuits and the history of *settings* need.

    A driver that is not installed is left out, and so is a URL that cannot be read: the first use of either says so.
    """
    for name in _modules(settings):
        with lifecycle.importing(), suppress(ImportError):
            importlib.import_module(name)


def _modules(settings: Settings) -> Iterator[str]:
    yield "tenacity"
    with suppress(ConfigurationError):
        if settings.circuit_store.kind is StoreKind.REDIS:
            yield "resilience.breaker.stores.redis"
    if settings.keeps_history and settings.database_url is not None:
        yield "resilience.history.store.database"
        with suppress(ConfigurationError):
            yield from _dialect(database_url.check(settings.database_url))


def _dialect(url: DatabaseUrl) -> tuple[str, ...]:
    if url.is_sqlite:
        return ("sqlalchemy.dialects.sqlite",)
    return ("sqlalchemy.dialects.postgresql.psycopg", "psycopg")
