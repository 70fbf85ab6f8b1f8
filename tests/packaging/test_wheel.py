"""The wheel alone, in a clean environment without the source tree. Run by `.ci/run`; needs the package index."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    environment = {
        name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}
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
    """A clean environment with only the wheel in it."""
    place = tmp_path_factory.mktemp("clean")
    run("uv", "venv", "--quiet", "--seed", place / "venv", cwd=place)
    constraints = ROOT / "constraints.txt"
    run(
        "uv",
        "pip",
        "install",
        "--quiet",
        "--python",
        place / "venv/bin/python",
        "-c",
        constraints,
        wheel,
        cwd=place,
    )
    return place


def test_the_wheel_holds_what_it_needs_and_nothing_else(wheel: Path) -> None:
    """Types marker, migrations and BAML sources are inside; tests, generated clients and lock files are not."""
    names = zipfile.ZipFile(wheel).namelist()

    for needed in (
        "resilience/py.typed",
        "resilience/_migrations/env.py",
        "resilience/demo/baml_src/functions.baml",
    ):
        assert needed in names
    assert any(name.startswith("resilience/_migrations/versions/0001") for name in names)
    assert not [
        name
        for name in names
        if name.startswith(("tests", "benchmarks")) or "baml_client/" in name or name.endswith(".lock")
    ]


def test_the_demo_runs_from_the_wheel(installed: Path) -> None:
    """The smallest fleet answers every call, and its history is a database anyone can open."""
    folder = installed / "project"
    folder.mkdir()

    said = run(
        installed / "venv/bin/resilience", "demo", "--seconds", "3", "--processes", "1", "--json", cwd=folder
    )

    summary = json.loads(said)
    assert summary["calls"] == summary["succeeded"] > 0
    assert Path(summary["database"]).is_relative_to(folder)


def test_an_empty_database_is_upgraded_from_the_wheel(installed: Path) -> None:
    """`resilience db upgrade` finds the packaged migrations and makes the tables."""
    folder = installed / "empty"
    folder.mkdir()

    path = run(installed / "venv/bin/resilience", "db", "path", cwd=folder).strip()
    said = run(installed / "venv/bin/resilience", "db", "upgrade", cwd=folder)

    assert path.endswith(".resilience/resilience.db")
    newest = max((ROOT / "migrations" / "versions").glob("*.py")).name
    assert newest.startswith(said.strip())
    assert Path(path).exists()
