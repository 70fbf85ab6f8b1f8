"""Whether a folder can be written, by trying."""

from __future__ import annotations

import tempfile
from pathlib import Path


def refusal(folder: Path) -> str:
    """Why nothing can be written in *folder*, or in the nearest one above it that exists; empty when it can."""
    place = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".resilience-doctor-"):
            return ""
    except OSError as exc:
        return f"{place}: {exc.strerror}"
