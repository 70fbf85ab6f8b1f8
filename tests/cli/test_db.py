"""`resilience db` and `resilience history import`, on an SQLite file and on a PostgreSQL server."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.history_places import Place, migrated_file, migrated_postgres, place
from support.history_records import call, error
from support.postgres import asked
from typer.testing import CliRunner, Result

from resilience.cli import app
from resilience.history import Recorder
from resilience.history.schema import migrations, sqlite_hazards
from resilience.logs import JsonLines

__all__ = ["migrated_file", "migrated_postgres", "place"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "baml_src").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RESILIENCE_DATABASE_URL", raising=False)
    return tmp_path


@pytest.fixture
def filled(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A history that the environment names: three errors, one of them a month old, and a call of two hours ago."""
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", place.url)
    recorder, now = Recorder(place.url), datetime.now(UTC)
    old = error(occurred_at=now - timedelta(days=31)), call(started_at=now - timedelta(hours=2))
    for record in (error(), error(), *old):
        recorder.record(record)
    assert recorder.flush(20)
    recorder.close(20)
    return place


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_path_prints_the_file(project: Path) -> None:
    """`db path` prints the embedded database of the project."""
    assert f"{project}/.resilience/resilience.db\n" == run("db", "path").stdout


def test_path_prints_the_url_of_a_server(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`db path` prints the URL of a server without its password: the output may end in a build log."""
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", "postgresql+psycopg://me:hunter2@db/history")

    assert run("db", "path").stdout == "postgresql+psycopg://[credentials]@db/history\n"


def test_upgrade_creates_the_tables(project: Path) -> None:
    """`db upgrade` creates file and tables and prints the revision. A second time it changes nothing."""
    for _ in range(2):
        done = run("db", "upgrade")
        assert (0, f"{migrations.head()}\n") == (done.exit_code, done.stdout)
    assert (project / ".resilience" / "resilience.db").exists()


def test_current_creates_nothing(project: Path) -> None:
    """`db current` prints `none` without tables, else the revision."""
    assert run("db", "current").stdout == "none\n"
    assert not (project / ".resilience").exists()
    run("db", "upgrade")
    assert run("db", "current").stdout == f"{migrations.head()}\n"


def test_a_wrong_setting_is_one_line_and_exit_code_two(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that is not valid is one line, without a traceback."""
    monkeypatch.setenv("RESILIENCE_PRIVACY", "loud")

    done = run("db", "path")

    assert done.exit_code == 2
    assert done.stderr.startswith("resilience: Settings.privacy='loud'")


def test_check_of_a_healthy_database(filled: Place) -> None:
    """The exit code is 0. URL, server, revision, size and rows are printed, for people and as JSON."""
    shown = run("db", "check")
    assert shown.exit_code == 0, shown.output
    assert "errors 3" in shown.stdout
    health = json.loads(run("db", "check", "--json").stdout)

    assert health["revision"] == health["needed"] == migrations.head()
    # The process that recorded the call has left in order.
    assert (1, 0) == (health["rows"]["calls"], health["processes"])
    assert health["size"] > 10_000
    assert health["integrity"] == ("" if filled.server else "ok")
    assert health["server"].startswith("PostgreSQL" if filled.server else "SQLite")
    assert health["problems"] == []


def test_check_of_an_old_database_names_the_remedy(filled: Place) -> None:
    """The exit code is 1. An older database has `db upgrade` as its remedy, a newer one another package."""
    filled.asked("UPDATE resilience_version SET version_num = '0001'")
    old = run("db", "check")
    assert (1, True) == (
        old.exit_code,
        f"problem: revision 0001, this code needs {migrations.head()}: run `resilience db upgrade`"
        in old.stdout,
    )
    filled.asked("UPDATE resilience_version SET version_num = '9999'")
    new = run("db", "check")
    assert (1, True) == (new.exit_code, "upgrade the baml-resilience package" in new.stdout)


def test_check_without_a_database_is_exit_code_two(filled: Place, project: Path) -> None:
    """A database that cannot be reached is exit code 2."""
    filled.shut()
    assert run("db", "check").exit_code == 2
    filled.open()


def test_check_of_a_missing_file_creates_nothing(project: Path) -> None:
    """The message says that there is no history, and none is created."""
    done = run("db", "check")
    assert (2, True) == (done.exit_code, "there is no history" in done.stderr)
    assert not (project / ".resilience").exists()


def test_check_finds_a_damaged_file_and_an_unsafe_one(
    filled: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An overwritten page, a network file system and an SQLite with the reset bug are found: two problems, and a warning as in `doctor`."""
    if filled.server is not None:
        filled.asked("DROP TABLE payloads")
        assert run("db", "check").exit_code == 2
        return
    path = Path(filled.url.removeprefix("sqlite:///"))
    for _ in range(2):
        other = Recorder(filled.url)
        other._writer.instance = type(other._writer.instance)(host="another")
        other.record(error())
        other.flush(20)
        other.close(20)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE instances SET ended_at = NULL")  # as if they were still running
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    content = bytearray(path.read_bytes())
    (root,) = filled.asked("SELECT rootpage FROM sqlite_master WHERE name = 'ix_errors_request_id'")[0]
    (size,) = filled.asked("PRAGMA page_size")[0]
    content[(root - 1) * size : root * size] = b"\xff" * size
    path.write_bytes(content)
    monkeypatch.setattr(sqlite_hazards, "remote", lambda _: "nfs4")
    monkeypatch.setattr("resilience.history.schema.sqlite_driver.has_reset_bug", lambda _: True)

    done = run("db", "check", "--json")
    assert done.exit_code == 1, done.output
    problems = " ".join(json.loads(done.stdout)["problems"])
    assert "damaged" in problems
    assert "nfs4" in problems
    assert "sqlite-fixed" in " ".join(json.loads(done.stdout)["warnings"])


def test_prune_deletes_by_the_retention(filled: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows go after 30 days by default, or as `RESILIENCE_RETENTION__...` says. A second time there is nothing to delete."""
    assert "errors: 1 deleted\n" in run("db", "prune").stdout
    monkeypatch.setenv("RESILIENCE_RETENTION__CALLS", "0.04")  # days: one hour
    deleted = [json.loads(run("db", "prune", "--json").stdout).get("calls") for _ in range(2)]

    assert deleted == [1, None]
    assert filled.asked("SELECT count(*) FROM errors") == [(2,)]


def test_prune_of_a_database_that_is_away_is_exit_code_two(filled: Place) -> None:
    """A database that cannot be reached is exit code 2, without a traceback."""
    filled.shut()
    assert run("db", "prune").exit_code == 2
    filled.open()


def test_vacuum_keeps_every_row(filled: Place) -> None:
    """The database is rewritten, and every row is still there."""
    done = run("db", "vacuum")
    assert done.exit_code == 0, done.output
    assert filled.asked("SELECT count(*) FROM errors") == [(3,)]


def test_a_server_is_upgraded_only_by_command(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server has no tables until `db upgrade` creates them; until then `db check` exits with 1."""
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", postgres_url)
    assert run("db", "current").stdout == "none\n"
    assert run("db", "check").exit_code == 1
    assert run("db", "upgrade").stdout == f"{migrations.head()}\n"
    assert asked(postgres_url, "SELECT version_num FROM resilience_version") == [(migrations.head(),)]


def test_import_inserts_lines_without_a_row(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`history import` counts new and known lines, and names lines it cannot read. These make the exit code 1."""
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", place.url)
    recorder = Recorder(None, sinks=[JsonLines(tmp_path / "logs")])
    for record in (error(), call()):
        recorder.record(record)
    recorder.flush(20)
    recorder.close(20)
    files = [str(tmp_path / "logs" / name) for name in ("errors.jsonl", "operations.jsonl")]

    first = run("history", "import", *files)
    assert (0, "2 new, 0 known, 0 refused") == (first.exit_code, first.stdout.rpartition(",")[0])
    with Path(files[0]).open("a") as torn:
        torn.write('{"ts": "2025')
    again = run("history", "import", "--json", *files)
    assert again.exit_code == 1
    assert (0, 2, 1) == tuple(json.loads(again.stdout)[name] for name in ("new", "known", "refused"))
    assert again.stderr == f"{files[0]}:2: no whole JSON\n"
    assert run("history", "import", "nowhere.jsonl").exit_code == 2
    Path(files[0]).write_text("no log\n" * 100)
    assert len(run("history", "import", files[0]).stderr.splitlines()) == 21


def test_a_command_runs_in_a_process(project: Path) -> None:
    """The command also works as a separate process, as from a shell."""
    command = [sys.executable, "-c", "from resilience.cli import app; app()", "db", "upgrade"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=250, cwd=project)

    assert done.stdout == f"{migrations.head()}\n"
