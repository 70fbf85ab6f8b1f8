"""LogPolicy: when a log file gives way to the next, and how much of the old ones stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from resilience import validation

_ROTATE: Final = ("size", "day")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPolicy:
    """How the log streams rotate (`RESILIENCE_LOG__<FIELD>`).

    All processes that share a folder should have the same policy; each rotates by its own.

    Attributes:
        max_bytes: a file about to grow beyond this gives way to a new one.
        backups: how many older files each stream keeps.
        total_bytes: how much all files of the folder may hold together; the oldest of any stream go first.
        rotate: `size`, or `day` for a new file also at the first line after midnight UTC.
        compress: gzip older files; the latest of them stays plain, for whoever still reads it.
        bridge: hand each event to `logging`, too, on the logger `resilience.events`.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """

    max_bytes: int = 20_000_000
    backups: int = 10
    total_bytes: int = 500_000_000
    rotate: str = "size"
    compress: bool = True
    bridge: bool = False

    def __post_init__(self) -> None:
        validation.integer("LogPolicy", "max_bytes", self.max_bytes, low=1)
        validation.integer("LogPolicy", "backups", self.backups, low=1, high=10_000)
        validation.integer("LogPolicy", "total_bytes", self.total_bytes, low=self.max_bytes)
        validation.flag("LogPolicy", "compress", self.compress)
        validation.flag("LogPolicy", "bridge", self.bridge)
        if self.rotate not in _ROTATE:
            msg = f"LogPolicy.rotate={self.rotate!r}: give one of {', '.join(_ROTATE)}"
            raise ValueError(msg)
