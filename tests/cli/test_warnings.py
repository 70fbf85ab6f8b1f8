"""Warnings of the library: commands print them on standard error, only while they run, and without secrets."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from resilience.cli import app


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_a_command_prints_the_warnings_of_its_process(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs that cannot be written are one line on standard error. Standard output has only results."""
    (project / "taken").touch()
    monkeypatch.setenv("RESILIENCE_LOG_DIR", str(project / "taken"))

    done = run("circuit", "open", "Primary", "--new", "--create")

    assert 0 == done.exit_code, done.output
    (warning,) = (line for line in done.stderr.splitlines() if "log lines are being lost" in line)
    assert warning.startswith(f"resilience: log lines are being lost: {project}/taken cannot be written")
    assert "lost" not in done.stdout


def test_events_of_the_bridge_are_no_warnings(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project that sends events to `logging` has handlers for them. Commands do not print these events."""
    monkeypatch.setenv("RESILIENCE_LOG__BRIDGE", "true")

    done = run("circuit", "open", "Primary", "--new", "--create")

    assert 0 == done.exit_code, done.output
    assert "breaker.state" not in done.stderr


def test_the_library_is_silent_again_after_the_command(project: Path) -> None:
    """A program that runs a command in its own process has the same log handlers before and after."""
    logger = logging.getLogger("resilience")
    before = list(logger.handlers)

    assert 0 == run("config", "show").exit_code
    assert before == logger.handlers


def test_an_error_of_the_set_up_shows_no_password(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages name the database, and its URL may have the password in its query."""
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", "postgresql://127.0.0.1:1/none?user=ann&password=hunter2pw")

    done = run("calls")

    assert 2 == done.exit_code
    assert "password=[secret]" in done.stderr
    assert "hunter2" not in done.output


def test_commands_rotate_logs_as_the_project_says(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command rotates by the policy of the project: with another it would remove files that the agents keep."""
    monkeypatch.setenv("RESILIENCE_LOG_DIR", str(project / "logs"))
    monkeypatch.setenv("RESILIENCE_LOG__MAX_BYTES", "1")

    for operation in ("open", "close"):
        assert 0 == run("circuit", operation, "Primary", "--new", "--create").exit_code

    assert (project / "logs" / "operations.jsonl.1").exists()
