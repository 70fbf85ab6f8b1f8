"""Appending to one stream's file, whichever that is by now."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path
from typing import Final

from resilience.clock import Clock
from resilience.logs.compression import Compressor
from resilience.logs.policy import LogPolicy
from resilience.logs.rotated_files import RotatedFiles

_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_DAY: Final = 86_400
_POLLS: Final = 1000
_POLL: Final = 0.001
"""Seconds between two looks at a lock; after a thousand a stranger has it, who must not stop the logs."""

_log = logging.getLogger("resilience")


class Stream:
    """One stream's files: appends to the live one, lets it give way in time, and compresses the older ones."""

    def __init__(self, directory: Path, name: str, policy: LogPolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._segments = RotatedFiles(directory, name, policy)
        self._archive = Compressor(self._segments)
        self._pid = os.getpid()
        self._last = (0, 0)
        self._stuck = False

    def append(self, batch: bytes) -> None:
        """Add whole lines with one write; first let the file give way if it is time.

        Raises:
            OSError: some or all of it could not be written.
        """
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._archive.forget()
        while not self._put(batch):
            continue
        if self._policy.compress:
            self._archive.step(self._last[0])

    def _put(self, batch: bytes) -> bool:
        """Write *batch* to the live file; False when that gave way before, and all begins again with the new one."""
        file = self._open()
        try:
            state = os.fstat(file)
            if not self._lock(file, fcntl.LOCK_SH) or (
                self._is_due(state, len(batch)) and self._rotate(state.st_ino)
            ):
                return False
            if not _ends_whole(
                file
            ):  # cut short by a full disk or a kill, or just being written: who is alone can tell
                if not self._lock(file, fcntl.LOCK_EX):
                    return False
                batch = batch if _ends_whole(file) else b"\n" + batch
            written = os.write(file, batch)
        finally:
            os.close(file)
        if written < len(batch):
            msg = f"only {written} of {len(batch)} bytes were written: the disk is full"
            raise OSError(msg)
        self._last = (state.st_ino, self._today())
        return True

    # --- which file ---------------------------------------------------------------------------------------------

    def _open(self) -> int:
        try:
            return os.open(self._segments.live, _FLAGS, 0o600)
        except FileNotFoundError:
            self._segments.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            return os.open(self._segments.live, _FLAGS, 0o600)

    def _lock(self, file: int, kind: int) -> bool:
        """Lock *file* until it is closed; False when it has become an old segment that may not be written any more."""
        for _ in range(_POLLS):
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
                return os.fstat(file).st_nlink > 0
            except BlockingIOError:
                if not self._segments.is_live(file):
                    return False  # it is being compressed
                time.sleep(_POLL)
            except OSError:
                return True  # a file system without locks; then nothing is compressed there either
        return True

    # --- when it gives way --------------------------------------------------------------------------------------

    def _is_due(self, state: os.stat_result, coming: int) -> bool:
        if not state.st_size:
            return False
        if state.st_size + coming > self._policy.max_bytes:
            return True
        return self._policy.rotate == "day" and self._day_of(state) < self._today()

    def _day_of(self, state: os.stat_result) -> int:
        """The day of the file's lines, which is that of its last one: it would have given way in between."""
        inode, day = self._last
        return day if inode == state.st_ino else int(state.st_mtime // _DAY)

    def _today(self) -> int:
        return int(self._clock.time() // _DAY)

    def _rotate(self, inode: int) -> bool:
        """Is the live file another one now? DatabaseErrorKind with that costs no line: the file grows beyond its bound."""
        try:
            moved_on = self._segments.rotate(inode)
        except OSError as exc:
            if not self._stuck:
                _log.warning(
                    "%s cannot be rotated and grows on (%s); make its folder writable for this user",
                    self._segments.live,
                    exc.strerror or exc,
                )
            self._stuck = True
            return False
        self._stuck = False
        return moved_on


def _ends_whole(file: int) -> bool:
    size = os.fstat(file).st_size
    return not size or os.pread(file, 1, size - 1) == b"\n"
