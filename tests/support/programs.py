"""Programs of a user, run in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path


def run_program(
    program: str, environment: Mapping[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run Python source text in *folder*, with the import path of this process and further variables."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path), "BAML_LOG": "off"},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
