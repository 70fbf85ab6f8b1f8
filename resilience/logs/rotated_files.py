"""The files of one log stream: the live file `errors.jsonl`, and its rotated files `errors.jsonl.1`, `.2.gz`, ...

Many processes rotate the same files without knowing each other. Three rules make that safe:

- Only the process that holds the folder's lock renames or removes files. No process waits for the lock: one that finds it taken
  goes on writing where it is, and the live file grows a little beyond its limit.
- Rotated files move up by one, from the oldest to the live file, one rename each, and only as far as the first free number. If
  the process is killed between two renames, every line is in exactly one file, and the next rotation fills the gap.
- A rotated file and its `.gz` exist together only if a process was killed between the two steps that replace one by the other.
  Then the plain file counts, and the next rotation removes the `.gz`.

Files are identified by inode, never by name: a name belongs to another file after each rotation.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from resilience import file_trust
from resilience.logs.policy import LogPolicy

LOCK: Final = ".rotation.lock"
"""The file whose `flock` allows a process to rename and remove files of the folder, for all streams."""
GZ: Final = ".gz"
_FLAGS: Final = os.O_RDWR | os.O_CREAT
STREAMS: Final = ("operations", "performance", "errors")
"""The log streams; each has a live file `<stream>.jsonl`."""
_OURS = re.compile(rf"(?:{'|'.join(STREAMS)})\.jsonl(\.\d+(?:\.gz)?)?")


class RotatedFiles:
    """The live file of one stream, and its rotated files.

    Args:
        directory: the log folder.
        stream: one of `STREAMS`.
        policy: how many files, and how many bytes, to keep.
    """

    def __init__(self, directory: Path, stream: str, policy: LogPolicy) -> None:
        self.directory = directory
        self.live = directory / f"{stream}.jsonl"
        self._policy = policy
        self._number = re.compile(rf"{re.escape(self.live.name)}\.(\d+)(\.gz)?")

    def rotated(self) -> dict[int, list[Path]]:
        """Return the rotated files by number; 1 is the latest. Each entry is the plain file, its `.gz`, or plain and `.gz`."""
        files: dict[int, list[Path]] = {}
        for name in sorted(os.listdir(self.directory)):  # noqa: PTH208 - the names are matched, no path is needed
            match = self._number.fullmatch(name)
            if match is not None:
                files.setdefault(int(match[1]), []).append(self.directory / name)
        return files

    def is_live(self, file: int) -> bool:
        """Return whether the open descriptor *file* is the live file, and was not rotated meanwhile."""
        return _inode(self.live) == os.fstat(file).st_ino

    def plain_path(self, number: int) -> Path:
        """Return the path of the rotated file with this number before its compression."""
        return self.live.with_name(f"{self.live.name}.{number}")

    def partial_path(self, inode: int) -> Path:
        """Return the path of the unfinished `.gz` of the rotated file with this inode, whatever its number is by then."""
        return self.live.with_name(f".{self.live.name}.{inode}.part")

    def rotate(self, inode: int) -> bool:
        """Rotate the live file if it still has this *inode*.

        Returns:
            Whether the live file is now another one: rotated here, or before by another process. False while another process
            holds the lock.
        """
        with self.lock() as locked:
            if not locked:
                return False
            if _inode(self.live) == inode:
                self._shift()
                self._remove_excess()
            return True

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold the folder's lock if it is free. Yields whether it is held.

        The kernel releases a `flock` when its process ends, however it ends: no stale lock can stop the rotation.
        """
        path = self.directory / LOCK
        file = file_trust.open_file(path, _FLAGS)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            # If the folder was removed and created again after the open, another process may hold the new file's lock.
            yield _inode(path) == os.fstat(file).st_ino
        finally:
            os.close(file)

    def _shift(self) -> None:
        """Rename each rotated file to the next number, up to the first gap, and the live file to number 1."""
        rotated = self.rotated()
        for _, *compressed_twins in rotated.values():
            for twin in compressed_twins:
                twin.unlink(missing_ok=True)
        free = next(number for number in range(1, len(rotated) + 2) if number not in rotated)
        for number in range(free - 1, 0, -1):
            path = rotated[number][0]
            path.rename(f"{self.plain_path(number + 1)}{GZ if path.suffix == GZ else ''}")
        self.live.rename(self.plain_path(1))

    def _remove_excess(self) -> None:
        for number, paths in self.rotated().items():
            if number > self._policy.backups:
                for path in paths:
                    self._remove(path)
        self._limit_total_bytes()

    def _limit_total_bytes(self) -> None:
        """Remove the oldest rotated files of any stream until the folder is within its limit. Other files do not count."""
        total, removable = 0, []
        for path in self.directory.iterdir():
            ours = _OURS.fullmatch(path.name)
            with contextlib.suppress(FileNotFoundError):
                state = path.lstat()
                if ours is not None:
                    total += state.st_size
                    if ours[1]:
                        removable.append((state.st_mtime_ns, state.st_size, path))
        for _, size, path in sorted(removable):
            if total <= self._policy.total_bytes:
                break
            self._remove(path)
            total -= size

    def _remove(self, path: Path) -> None:
        inode = _inode(path)
        path.unlink(missing_ok=True)
        if inode is not None:
            # A process that was killed while compressing this file left its unfinished `.gz`.
            self.partial_path(inode).unlink(missing_ok=True)


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return None
