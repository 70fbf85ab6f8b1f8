"""`resilience db` and `resilience history import`, on a file and on a server."""

from __future__ import annotations

import json
import subprocess
import sys
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
def kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A history with three errors, one of them a month old, and a call of two hours ago, which the environment names."""
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
    """`db path` prints a database server's URL, and no password: what it prints ends in terminals and build logs."""
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", "postgresql+psycopg://me:hunter2@db/history")

    assert run("db", "path").stdout == "postgresql+psycopg://me:***@db/history\n"


def test_upgrade_makes_the_tables(project: Path) -> None:
    """`db upgrade` creates file and tables and prints the version; a second time changes nothing."""
    for _ in range(2):
        done = run("db", "upgrade")
        assert (0, f"{migrations.head()}\n") == (done.exit_code, done.stdout)
    assert (project / ".resilience" / "resilience.db").exists()


def test_current_creates_nothing(project: Path) -> None:
    """`db current` says `none` where there is none, and the revision where there is one."""
    assert run("db", "current").stdout == "none\n"
    assert not (project / ".resilience").exists()
    run("db", "upgrade")
    assert run("db", "current").stdout == f"{migrations.head()}\n"


def test_a_wrong_setting_is_one_line_and_exit_code_two(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong variable is told without a traceback."""
    monkeypatch.setenv("RESILIENCE_PRIVACY", "loud")

    done = run("db", "path")

    assert done.exit_code == 2
    assert done.stderr.startswith("resilience: Settings.privacy='loud'")


def test_check_of_a_healthy_database(kept: Place) -> None:
    """Exit code 0; where, which software, revision, size and rows, for people and as JSON."""
    told = run("db", "check")
    assert told.exit_code == 0, told.output
    assert "errors 3" in told.stdout
    health = json.loads(run("db", "check", "--json").stdout)

    assert health["revision"] == health["needed"] == migrations.head()
    assert health["rows"]["calls"] == health["processes"] == 1
    assert health["size"] > 10_000
    assert health["integrity"] == ("" if kept.server else "ok")
    assert health["server"].startswith("PostgreSQL" if kept.server else "SQLite")
    assert health["problems"] == []


def test_check_of_an_old_database_names_the_remedy(kept: Place) -> None:
    """Exit code 1 and the command, for an older one; another remedy for a newer one."""
    kept.asked("UPDATE alembic_version SET version_num = '0001'")
    old = run("db", "check")
    assert (1, True) == (
        old.exit_code,
        f"problem: revision 0001, this code needs {migrations.head()}: run `resilience db upgrade`"
        in old.stdout,
    )
    kept.asked("UPDATE alembic_version SET version_num = '9999'")
    new = run("db", "check")
    assert (1, True) == (new.exit_code, "upgrade the baml-resilience package" in new.stdout)


def test_check_without_a_database_is_exit_code_two(kept: Place, project: Path) -> None:
    """It cannot be reached, or is not there: one line, nothing made."""
    kept.shut()
    assert run("db", "check").exit_code == 2
    kept.open()


def test_check_of_nothing_makes_nothing(project: Path) -> None:
    """No file yet is told, and none is made."""
    done = run("db", "check")
    assert (2, True) == (done.exit_code, "there is no history" in done.stderr)
    assert not (project / ".resilience").exists()


def test_check_finds_a_damaged_file_and_a_bad_place(
    kept: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file with a page overwritten, on a network file system, shared with the wrong SQLite: all three are told."""
    if kept.server is not None:
        kept.asked("DROP TABLE payloads")
        assert run("db", "check").exit_code == 2
        return
    path = Path(kept.url.removeprefix("sqlite:///"))
    for _ in range(2):
        other = Recorder(kept.url)
        other._writer.instance = type(other._writer.instance)(host="another")
        other.record(error())
        other.flush(20)
        other.close(20)
    content = bytearray(path.read_bytes())
    (root,) = kept.asked("SELECT rootpage FROM sqlite_master WHERE name = 'ix_errors_request_id'")[0]
    content[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    monkeypatch.setattr(sqlite_hazards, "remote", lambda _: "nfs4")
    monkeypatch.setattr("resilience.history.schema.sqlite_driver.has_reset_bug", lambda _: True)

    done = run("db", "check", "--json")
    assert done.exit_code == 1, done.output
    told = " ".join(json.loads(done.stdout)["problems"])
    assert "damaged" in told
    assert "nfs4" in told
    assert "sqlite-fixed" in told


def test_prune_deletes_what_retention_says(kept: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default after 30 days, else as `RESILIENCE_RETENTION__...` has it; a second time there is nothing."""
    assert "errors: 1 deleted\n" in run("db", "prune").stdout
    monkeypatch.setenv("RESILIENCE_RETENTION__CALLS", "0.04")  # days: one hour
    gone = [json.loads(run("db", "prune", "--json").stdout).get("calls") for _ in range(2)]

    assert gone == [1, None]
    assert kept.asked("SELECT count(*) FROM errors") == [(2,)]


def test_prune_of_a_database_that_is_away_is_exit_code_two(kept: Place) -> None:
    """One line and no traceback."""
    kept.shut()
    assert run("db", "prune").exit_code == 2
    kept.open()


def test_vacuum_makes_the_database_smaller(kept: Place) -> None:
    """It may be built anew at any time, and keeps what it has."""
    done = run("db", "vacuum")
    assert done.exit_code == 0, done.output
    assert kept.asked("SELECT count(*) FROM errors") == [(3,)]


def test_a_server_is_upgraded_when_it_is_told(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`db upgrade` makes the tables of a server; until then records wait and the command is named, without a password."""
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", postgres_url)
    assert run("db", "current").stdout == "none\n"
    assert run("db", "check").exit_code == 1
    assert run("db", "upgrade").stdout == f"{migrations.head()}\n"
    assert asked(postgres_url, "SELECT version_num FROM alembic_version") == [(migrations.head(),)]


def test_import_brings_back_what_a_killed_process_left(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`history import` counts what was new and known, names bad lines on stderr, and says by its exit code if there were any."""
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


def test_the_commands_are_there_from_a_shell(project: Path) -> None:
    """As a process of its own, which is how an installed wheel is used."""
    words = [sys.executable, "-c", "from resilience.cli import app; app()", "db", "upgrade"]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=90, cwd=project)

    assert done.stdout == f"{migrations.head()}\n"
