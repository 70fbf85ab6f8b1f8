"""Three streams of JSON lines in one folder, shared by any number of processes.

`operations.jsonl` has what happened to calls, `performance.jsonl` their durations, `errors.jsonl` each failed attempt. A batch
of lines is one `write(2)` to a file opened with `O_APPEND`; `stream.py` explains why lines of different processes never mix. The
file is opened for each batch, so a removed folder, a rotation or a fork needs no special treatment.

The folder must be on a local file system: network file systems guarantee neither atomic appends nor working locks.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from resilience import notices
from resilience.clock import Clock, SystemClock
from resilience.logs.policy import LogPolicy
from resilience.logs.rotated_files import STREAMS
from resilience.logs.stream import LogStream

_CLOCK: Final = SystemClock()
_POLICY: Final = LogPolicy()
_log = logging.getLogger("resilience")
# json.dumps with these options would build an encoder for each line.
_encode = json.JSONEncoder(default=str, ensure_ascii=False, separators=(",", ":")).encode


class JsonLines:
    """A sink that appends lines to the three streams in *directory*.

    Files are readable by their owner only. If the folder cannot be written or the disk is full, lines are lost with one warning;
    each batch tries again.

    Args:
        directory: the log folder, on a local disk; created if it is missing.
        policy: when files are rotated, and how many are kept.
        clock: tells the day; for tests.

    Attributes:
        directory: the log folder.
        is_failing: whether lines of the last batch were lost.
    """

    def __init__(
        self, directory: str | os.PathLike[str], policy: LogPolicy = _POLICY, *, clock: Clock = _CLOCK
    ) -> None:
        self.directory = Path(directory)
        self._streams = {name: LogStream(self.directory, name, policy, clock) for name in STREAMS}
        self.is_failing = False

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Append each `(stream, line)`. A value that JSON does not know is written as its `str`.

        Raises:
            KeyError: a stream is not one of `STREAMS`.
        """
        batches: dict[str, list[str]] = {stream: [] for stream in STREAMS}
        for stream, line in lines:
            batches[stream].append(_encode(line))
        failure = None
        for stream, batch in batches.items():
            if batch:
                text = "\n".join((*batch, ""))
                try:
                    # Texts may hold lone surrogates, which UTF-8 cannot encode; as an escape such as \udc80 the line stays valid JSON.
                    self._streams[stream].append(text.encode("utf-8", "backslashreplace"))
                except OSError as exc:
                    failure = exc
        if failure is not None:
            self._warn_once(failure)
        self.is_failing = failure is not None

    def _warn_once(self, exc: OSError) -> None:
        if not self.is_failing:
            why = f"{self.directory} cannot be written ({exc.strerror or exc})"
            remedy = "make it writable, free space, or set RESILIENCE_LOG_DIR"
            message = f"log lines are being lost: {why}; {remedy}; calls go on, and so do the logs once it can be written"
            notices.warn(_log, "logs", message)
