"""What the project of this process declares, for series that exist before the first call."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from resilience.baml import read_declarations
from resilience.config import project
from resilience.config import settings as _settings
from resilience.telemetry.known_series import Known, from_declarations

_MOST_FILES: Final = 1000
_LARGEST: Final = 1_000_000
"""Bytes of a `.baml` file; a larger one is not read."""


def declared(directory: Path | None = None) -> Known:
    """Return what the project of a directory declares; nothing if it has no `.baml` files here.

    Best effort: the process that is scraped may be a container without the sources, and a file that cannot be read must not
    cost the metrics.

    Args:
        directory: the working directory when not given.
    """
    try:
        folder = project.project_directory(directory or Path.cwd()) / "baml_src"
        files = sorted(folder.rglob("*.baml"))[:_MOST_FILES]
        texts = [path.read_text("utf-8") for path in files if path.stat().st_size <= _LARGEST]
        return from_declarations(read_declarations(texts), _settings.fallback_policy().clients)
    except Exception:  # noqa: BLE001 - see above; the parser of hostile files may raise anything
        return Known()
