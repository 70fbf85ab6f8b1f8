"""Append batches of lines to the live file of one stream, and rotate it when it is due.

How many processes write one file:

- The file is opened for each batch with `O_APPEND`, and a batch is one `write(2)`. Local file systems then keep it in one piece,
  at the end of the file: lines of different processes never mix.
- While it writes, a process holds a shared `flock` on the file. The process that compresses a rotated file takes the exclusive
  lock. So a late writer, which opened the file before its rotation, either writes before the compression starts or fails to get
  its lock, and then writes to the live file.
- Whether the descriptor still is the file it should be is asked by inode and link count after the lock is held, never before.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path
from typing import Final

from resilience import file_trust
from resilience.clock import Clock
from resilience.logs.compression import Compressor
from resilience.logs.policy import LogPolicy
from resilience.logs.rotated_files import RotatedFiles

_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT
_DAY: Final = 86_400
"""Seconds."""
_LOCK_ATTEMPTS: Final = 1000
_LOCK_PAUSE: Final = 0.001
"""Seconds between two attempts. After a second some other program holds the lock, which must not stop the logs."""

_log = logging.getLogger("resilience")


class LogStream:
    """One log stream: appends to its live file, rotates it, and compresses its rotated files.

    Args:
        directory: the log folder; created if it is missing.
        name: one of `STREAMS`.
        policy: when to rotate, and what to keep.
        clock: tells the day.
    """

    def __init__(self, directory: Path, name: str, policy: LogPolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._files = RotatedFiles(directory, name, policy)
        self._compressor = Compressor(self._files)
        self._pid = os.getpid()
        self._last_write = (0, 0)  # inode and day
        self._end = (0, 0)  # inode and size of the file after it
        self._rotation_failing = False
        self._folder_checked = False

    def append(self, batch: bytes) -> None:
        """Append whole lines with one write, after rotating the file if it is due.

        Raises:
            OSError: nothing, or only a part, could be written.
        """
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._compressor.reset_after_fork()
        while not self._try_append(batch):
            continue
        if self._policy.compress:
            self._compressor.run_slice(self._last_write[0])

    def _try_append(self, batch: bytes) -> bool:
        """Write *batch* to the live file. Return False if the file was rotated meanwhile: then open it again."""
        file = self._open()
        try:
            state = self._lock(file, fcntl.LOCK_SH)
            if state is None or (self._is_due(state, len(batch)) and self._rotate(state.st_ino)):
                return False
            ours = self._end == (
                state.st_ino,
                state.st_size,
            )  # not written by others since: it ends with our whole line
            if not ours and not _ends_with_newline(file, state.st_size):
                # A full disk or a kill cut the last line, or another process is writing at this moment. Only the exclusive
                # lock tells which: with it no write is in flight, and a line without an end stays so.
                state = self._lock(file, fcntl.LOCK_EX)
                if state is None:
                    return False
                batch = batch if _ends_with_newline(file, state.st_size) else b"\n" + batch
            written = os.write(file, batch)
        finally:
            os.close(file)  # releases the lock too
        if written < len(batch):
            msg = f"only {written} of {len(batch)} bytes were written: the disk is full"
            raise OSError(msg)
        self._last_write = (state.st_ino, self._today())
        self._end = (state.st_ino, state.st_size + written)
        return True

    # --- the live file ------------------------------------------------------------------------------------------

    def _open(self) -> int:
        if not self._folder_checked:
            file_trust.make_folder(self._files.directory)
            self._folder_checked = True
        try:
            return file_trust.open_file(self._files.live, _FLAGS)
        except FileNotFoundError:
            file_trust.make_folder(self._files.directory)
            return file_trust.open_file(self._files.live, _FLAGS)

    def _lock(self, file: int, kind: int) -> os.stat_result | None:
        """Lock *file* until it is closed. Return its status; None if it was rotated and must not be written any more."""
        for _ in range(_LOCK_ATTEMPTS):
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if not self._files.is_live(file):
                    return None  # it is being compressed
                time.sleep(_LOCK_PAUSE)
            except OSError:
                break  # a file system without locks: there nothing is compressed either
            else:
                # No link: it was removed, or replaced by its `.gz`. A rotated file that still has its name takes the line.
                state = os.fstat(file)
                return state if state.st_nlink > 0 else None
        return os.fstat(file)

    # --- rotation -----------------------------------------------------------------------------------------------

    def _is_due(self, state: os.stat_result, batch_size: int) -> bool:
        if not state.st_size:
            return False
        if state.st_size + batch_size > self._policy.max_bytes:
            return True
        return self._policy.rotate == "day" and self._day_of(state) < self._today()

    def _day_of(self, state: os.stat_result) -> int:
        """Return the day of the file's last line. The others are of the same day, or it would have been rotated."""
        inode, day = self._last_write
        return day if inode == state.st_ino else int(state.st_mtime // _DAY)

    def _today(self) -> int:
        return int(self._clock.time() // _DAY)

    def _rotate(self, inode: int) -> bool:
        """Rotate the live file. Return whether it is now another one.

        A failure costs no line: the file grows beyond its limit.
        """
        try:
            is_rotated = self._files.rotate(inode)
        except OSError as exc:
            if not self._rotation_failing:
                _log.warning(
                    "%s cannot be rotated and grows on (%s); make its folder writable for this user",
                    self._files.live,
                    exc.strerror or exc,
                )
            self._rotation_failing = True
            return False
        self._rotation_failing = False
        return is_rotated


def _ends_with_newline(file: int, size: int) -> bool:
    """Return whether the last line of *file*, of *size* bytes, is complete; an empty file has none."""
    return not size or os.pread(file, 1, size - 1) == b"\n"
