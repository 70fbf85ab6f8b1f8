"""The types a user of protect() sees, under mypy and pyright."""

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


@pytest.fixture
def project(baml_client_path: Path) -> Path:
    """The folder of the generated client with the file to check beside it."""
    shutil.copy(API, baml_client_path)
    return baml_client_path


def complaints(*command: str, cwd: Path) -> set[int]:
    """Run a checker; gives the lines of api.py it complains about."""
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
    """Mypy accepts every right use of a protected client and refuses exactly the wrong ones."""
    assert WRONG == complaints("mypy", "--strict", "--follow-imports=silent", "api.py", cwd=project)


def test_pyright_sees_the_generated_clients_signatures(project: Path) -> None:
    """Pyright (as basedpyright, which brings its own node) accepts every right use and refuses exactly the wrong ones."""
    config = {"include": ["api.py"], "typeCheckingMode": "standard"}
    (project / "pyrightconfig.json").write_text(json.dumps(config))

    assert WRONG == complaints("basedpyright", "--pythonpath", sys.executable, cwd=project)
