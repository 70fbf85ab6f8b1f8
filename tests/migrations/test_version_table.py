"""The revision of an SQLite file: in a table of our own, whatever an application keeps in the same file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from resilience.errors import HistoryError
from resilience.history import SyncHistory, admin
from resilience.history.schema import migrations


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shared.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


def run(path: Path, *statements: str) -> list[tuple[object, ...]]:
    """Run statements, and return the rows of the last."""
    with closing(sqlite3.connect(path)) as connection, connection:
        rows: list[tuple[object, ...]] = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows


def tables(path: Path) -> set[object]:
    """Return the names of all tables."""
    return {name for (name,) in run(path, "SELECT name FROM sqlite_master WHERE type = 'table'")}


def make_first_edition(url: str, path: Path, revision: str) -> None:
    """Create a file as the first edition left it at *revision*, with one row."""
    migrations.upgrade(url)
    migrations.downgrade(url, revision)
    run(
        path,
        "ALTER TABLE resilience_version RENAME TO alembic_version",
        "INSERT INTO instances (instance_id, service, host, pid, version, started_at, heartbeat_at, dropped_events)"
        " VALUES ('a', '', 'h', 1, '0', '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000', 0)",
    )


@pytest.mark.parametrize("revision", ["0001", "0002", "0003"])
def test_a_file_of_the_first_edition_is_adopted(url: str, path: Path, revision: str) -> None:
    """Its rows stay, its revision moves to our table, and `alembic_version` is free for others."""
    make_first_edition(url, path, revision)
    assert migrations.current(url) == revision
    assert "resilience_version" not in tables(path)
    migrations.upgrade(url)

    assert migrations.current(url) == migrations.head()
    assert "alembic_version" not in tables(path)
    assert run(path, "SELECT instance_id FROM instances") == [("a",)]


def test_the_row_of_an_application_stays_in_an_adopted_file(url: str, path: Path) -> None:
    """Our revision leaves `alembic_version`, and the application's stays."""
    make_first_edition(url, path, "0003")
    run(path, "INSERT INTO alembic_version VALUES ('ae1027a6acf0')")
    migrations.upgrade(url)

    assert migrations.current(url) == migrations.head()
    assert run(path, "SELECT version_num FROM alembic_version") == [("ae1027a6acf0",)]


@pytest.mark.parametrize("revision", ["ae1027a6acf0", "0001", "0003", "9999"])
def test_the_file_of_an_application_is_not_taken_for_ours(url: str, path: Path, revision: str) -> None:
    """An `alembic_version` without tables of ours is another program's, whatever its number: it stays as it is."""
    run(
        path,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)",
        f"INSERT INTO alembic_version VALUES ('{revision}')",  # noqa: S608 - a number of this test
        "CREATE TABLE customers (id INTEGER PRIMARY KEY)",
    )
    assert migrations.current(url) is None
    migrations.upgrade(url)

    assert migrations.current(url) == migrations.head()
    assert run(path, "SELECT version_num FROM alembic_version") == [(revision,)]
    assert {"customers", "calls", "errors", "resilience_version"} <= tables(path)


def test_a_table_of_an_application_with_a_name_of_ours_is_an_error(url: str, path: Path) -> None:
    """Nothing is changed, and the error says to give the history a file of its own."""
    run(path, "CREATE TABLE calls (id INTEGER PRIMARY KEY, phone TEXT)")

    with pytest.raises(
        HistoryError,
        match="calls already exists and is not ours: give RESILIENCE_DATABASE_URL a file of its own",
    ):
        migrations.upgrade(url)
    assert tables(path) == {"calls"}


@pytest.mark.parametrize("statement", ["DELETE FROM resilience_version", "DROP TABLE resilience_version"])
def test_a_history_without_its_revision_is_no_stranger(url: str, path: Path, statement: str) -> None:
    """Neither the upgrade nor the check takes it for a file of an application, and both name the same remedy."""
    migrations.upgrade(url)
    run(path, statement)

    with pytest.raises(HistoryError, match="row with their revision is missing: put back a copy of the file"):
        migrations.upgrade(url)
    (problem,) = admin.check(url).problems
    assert "put back a copy of the file" in problem


def test_a_reader_of_a_file_of_the_first_edition_changes_nothing(url: str, path: Path) -> None:
    """Reading works before a writer adopts the file."""
    make_first_edition(url, path, migrations.head())
    assert SyncHistory(url).errors() == []

    assert "alembic_version" in tables(path)
