"""Three streams of JSON lines in a directory, which many processes append to and `jq` reads.

`operations.jsonl` tells what happened to calls, `performance.jsonl` how long they took, `errors.jsonl` each failed attempt.
A batch of lines is one `write(2)` on a file opened with `O_APPEND`, which local file systems keep in one piece: lines of
different processes never mix. The file is opened for each batch, so a directory that was removed, rotated or forked away
is simply found again. (Not for network file systems, which promise neither that nor working locks.)
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from resilience.clock import Clock, SystemClock
from resilience.logs.policy import LogPolicy
from resilience.logs.rotated_files import STREAMS
from resilience.logs.stream import Stream

_CLOCK: Final = SystemClock()
_POLICY: Final = LogPolicy()
_log = logging.getLogger("resilience")
_encode = json.JSONEncoder(
    default=str, ensure_ascii=False, separators=(",", ":")
).encode  # made once, not for each line


class JsonLines:
    """Appends lines to the three streams in *directory*, which is made when it is missing.

    Files are readable by their owner alone. When the directory cannot be written or the disk is full, lines are lost with
    one warning, and writing goes on by itself once it can.

    Args:
        directory: on a local disk; any number of processes may share it.
        policy: when files rotate, and how many stay.
        clock: says which day it is, for tests.
    """

    def __init__(
        self, directory: str | os.PathLike[str], policy: LogPolicy = _POLICY, *, clock: Clock = _CLOCK
    ) -> None:
        self._directory = Path(directory)
        self._streams = {name: Stream(self._directory, name, policy, clock) for name in STREAMS}
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
                    text = "\n".join((*batch, ""))
                    self._streams[stream].append(text.encode("utf-8", "backslashreplace"))
        except OSError as exc:
            self._failed(exc)
        else:
            self._failing = False

    def _failed(self, exc: OSError) -> None:
        if not self._failing:
            _log.warning(
                "log lines are being lost: %s cannot be written (%s); make it writable, free space, or set RESILIENCE_LOG_DIR; "
                "calls go on, and so do the logs once it can be written",
                self._directory,
                exc.strerror or exc,
            )
        self._failing = True
