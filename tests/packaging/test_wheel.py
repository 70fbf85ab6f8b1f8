"""The wheel alone, in a clean environment without the source tree. Run by `.ci/run`; needs the package index."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
COMMANDS = ("resilience", "baml-resilience")


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command without the source tree in its environment, and return its standard output."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PYTHONPATH", "VIRTUAL_ENV"} and not name.startswith("RESILIENCE_")
    }
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    out = tmp_path_factory.mktemp("dist")
    run("uv", "build", "--wheel", "--out-dir", out, ROOT, cwd=out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a clean environment (`venv`) that has only the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("clean")
    python = folder / "venv/bin/python"
    constraints = ROOT / "constraints.txt"
    run("uv", "venv", "--quiet", "--seed", folder / "venv", cwd=folder)
    run("uv", "pip", "install", "--quiet", "--python", python, "-c", constraints, wheel, cwd=folder)
    return folder


def test_the_wheel_holds_what_it_needs_and_nothing_else(wheel: Path) -> None:
    """Types marker, Lua, migrations and BAML sources are inside; tests, generated clients and lock files are not."""
    names = zipfile.ZipFile(wheel).namelist()

    for needed in (
        "resilience/py.typed",
        "resilience/breaker/stores/step.lua",
        "resilience/_migrations/env.py",
        "resilience/demo/baml_src/functions.baml",
    ):
        assert needed in names
    assert {path.name for path in (ROOT / "migrations" / "versions").glob("0*.py")} == {
        name.rpartition("/")[2] for name in names if name.startswith("resilience/_migrations/versions/0")
    }
    assert not [
        name
        for name in names
        if name.startswith(("tests", "benchmarks", "docs", "examples"))
        or "baml_client/" in name
        or name.endswith(".lock")
    ]


def test_the_distribution_has_its_own_name_and_both_commands(wheel: Path, installed: Path) -> None:
    """It is `baml-resilience`, the package it brings is `resilience`, and both names of the command start it."""
    assert wheel.name.startswith(f"baml_resilience-{VERSION}-")
    script = (
        "import importlib.metadata as m, resilience; print(m.version('baml-resilience'), resilience.__file__)"
    )
    version, _, file = run(installed / "venv/bin/python", "-c", script, cwd=installed).partition(" ")
    assert VERSION == version
    assert Path(file.strip()).is_relative_to(installed / "venv")

    shown = [run(installed / "venv/bin" / command, "--help", cwd=installed) for command in COMMANDS]

    assert all("circuit" in text and "demo" in text for text in shown)


def test_every_module_can_be_imported_from_the_wheel(installed: Path) -> None:
    """Without extras only the plugins of pytest and Datasette, its server, the spans and the metrics' encoding miss what they import."""
    script = (
        "import importlib, pkgutil, resilience\n"
        "for module in pkgutil.walk_packages(resilience.__path__, 'resilience.'):\n"
        "    if '._migrations' not in module.name:\n"
        "        try:\n"
        "            importlib.import_module(module.name)\n"
        "        except ModuleNotFoundError as missing:\n"
        "            print(module.name, missing.name)\n"
    )

    missing = run(installed / "venv/bin/python", "-W", "error", "-c", script, cwd=installed).splitlines()

    assert {"pytest", "datasette", "uvicorn", "opentelemetry", "prometheus_client"} == {
        line.split()[1] for line in missing
    }


def test_a_command_without_its_extra_names_it(installed: Path) -> None:
    """What needs an extra is one line with the command that installs it, and exit code 2."""
    folder = installed / "extras"
    folder.mkdir()
    command = [str(installed / "venv/bin/resilience"), "metrics"]

    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    assert (2, 1) == (done.returncode, len(done.stderr.splitlines())), done.stderr
    assert "pip install 'baml-resilience[prometheus]'" in done.stderr


def test_the_demo_runs_from_the_wheel(installed: Path) -> None:
    """The smallest fleet answers every call, and its history is a database anyone can open."""
    folder = installed / "project"
    folder.mkdir()

    words = ("demo", "--seconds", "3", "--processes", "1", "--json")
    summary = json.loads(run(installed / "venv/bin/resilience", *words, cwd=folder))

    assert summary["calls"] == summary["succeeded"] > 0
    assert Path(summary["database"]).is_relative_to(folder)


def test_the_demo_runs_by_the_name_of_the_distribution(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """`uvx baml-resilience demo` works with nothing installed before."""
    folder = tmp_path_factory.mktemp("uvx")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    words = ("baml-resilience", "demo", "--seconds", "4", "--json")
    summary = json.loads(run("uvx", "--quiet", "--python", python, "--from", wheel, *words, cwd=folder))

    assert summary["calls"] == summary["succeeded"] > 0


def test_an_empty_database_is_upgraded_from_the_wheel(installed: Path) -> None:
    """`resilience db upgrade` finds the packaged migrations and creates the tables."""
    folder = installed / "empty"
    folder.mkdir()

    path = run(installed / "venv/bin/resilience", "db", "path", cwd=folder).strip()
    printed = run(installed / "venv/bin/resilience", "db", "upgrade", cwd=folder)

    assert path.endswith(".resilience/resilience.db")
    newest = max((ROOT / "migrations" / "versions").glob("*.py")).name
    assert newest.startswith(printed.strip())
    assert Path(path).exists()
