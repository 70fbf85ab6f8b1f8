"""What a command imports: one that prints a path needs no database, no event loop of a driver, and no drawing; nor does a completion."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from resilience.__main__ import main

HEAVY = ("sqlalchemy", "alembic", "redis", "rich.console", "baml_py", "prometheus_client", "opentelemetry")
PROGRAM = f"""
import contextlib, os, sys
from resilience.cli import app
for words, variables in (
    (["db", "path"], {{}}),
    ([], {{"_RESILIENCE_COMPLETE": "complete_bash", "COMP_WORDS": "resilience circuit open ", "COMP_CWORD": "3"}}),
    ([], {{"_RESILIENCE_COMPLETE": "complete_bash", "COMP_WORDS": "resilience errors --client ", "COMP_CWORD": "3"}}),
):
    sys.argv = ["resilience", *words]
    os.environ.update(variables)
    with contextlib.suppress(SystemExit):
        app()
print([name for name in {HEAVY!r} if name in sys.modules])
"""


def test_a_path_and_a_completion_need_none_of_the_heavy_packages() -> None:
    """`db path` and the completion of names from files import none of them: each takes as long as all else that a command does."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)

    assert "[]" == done.stdout.splitlines()[-1]
    assert done.stdout.splitlines()[0].endswith("resilience.db")


def test_ctrl_c_at_the_start_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption before a command begins, as while it is imported, is exit code 130 and nothing else."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("resilience.cli.app", interrupted)
    with pytest.raises(SystemExit) as ended:
        main()

    assert 130 == ended.value.code


INTERRUPTED = """
import os, signal, sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "resilience.tenant":  # the package is half imported
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
sys.argv[0] = {name!r}
import resilience
"""


@pytest.mark.parametrize(
    ("name", "code", "quiet"), [("/opt/bin/resilience", 130, True), ("/opt/bin/agent", -signal.SIGINT, False)]
)
def test_ctrl_c_while_the_package_is_imported(name: str, code: int, *, quiet: bool) -> None:
    """The command ends with exit code 130 and prints nothing. A program that imports the package gets its KeyboardInterrupt."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(name=name)], check=False, capture_output=True, text=True
    )

    assert code == done.returncode
    assert quiet is not ("KeyboardInterrupt" in done.stderr)
