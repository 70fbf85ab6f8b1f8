"""The whole check of a fresh clone, `.ci/run`, with its programs replaced: what fails in the background fails all of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_CI = Path(__file__).parents[2] / ".ci"
_UV = """#!/bin/sh
case "$*" in
  venv*) mkdir -p "$3/bin"; ln -s /bin/true "$3/bin/python" ;;
  *tests/chaos*) echo "$SOAK"; [ "$SOAK" = passed ] ;;
  *mypy*) echo "$TYPES"; [ "$TYPES" = passed ] ;;
esac
"""


@pytest.mark.parametrize(
    ("soak", "types"), [("passed", "passed"), ("failing seed 3", "passed"), ("passed", "1 error in 1 file")]
)
def test_what_fails_beside_others_fails_the_whole_check(tmp_path: Path, soak: str, types: str) -> None:
    """The soak and the checks of the source run in the background. Their output, which says what is wrong, is printed."""
    shutil.copytree(_CI, tmp_path / ".ci")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"uv": _UV, "pip": "#!/bin/sh\n"}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}:/usr/bin:/bin", "SOAK": soak, "TYPES": types}
    environment["TMPDIR"] = str(tmp_path)

    run = subprocess.run(
        [tmp_path / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False
    )

    is_passed = {soak, types} == {"passed"}
    assert is_passed == (run.returncode == 0), run.stderr
    assert is_passed == ("all checks passed" in run.stdout)
    assert types in run.stdout
    assert soak in run.stdout or types != "passed"
