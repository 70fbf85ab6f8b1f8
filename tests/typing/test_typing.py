"""The types that a user of protect() sees, under mypy and pyright."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

API = Path(__file__).with_name("api.py")
WRONG = {number for number, line in enumerate(API.read_text().splitlines(), 1) if "# wrong:" in line}

MYPY = """
[mypy]
strict = true
follow_imports = silent
[mypy-sqlalchemy.*,alembic.*,redis.*,opentelemetry.*,psycopg.*,typer.*,rich.*,prometheus_client.*,aiosqlite.*,tenacity.*]
follow_imports = skip
"""
"""Packages that no signature of a protected client names are not read: that takes two thirds of the time."""


@pytest.fixture
def project(baml_client_path: Path) -> Path:
    """The folder of the generated client, with the file to check beside it."""
    shutil.copy(API, baml_client_path)
    return baml_client_path


def rejected_lines(*command: str, cwd: Path) -> set[int]:
    """Run a type checker, and return the lines of api.py with an error.

    Args:
        command: a module with its arguments.
        cwd: the folder with api.py and the generated client.
    """
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, "MYPYPATH": str(cwd)},
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return {int(number) for number in re.findall(r"api\.py:(\d+):.*error", done.stdout)}


def test_mypy_sees_the_generated_clients_signatures(project: Path) -> None:
    """Mypy accepts correct uses of a protected client, and rejects exactly the lines marked as wrong."""
    (project / "mypy.ini").write_text(MYPY)

    assert WRONG == rejected_lines("mypy", "--config-file=mypy.ini", "api.py", cwd=project)


def test_pyright_sees_the_generated_clients_signatures(project: Path) -> None:
    """Pyright (as basedpyright, which includes Node.js) accepts correct uses, and rejects exactly the marked lines."""
    config = {"include": ["api.py"], "typeCheckingMode": "standard"}
    (project / "pyrightconfig.json").write_text(json.dumps(config))

    assert WRONG == rejected_lines("basedpyright", "--pythonpath", sys.executable, cwd=project)
