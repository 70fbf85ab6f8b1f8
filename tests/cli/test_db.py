"""`resilience db`: where the history is, and its upgrade."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from resilience.cli import app
from resilience.history import schema


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "baml_src").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RESILIENCE_DATABASE_URL", raising=False)
    return tmp_path


def test_path_prints_the_file(project: Path) -> None:
    """`db path` prints the embedded database of the project."""
    assert f"{project}/.resilience/resilience.db\n" == CliRunner().invoke(app, ["db", "path"]).stdout


def test_path_prints_the_url_of_a_server(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`db path` prints a database server's URL as it is."""
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", "postgresql+psycopg://db/history")

    assert CliRunner().invoke(app, ["db", "path"]).stdout == "postgresql+psycopg://db/history\n"


def test_upgrade_makes_the_tables(project: Path) -> None:
    """`db upgrade` creates file and tables and prints the version; a second time changes nothing."""
    for _ in range(2):
        done = CliRunner().invoke(app, ["db", "upgrade"])
        assert (0, f"{schema.head()}\n") == (done.exit_code, done.stdout)
    assert (project / ".resilience" / "resilience.db").exists()


def test_a_wrong_setting_is_one_line_and_exit_code_two(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong variable is told without a traceback."""
    monkeypatch.setenv("RESILIENCE_PRIVACY", "loud")

    done = CliRunner().invoke(app, ["db", "path"])

    assert done.exit_code == 2
    assert done.stderr.startswith("resilience: Settings.privacy='loud'")
