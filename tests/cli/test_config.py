"""`resilience config show`: values, sources, masks, and one line for what cannot work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from resilience.cli import app
from resilience.config import settings

runner = CliRunner()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with nothing written down, which is the working directory."""
    for name in settings.all_settings():
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(*options: str) -> dict[str, dict[str, Any]]:
    ended = runner.invoke(app, ["config", "show", "--json", *options])
    assert 0 == ended.exit_code, ended.output
    return {each["name"]: each for each in json.loads(ended.stdout)}


def test_every_value_is_shown_with_its_place(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults, the environment, .env and TOML are told apart."""
    (project / "resilience.toml").write_text("[retry]\ndeadline = 30\n")
    (project / ".env").write_text("RESILIENCE_BREAKER__WINDOW=20\n")
    monkeypatch.setenv("RESILIENCE_FALLBACK", "A,B")

    found = shown()

    assert (30.0, f"deadline of [retry] in {project}/resilience.toml") == (
        found["retry.deadline"]["value"],
        found["retry.deadline"]["source"],
    )
    assert (20.0, f"RESILIENCE_BREAKER__WINDOW in {project}/.env") == (
        found["breaker.window"]["value"],
        found["breaker.window"]["source"],
    )
    assert (["A", "B"], "the variable RESILIENCE_FALLBACK of the environment") == (
        found["fallback.clients"]["value"],
        found["fallback.clients"]["source"],
    )
    assert (3, "default") == (found["retry.max_retries"]["value"], found["retry.max_retries"]["source"])


def test_only_what_was_changed(project: Path) -> None:
    """`--changed` leaves the defaults out."""
    (project / "resilience.toml").write_text('namespace = "blue"\n')

    assert {"namespace"} == set(shown("--changed"))


def test_a_password_is_masked(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL of a store or database is shown without its password, in the table and in JSON."""
    monkeypatch.setenv("RESILIENCE_REDIS_URL", "redis://agents:h7Ys93kd02Lq@cache:6379/0")
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", "postgresql+psycopg://agents:h7Ys93kd02Lq@db/x")

    outputs = [runner.invoke(app, ["config", "show", *more]).output for more in ([], ["--json"])]

    assert all("cache:6379" in output and "h7Ys93kd02Lq" not in output for output in outputs)


@pytest.mark.parametrize("password", ["h7Ys/93kd", "h7Ys?93kd", "h7Ys#93kd"])
def test_a_password_that_should_have_been_quoted_is_masked(
    project: Path, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    """SQLAlchemy takes such a URL, so it may be in use; no part of the password is shown."""
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", f"postgresql+psycopg://agents:{password}@db/x")

    output = runner.invoke(app, ["config", "show"]).output

    assert "@db/x" in output
    assert "h7Ys" not in output
    assert "93kd" not in output


def test_a_folder_that_is_gone_is_one_line_and_exit_code_2(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings cannot be looked for where the working directory was removed; that is said, without a traceback."""
    gone = project / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    ended = runner.invoke(app, ["config", "show"])

    assert 2 == ended.exit_code
    assert "resilience: the working directory is gone: start in a folder that is there\n" == ended.stderr


def test_the_table_names_every_setting_on_a_line_of_its_own(project: Path) -> None:
    """In a pipe nothing is wrapped, so that grep finds a setting with its value and place."""
    (project / "resilience.toml").write_text("[retry]\ndeadline = 30\n")

    lines = runner.invoke(app, ["config", "show"]).stdout.splitlines()

    (line,) = [line for line in lines if line.startswith("retry.deadline ")]
    assert ["retry.deadline", "30.0", "deadline", "of", "[retry]", "in"] == line.split()[:6]


def test_a_wrong_value_is_one_line_and_exit_code_2(project: Path) -> None:
    """The message names value, remedy and place; there is no traceback."""
    (project / ".env").write_text("RESILIENCE_RETRY__DEADLINE=soon\n")

    ended = runner.invoke(app, ["config", "show"])

    assert 2 == ended.exit_code
    assert (
        f"resilience: RESILIENCE_RETRY__DEADLINE='soon': give a number "
        f"(set by RESILIENCE_RETRY__DEADLINE in {project}/.env)\n"
    ) == ended.stderr
