"""What the rooms warn of while a command runs is told on stderr, by commands alone and without secrets."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from resilience.cli import app
from resilience.config import settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with nothing written down, which is the working directory."""
    for name in settings.all_settings():
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_a_command_tells_what_its_process_warns_of(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs that cannot be written are one line on stderr, and none on stdout, where results are."""
    (project / "taken").touch()
    monkeypatch.setenv("RESILIENCE_LOG_DIR", str(project / "taken"))

    done = run("circuit", "open", "Primary")

    assert 0 == done.exit_code, done.output
    (told,) = (line for line in done.stderr.splitlines() if "log lines are being lost" in line)
    assert told.startswith(f"resilience: log lines are being lost: {project}/taken cannot be written")
    assert "lost" not in done.stdout


def test_events_of_the_bridge_are_no_warnings(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project that sends events to `logging` sends them to handlers of its own, not to the screen of every command."""
    monkeypatch.setenv("RESILIENCE_LOG__BRIDGE", "true")

    done = run("circuit", "open", "Primary")

    assert 0 == done.exit_code, done.output
    assert "breaker.state" not in done.stderr


def test_the_library_is_silent_again_after_the_command(project: Path) -> None:
    """A program that runs a command within its own process keeps the handlers it had."""
    logger = logging.getLogger("resilience")
    before = list(logger.handlers)

    assert 0 == run("config", "show").exit_code
    assert before == logger.handlers


def test_an_error_of_the_set_up_shows_no_password(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages name the database; a password may stand in the query of its URL, too."""
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", "postgresql://127.0.0.1:1/none?user=ann&password=hunter2pw")

    done = run("calls")

    assert 2 == done.exit_code
    assert "password=[secret]" in done.stderr
    assert "hunter2" not in done.output


def test_commands_rotate_logs_as_the_project_says(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another policy than the other processes a command would rotate too soon, and remove what they keep."""
    monkeypatch.setenv("RESILIENCE_LOG_DIR", str(project / "logs"))
    monkeypatch.setenv("RESILIENCE_LOG__MAX_BYTES", "1")

    for operation in ("open", "close"):
        assert 0 == run("circuit", operation, "Primary").exit_code

    assert (project / "logs" / "operations.jsonl.1").exists()
