"""Checks of the log folder: writable, private, and with free space.

Log lines hold no prompts and no answers. But they name functions, clients and requests, and redacted error messages may still
say more than other users of the machine should read.
"""

from __future__ import annotations

import shutil
import stat
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
    yield from _check_modes(folder)
    yield from _check_space(folder)


def _check_modes(folder: Path) -> Iterator[Finding]:
    """Warn of log files that other users may read. Ours are made with mode 0600."""
    readable = [
        file.name
        for file in sorted(folder.glob("*.jsonl*"))
        if stat.S_IMODE(file.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
    ]
    if readable:
        yield warn(_SUBJECT, f"others may read {', '.join(readable)}", f"chmod 600 {folder}/*.jsonl*")


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
