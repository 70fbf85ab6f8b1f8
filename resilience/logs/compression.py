"""Compress rotated log files, one slice after each batch, so that the writer thread is never away for long.

A process that writes holds a shared `flock` on its file for the time of the write. A process that compresses holds the exclusive
lock. Hence a file is complete when its compression starts: a late writer finds it locked and writes to the live file. And only
one process compresses it.

The output grows in a hidden `.part` file, named after the inode of its source, since the source may be renamed by rotations
meanwhile. When it is complete it takes the place of the source, wherever that is by then.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import zlib
from dataclasses import dataclass
from typing import Any, Final

from resilience import file_trust
from resilience.logs.rotated_files import GZ, RotatedFiles

SLICE: Final = 1 << 20
"""Bytes to compress after one batch: about 20 ms, during which zlib releases the GIL."""
_FIRST: Final = 2
"""The lowest number to compress. Number 1 stays plain for programs that still follow its end."""
_GZIP: Final = 31
"""The `wbits` of zlib for the gzip format with the largest window."""
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL

_log = logging.getLogger("resilience")


@dataclass(slots=True)
class _Compression:
    """One rotated file that is being compressed.

    Attributes:
        source: descriptor of the file, with its exclusive lock. No buffered file objects: a forked child would flush the
            inherited buffer a second time.
        target: descriptor of the `.part` file.
        inode: inode of the source.
        zlib: the compressor object.
        read_all: whether the source was read to its end.
    """

    source: int
    target: int
    inode: int
    zlib: Any
    read_all: bool = False

    def close(self) -> None:
        os.close(self.source)
        os.close(self.target)


class Compressor:
    """The compression of one stream's rotated files, at most one at a time.

    Args:
        files: the stream's files.
    """

    def __init__(self, files: RotatedFiles) -> None:
        self._files = files
        self._current: _Compression | None = None
        self._checked_inode: int | None = None
        self._failing = False

    def run_slice(self, live_inode: int) -> None:
        """Compress one slice of the current file, or look for a file to compress.

        Args:
            live_inode: inode of the live file. The folder is only searched after it has changed, that is after a rotation.
        """
        try:
            if self._current is None and live_inode != self._checked_inode:
                self._checked_inode = live_inode
                self._current = self._start()
            if self._current is not None:
                self._continue(self._current)
        except OSError as exc:
            self._abandon(exc)
        else:
            self._failing = False

    def reset_after_fork(self) -> None:
        """Close the inherited descriptors. The parent continues its compression."""
        if self._current is not None:
            self._current.close()
        self._current = self._checked_inode = None

    def _start(self) -> _Compression | None:
        """Start with the oldest plain file that no other process writes or compresses."""
        rotated = self._files.rotated()
        for number in sorted((number for number in rotated if number >= _FIRST), reverse=True):
            path = self._files.plain_path(number)
            if path not in rotated[number]:
                continue
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                compression = self._claim(file_trust.open_file(path, os.O_RDONLY))
                if compression is not None:
                    return compression
        return None

    def _claim(self, source: int) -> _Compression | None:
        """Take the exclusive lock of *source*; None if another process has compressed and removed it since the open.

        Raises:
            BlockingIOError: another process writes or compresses it.
        """
        try:
            fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
            state = os.fstat(source)
            if state.st_nlink:
                target = self._new_partial(state.st_ino)
                return _Compression(source, target, state.st_ino, zlib.compressobj(wbits=_GZIP))
        except BaseException:
            os.close(source)
            raise
        os.close(source)
        return None

    def _new_partial(self, inode: int) -> int:
        """Create the `.part` file. One that is there is left of a killed process, or planted: it is removed, never opened.

        The lock on the source is held, so no other process of ours is writing it.
        """
        path = self._files.partial_path(inode)
        path.unlink(missing_ok=True)
        return file_trust.open_file(path, _WRITE)

    def _continue(self, compression: _Compression) -> None:
        if not compression.read_all:
            data = os.read(compression.source, SLICE)
            compression.read_all = len(data) < SLICE
            _write_all(compression.target, compression.zlib.compress(data))
            if compression.read_all:
                _write_all(compression.target, compression.zlib.flush())
        # If the lock for renaming is taken, the replacement is tried again after the next batch.
        if compression.read_all and self._replace_source(compression):
            compression.close()
            self._current = self._checked_inode = None  # look for a further file after the next batch

    def _replace_source(self, compression: _Compression) -> bool:
        """Rename the `.part` file to the source's present name with `.gz`, and remove the source.

        Returns:
            False while another process holds the folder's lock.
        """
        partial = self._files.partial_path(compression.inode)
        modified = os.fstat(compression.source).st_mtime_ns
        os.utime(compression.target, ns=(modified, modified))  # the limit of total bytes removes files by age
        os.fsync(compression.target)  # on disk before the source goes
        with self._files.lock() as locked:
            if not locked:
                return False
            for number in self._files.rotated():
                path = self._files.plain_path(number)
                with contextlib.suppress(FileNotFoundError):
                    if path.lstat().st_ino == compression.inode:
                        partial.rename(f"{path}{GZ}")
                        path.unlink()
                        return True
        partial.unlink(missing_ok=True)  # the source was removed by a limit meanwhile
        return True

    def _abandon(self, exc: OSError) -> None:
        if self._current is not None:
            with contextlib.suppress(OSError):
                self._files.partial_path(self._current.inode).unlink(missing_ok=True)
            self._current.close()
            self._current = None
        if not self._failing:
            _log.warning(
                "old log files stay uncompressed: %s cannot be written (%s); tried again after the next rotation",
                self._files.directory,
                exc.strerror or exc,
            )
        self._failing = True


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
