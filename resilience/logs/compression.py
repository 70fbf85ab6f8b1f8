"""Compresses old segments, a slice after each batch of lines, so that the thread that writes never waits long for it.

Whoever writes holds a shared `flock` on its file for the moment of the write. Who compresses holds the exclusive one: a
process that was about to write into a file while it became an old segment finds it taken, and writes to the live file
instead. So a segment is whole when its compression begins, and one process at a time compresses it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import zlib
from dataclasses import dataclass
from typing import Any, Final

from resilience.logs.rotated_files import GZ, RotatedFiles

SLICE: Final = 1 << 20
"""Bytes compressed after one batch: about 20 ms, in which Python's lock is free."""
_FIRST: Final = 2
"""The latest segment stays plain: programs that follow the log may still read its end."""
_GZIP: Final = 31
"""zlib's word for the gzip format with the largest window."""
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC

_log = logging.getLogger("resilience")


@dataclass(slots=True)
class _Work:
    """A segment on its way into a `.gz`; file descriptors, since nothing of it may be buffered across a fork."""

    source: int
    target: int
    inode: int
    packer: Any
    read_all: bool = False

    def close(self) -> None:
        os.close(self.source)
        os.close(self.target)


class Compressor:
    """The compression of one stream's old segments."""

    def __init__(self, segments: RotatedFiles) -> None:
        self._segments = segments
        self._work: _Work | None = None
        self._looked_at: int | None = None
        self._failing = False

    def step(self, live: int) -> None:
        """Compress a slice; look for a segment to compress when there is none and the *live* inode is a new one."""
        try:
            if self._work is None and live != self._looked_at:
                self._looked_at = live
                self._work = self._begin()
            if self._work is not None:
                self._go_on(self._work)
        except OSError as exc:
            self._give_up(exc)
        else:
            self._failing = False

    def forget(self) -> None:
        """After a fork: the work is the parent's."""
        if self._work is not None:
            self._work.close()
        self._work = self._looked_at = None

    def _begin(self) -> _Work | None:
        older = self._segments.older()
        for number in sorted((number for number in older if number >= _FIRST), reverse=True):
            path = self._segments.plain(number)
            if path not in older[number]:
                continue
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                work = self._claim(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
                if work is not None:
                    return work
        return None

    def _claim(self, source: int) -> _Work | None:
        """Begin with the segment *source* unless another process has it, or had it and is done."""
        try:
            fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
            state = os.fstat(source)
            if state.st_nlink:
                target = os.open(self._segments.partial(state.st_ino), _WRITE, 0o600)
                return _Work(source, target, state.st_ino, zlib.compressobj(wbits=_GZIP))
        except BaseException:
            os.close(source)
            raise
        os.close(source)
        return None

    def _go_on(self, work: _Work) -> None:
        if not work.read_all:
            part = os.read(work.source, SLICE)
            work.read_all = len(part) < SLICE
            _write_all(work.target, work.packer.compress(part))
            if work.read_all:
                _write_all(work.target, work.packer.flush())
        if work.read_all and self._replace(work):
            work.close()
            self._work = self._looked_at = None  # there may be more

    def _replace(self, work: _Work) -> bool:
        """Put the `.gz` in the segment's place, wherever that is by now; False while another process moves segments."""
        partial = self._segments.partial(work.inode)
        modified = os.fstat(work.source).st_mtime_ns
        os.utime(work.target, ns=(modified, modified))  # its age counts where the oldest must go
        os.fsync(work.target)
        with self._segments.locked() as mine:
            if not mine:
                return False
            for number in self._segments.older():
                path = self._segments.plain(number)
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_ino == work.inode:
                        partial.rename(f"{path}{GZ}")
                        path.unlink()
                        return True
        partial.unlink(missing_ok=True)  # it was removed for its age meanwhile
        return True

    def _give_up(self, exc: OSError) -> None:
        if self._work is not None:
            with contextlib.suppress(OSError):
                self._segments.partial(self._work.inode).unlink(missing_ok=True)
            self._work.close()
            self._work = None
        if not self._failing:
            _log.warning(
                "old log files stay uncompressed: %s cannot be written (%s); tried again after the next rotation",
                self._segments.directory,
                exc.strerror or exc,
            )
        self._failing = True


def _write_all(file: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]
