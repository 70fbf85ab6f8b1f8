"""What a command imports: a command that prints a path needs no database, no event loop of a driver, and no drawing."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("sqlalchemy", "alembic", "redis", "rich.console", "baml_py", "prometheus_client", "opentelemetry")
PROGRAM = f"""
import sys
sys.argv = ["resilience", *sys.argv[1:]]
from resilience.cli import app
try:
    app()
except SystemExit:
    print([name for name in {HEAVY!r} if name in sys.modules])
"""


def test_a_path_is_printed_without_the_heavy_packages() -> None:
    """`db path` imports none of them: each takes as long as all else that the command does."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "db", "path"], check=True, capture_output=True, text=True
    )

    assert "[]" == done.stdout.splitlines()[-1]
    assert done.stdout.splitlines()[0].endswith("resilience.db")
