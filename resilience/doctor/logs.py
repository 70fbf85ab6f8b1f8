"""Checks of the log folder: writable, and with free space. `files.py` has those of owners and modes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from resilience.config.settings import Settings
from resilience.doctor.finding import Finding, fail, nearest_existing, ok, warn, write_error

_SUBJECT: Final = "logs"
_LOW_SPACE: Final = 100 * 1024 * 1024
"""Bytes of free space that a busy fleet can fill within an hour."""


def examine(settings: Settings) -> Iterator[Finding]:
    """Check the folder that the log lines go to.

    Args:
        settings: complete settings. Without `log_dir` there is nothing to check.
    """
    if settings.log_dir is None:
        yield ok(_SUBJECT, "no log files: RESILIENCE_LOG_DIR is not set")
        return
    folder = Path(settings.log_dir)
    if error := write_error(folder):
        yield fail(
            _SUBJECT,
            f"{folder} cannot be written: {error}",
            "make it a folder that this user may write, or set RESILIENCE_LOG_DIR to one",
        )
        return
    yield ok(_SUBJECT, f"{folder} can be written")
    yield from _check_space(folder)


def _check_space(folder: Path) -> Iterator[Finding]:
    """Warn of a disk that is nearly full. Of a folder that does not exist yet, the nearest existing one is measured."""
    existing = nearest_existing(folder)
    free = shutil.disk_usage(existing).free
    if free < _LOW_SPACE:
        yield warn(
            _SUBJECT,
            f"{free // 1024**2} MB are free",
            "free space on its disk; lines are lost when it is full",
        )
