"""Databases for tests of the history, one of each kind: migrated once, and copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from resilience.history.schema import migrations
from resilience.history.schema.sqlite_driver import module as sqlite3
from support.postgres import Postgres, asked, fresh


@dataclass(frozen=True)
class Place:
    """A migrated database, which a test may query past the history."""

    url: str
    server: Postgres | None = None

    def asked(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of *query*."""
        if self.server is not None:
            return asked(self.url, query)
        with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as connection, connection:
            return list(connection.execute(query))

    def shut(self) -> None:
        """Make the database unavailable."""
        if self.server is not None:
            self.server.shut(self.url)
        else:
            Path(self.url.removeprefix("sqlite:///")).rename(self.url.removeprefix("sqlite:///") + ".away")
            Path(self.url.removeprefix("sqlite:///")).mkdir()

    def open(self) -> None:
        """Make the database available again."""
        if self.server is not None:
            self.server.open(self.url)
        else:
            Path(self.url.removeprefix("sqlite:///")).rmdir()
            Path(self.url.removeprefix("sqlite:///") + ".away").rename(self.url.removeprefix("sqlite:///"))


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite history without records."""
    path = tmp_path_factory.mktemp("migrated") / "resilience.db"
    migrations.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Postgres) -> Iterator[str]:
    """A PostgreSQL history without records."""
    with fresh(postgres) as url:
        migrations.upgrade(url)
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A migrated database of each kind, without records."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "resilience.db")
        yield Place(f"sqlite:///{tmp_path}/resilience.db")
        return
    server = request.getfixturevalue("postgres")
    with fresh(server, request.getfixturevalue("migrated_postgres")) as url:
        yield Place(url, server)
