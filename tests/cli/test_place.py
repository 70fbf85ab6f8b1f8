"""The options before a command, and commands that are imported when they run."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer
from support.history_table_rows import keep
from typer.testing import CliRunner

from resilience.cli import COMMANDS, app
from resilience.history.schema import migrations


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a history of one error."""
    url = f"sqlite:///{tmp_path}/elsewhere/resilience.db"
    (tmp_path / "elsewhere").mkdir()
    migrations.upgrade(url)
    keep(url, "errors", {"message": "found here"})
    return tmp_path / "elsewhere"


def test_a_folder_a_file_and_a_url_are_places(folder: Path) -> None:
    """`--at` takes each of them, and the environment of the program that ran the command is as before."""
    before = dict(os.environ)
    places = (str(folder), str(folder / "resilience.db"), f"sqlite:///{folder}/resilience.db")
    outputs = [CliRunner().invoke(app, ["--at", place, "errors"]).stdout for place in places]

    assert [True] * 3 == ["found here" in output for output in outputs]
    assert before == dict(os.environ)


def test_the_circuits_of_a_file_are_those_beside_it(folder: Path) -> None:
    """A history named by its file brings its circuits: those of the present project would not belong to it."""
    done = CliRunner().invoke(app, ["circuit", "list", "--at", str(folder / "resilience.db")])

    assert f"at sqlite:///{folder}/circuits.db" in done.stdout


def test_a_project_is_a_place(folder: Path, tmp_path: Path) -> None:
    """`--at` a project's folder reads as if the command ran there, and the working directory is as before."""
    (tmp_path / "project" / ".resilience").mkdir(parents=True)
    (tmp_path / "project" / "pyproject.toml").touch()
    (folder / "resilience.db").rename(tmp_path / "project" / ".resilience" / "resilience.db")
    before = Path.cwd()
    done = CliRunner().invoke(app, ["--at", str(tmp_path / "project"), "errors"])

    assert "found here" in done.stdout, done.output
    assert before == Path.cwd()


def test_a_place_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """The exit code is 2, and the message names the place."""
    done = CliRunner().invoke(app, ["--at", str(tmp_path / "nowhere"), "errors"])

    assert (2, True) == (done.exit_code, "does not exist" in done.stderr)


def test_a_namespace_before_the_command(folder: Path) -> None:
    """`--namespace` is the deployment whose circuits are listed."""
    with closing(sqlite3.connect(folder / "circuits.db")):
        pass
    done = CliRunner().invoke(app, ["--at", str(folder), "--namespace", "blue", "circuit", "list"])

    assert "no circuit has been used yet in namespace 'blue'" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["errors", "--at", "PLACE"],
        ["errors", "list", "--at=PLACE"],
        ["errors", "--at", "PLACE", "list", "--namespace", "resilience"],
        ["--at", "elsewhere", "--namespace", "other", "errors", "--at", "PLACE", "--namespace=resilience"],
    ],
)
def test_a_place_after_the_command(
    arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two options stand behind a command, too, and win over those in front; the environment is as before."""
    monkeypatch.chdir(folder.parent)
    before = dict(os.environ), Path.cwd()
    done = CliRunner().invoke(app, [word.replace("PLACE", str(folder)) for word in arguments])

    assert "found here" in done.stdout, done.output
    assert before == (dict(os.environ), Path.cwd())


def test_a_place_without_its_value_is_refused() -> None:
    """The message is that of the option, and the default command is not taken for a folder."""
    done = CliRunner().invoke(app, ["errors", "--at"])

    assert (2, True, False) == (done.exit_code, "requires an argument" in done.stderr, "list" in done.stderr)


def test_help_names_every_option_that_works() -> None:
    """`errors --help` has the options of its default command, and every command those of the place."""
    helped = CliRunner().invoke(app, ["errors", "--help"], env={"COLUMNS": "200"}).output
    ordered = CliRunner().invoke(app, ["circuit", "open", "--help"], env={"COLUMNS": "200"}).output

    assert [] == [option for option in ("--client", "--output", "--at", "timeline") if option not in helped]
    assert [] == [option for option in ("--at", "--namespace") if option not in ordered]


def test_a_terminal_that_is_ascii_gets_escapes(folder: Path) -> None:
    """A name beyond its characters ends no command: it is shown as an escape."""
    keep(f"sqlite:///{folder}/resilience.db", "errors", {"client": "Zürich"})
    done = CliRunner(charset="ascii").invoke(app, ["errors", "--at", str(folder)])

    assert (0, True) == (done.exit_code, "Z\\xfcrich" in done.stdout), done.output


def test_the_version() -> None:
    """`--version` prints it and ends."""
    done = CliRunner().invoke(app, ["--version"])

    assert (0, "resilience ") == (done.exit_code, done.stdout[:11])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_summary_begins_the_commands_own_help(name: str) -> None:
    """The list of commands is printed without importing them, and says what they say themselves."""
    helped = " ".join(CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "400"}).output.split())

    assert COMMANDS[name].summary in helped


def test_no_help_text_is_eaten_as_markup() -> None:
    """Rich takes a word in brackets for its markup and prints nothing for it, so no help text has one."""

    def texts(command: Any) -> Iterator[str]:
        yield from (command.help or "", *(getattr(item, "help", None) or "" for item in command.params))
        for each in getattr(command, "commands", {}).values():
            yield from texts(each)

    assert [] == [text for text in texts(typer.main.get_command(app)) if re.search(r"\[[a-z#/@]", text)]


def test_the_list_of_commands_imports_none() -> None:
    """Help and the version need no database driver and no Redis."""
    program = (
        "import sys; from typer.testing import CliRunner; from resilience.cli import app; "
        "assert 'simulate' in CliRunner().invoke(app, ['--help']).output; "
        "print(*{'sqlalchemy', 'redis', 'baml_py'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=250
    )

    assert "\n" == done.stdout
