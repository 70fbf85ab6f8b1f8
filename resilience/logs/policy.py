"""`LogPolicy`: when log files are rotated, and how many of them are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from resilience import validation

_ROTATE: Final = ("size", "day")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPolicy:
    """The rotation of the log streams (`RESILIENCE_LOG__<FIELD>`).

    All processes that share a folder should have the same policy, since each rotates by its own.

    Attributes:
        max_bytes: a file that would grow beyond this size is rotated first.
        backups: number of rotated files that each stream keeps.
        total_bytes: size limit of all log files in the folder; the oldest rotated files of any stream are removed first.
        rotate: `size`, or `day` to rotate also at the first line after midnight UTC.
        compress: whether to gzip rotated files. The latest one stays plain for programs that still read it.
        bridge: whether to hand each event to the logger `resilience.events` as well.
        call_start: whether to log the start of each call, which shows the calls of a process that died.
        call_duration: whether to log the duration of each call in `performance.jsonl` too; `call.end` has it.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """

    max_bytes: int = 20_000_000
    backups: int = 10
    total_bytes: int = 500_000_000
    rotate: str = "size"
    compress: bool = True
    bridge: bool = False
    call_start: bool = False
    call_duration: bool = False

    def __post_init__(self) -> None:
        validation.integer("LogPolicy", "max_bytes", self.max_bytes, low=1)
        validation.integer("LogPolicy", "backups", self.backups, low=1, high=10_000)
        validation.integer("LogPolicy", "total_bytes", self.total_bytes, low=self.max_bytes)
        validation.flag("LogPolicy", "compress", self.compress)
        for field in ("bridge", "call_start", "call_duration"):
            validation.flag("LogPolicy", field, getattr(self, field))
        if self.rotate not in _ROTATE:
            msg = f"LogPolicy.rotate={self.rotate!r}: give one of {', '.join(_ROTATE)}"
            raise ValueError(msg)
