"""The types a user of protect() sees, under mypy and pyright."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

API = Path(__file__).with_name("api.py")
WRONG = {number for number, line in enumerate(API.read_text().splitlines(), 1) if "# wrong:" in line}


def check(*command: str, path: Path) -> set[int]:
    """Run a checker; gives the lines of api.py it complains about."""
    done = subprocess.run(
        [sys.executable, "-m", *command, str(API)],
        env={"MYPYPATH": str(path), "PATH": "", "HOME": str(path)} if command[0] == "mypy" else None,
        capture_output=True,
        text=True,
        check=False,
        cwd=path,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return {int(number) for number in re.findall(r"api\.py:(\d+):(?:\d+)?.*error", done.stdout)}


def test_mypy_sees_the_generated_clients_signatures(baml_client_path: Path) -> None:
    """Mypy accepts every right use of a protected client and refuses exactly the wrong ones."""
    pytest.importorskip("mypy", reason="a tool of the dev group, absent where only BAML versions are tested")

    assert (
        check("mypy", "--strict", "--follow-imports=silent", "--cache-dir=.mypy", path=baml_client_path)
        == WRONG
    )


def test_pyright_sees_the_generated_clients_signatures(baml_client_path: Path) -> None:
    """Pyright (as basedpyright, which brings its own node) accepts every right use and refuses exactly the wrong ones."""
    pytest.importorskip(
        "basedpyright", reason="a tool of the dev group, absent where only BAML versions are tested"
    )
    config = {
        "extraPaths": [str(baml_client_path)],
        "typeCheckingMode": "standard",
        "reportMissingModuleSource": False,
    }
    (baml_client_path / "pyrightconfig.json").write_text(json.dumps(config))

    assert check("basedpyright", "--project", str(baml_client_path), path=baml_client_path) == WRONG
