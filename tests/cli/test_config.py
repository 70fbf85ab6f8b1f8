"""`resilience config show`: values, sources, masked secrets, and one line for a setting that is not valid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from resilience.cli import app

runner = CliRunner()


def shown(*options: str) -> dict[str, dict[str, Any]]:
    done = runner.invoke(app, ["config", "show", "--json", *options])
    assert 0 == done.exit_code, done.output
    return {setting["name"]: setting for setting in json.loads(done.stdout)}


def test_every_value_is_shown_with_its_source(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source names the environment, .env or TOML with the line to edit, or says `default`."""
    (project / "resilience.toml").write_text("[retry]\ndeadline = 30\n")
    (project / ".env").write_text("RESILIENCE_BREAKER__WINDOW=20\n")
    monkeypatch.setenv("RESILIENCE_FALLBACK", "A,B")

    settings = shown()

    assert (30.0, f"deadline of [retry] in {project}/resilience.toml") == (
        settings["retry.deadline"]["value"],
        settings["retry.deadline"]["source"],
    )
    assert (20.0, f"RESILIENCE_BREAKER__WINDOW in {project}/.env") == (
        settings["breaker.window"]["value"],
        settings["breaker.window"]["source"],
    )
    assert (["A", "B"], "the variable RESILIENCE_FALLBACK of the environment") == (
        settings["fallback.clients"]["value"],
        settings["fallback.clients"]["source"],
    )
    assert (3, "default") == (settings["retry.max_retries"]["value"], settings["retry.max_retries"]["source"])


def test_only_what_was_changed(project: Path) -> None:
    """`--changed` leaves settings with their default out."""
    (project / "resilience.toml").write_text('namespace = "blue"\n')

    assert {"namespace"} == set(shown("--changed"))


def test_a_password_is_masked(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL of a store or a database is shown without its password, in the table and in JSON."""
    monkeypatch.setenv("RESILIENCE_REDIS_URL", "redis://agents:h7Ys93kd02Lq@cache:6379/0")
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", "postgresql+psycopg://agents:h7Ys93kd02Lq@db/x")

    outputs = [runner.invoke(app, ["config", "show", *options]).output for options in ([], ["--json"])]

    assert all("cache:6379" in output and "h7Ys93kd02Lq" not in output for output in outputs)


@pytest.mark.parametrize("password", ["h7Ys/93kd", "h7Ys?93kd", "h7Ys#93kd"])
def test_a_password_that_should_have_been_quoted_is_masked(
    project: Path, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    """SQLAlchemy accepts such a URL, so it may be in use. No part of the password is shown."""
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", f"postgresql+psycopg://agents:{password}@db/x")

    output = runner.invoke(app, ["config", "show"]).output

    assert "@db/x" in output
    assert "h7Ys" not in output
    assert "93kd" not in output


def test_a_folder_that_is_gone_is_one_line_and_exit_code_2(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a working directory there is no project to read settings from. The message says so, without a traceback."""
    gone = project / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    done = runner.invoke(app, ["config", "show"])

    assert 2 == done.exit_code
    assert "resilience: the working directory is gone: start in a folder that is there\n" == done.stderr


def test_the_table_names_every_setting_on_a_line_of_its_own(project: Path) -> None:
    """In a pipe no line is wrapped, so that grep finds a setting with its value and source."""
    (project / "resilience.toml").write_text("[retry]\ndeadline = 30\n")

    lines = runner.invoke(app, ["config", "show"]).stdout.splitlines()

    (line,) = [line for line in lines if line.startswith("retry.deadline ")]
    assert ["retry.deadline", "30.0", "deadline", "of", "[retry]", "in"] == line.split()[:6]


def test_a_wrong_value_is_one_line_and_exit_code_2(project: Path) -> None:
    """The message names value, remedy and source; there is no traceback."""
    (project / ".env").write_text("RESILIENCE_RETRY__DEADLINE=soon\n")

    done = runner.invoke(app, ["config", "show"])

    assert 2 == done.exit_code
    assert (
        f"resilience: RESILIENCE_RETRY__DEADLINE='soon': give a number "
        f"(set by RESILIENCE_RETRY__DEADLINE in {project}/.env)\n"
    ) == done.stderr
