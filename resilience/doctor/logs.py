"""Looks at the folder of the logs."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from resilience.config.settings import Settings
from resilience.doctor.finding import Finding, fail, ok, warn
from resilience.doctor.places import refusal

_SUBJECT: Final = "logs"
_LOW: Final = 100 * 1024 * 1024
"""Bytes of free space that a busy fleet fills within an hour or so."""


def examine(settings: Settings) -> Iterator[Finding]:
    """Can lines be written, by us alone, and is there room?"""
    if settings.log_dir is None:
        yield ok(_SUBJECT, "none are written: RESILIENCE_LOG_DIR is not set")
        return
    folder = Path(settings.log_dir)
    if why := refusal(folder):
        yield fail(
            _SUBJECT,
            f"{folder} cannot be written: {why}",
            "make it a folder that this user may write, or set RESILIENCE_LOG_DIR to one",
        )
        return
    yield ok(_SUBJECT, f"{folder} can be written")
    yield from _open_to_others(folder)
    free = shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free
    if free < _LOW:
        yield warn(
            _SUBJECT,
            f"{free // 1024**2} MB are free",
            "free space on its disk; lines are lost when it is full",
        )


def _open_to_others(folder: Path) -> Iterator[Finding]:
    readable = [
        file.name
        for file in sorted(folder.glob("*.jsonl*"))
        if stat.S_IMODE(file.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
    ]
    if readable:
        yield warn(_SUBJECT, f"others may read {', '.join(readable)}", f"chmod 600 {folder}/*.jsonl*")
