"""Three streams of JSON lines in a directory, which many processes append to and `jq` reads.

`operations.jsonl` tells what happened to calls, `performance.jsonl` how long they took, `errors.jsonl` each failed attempt.
A batch of lines is one `write(2)` on a file opened with `O_APPEND`, which local file systems keep in one piece: lines of
different processes never mix. The file is opened for each batch, so a directory that was removed, rotated or forked away
is simply found again. (Not for network file systems.)
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

STREAMS: Final = ("operations", "performance", "errors")
"""The streams; each is a file `<stream>.jsonl`."""

_log = logging.getLogger("resilience")
_encode = json.JSONEncoder(
    default=str, ensure_ascii=False, separators=(",", ":")
).encode  # made once, not for each line


class JsonLines:
    """Appends lines to the three streams in *directory*, which is made when it is missing.

    Files are readable by their owner alone. When the directory cannot be written or the disk is full, lines are lost with
    one warning, and writing goes on by itself once it can.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)
        self._torn: set[str] = set()
        self._failing = False

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Append each `(stream, line)`; values that JSON does not know are written as text.

        Raises:
            KeyError: a stream that is none of `STREAMS`.
        """
        batches: dict[str, list[str]] = {stream: [] for stream in STREAMS}
        for stream, line in lines:
            batches[stream].append(_encode(line))
        try:
            for stream, batch in batches.items():
                if batch:
                    self._append(stream, "\n".join(batch))
        except OSError as exc:
            self._failed(exc)
        else:
            self._failing = False

    def _append(self, stream: str, text: str) -> None:
        """One write; where an earlier one was cut short by a full disk, its broken line is ended first."""
        start = "\n" if stream in self._torn else ""
        batch = f"{start}{text}\n".encode("utf-8", "backslashreplace")
        file = self._open(self._directory / f"{stream}.jsonl")
        try:
            written = os.write(file, batch)
        finally:
            os.close(file)
        if written < len(batch):
            self._torn.add(stream)
            msg = f"only {written} of {len(batch)} bytes were written: the disk is full"
            raise OSError(msg)
        self._torn.discard(stream)

    def _open(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            return os.open(path, flags, 0o600)

    def _failed(self, exc: OSError) -> None:
        if not self._failing:
            _log.warning(
                "log lines are being lost: %s cannot be written (%s); make it writable, free space, or set RESILIENCE_LOG_DIR; "
                "calls go on, and so do the logs once it can be written",
                self._directory,
                exc.strerror or exc,
            )
        self._failing = True
