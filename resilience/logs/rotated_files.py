"""The files of one stream: `errors.jsonl`, which is written, and its older segments `errors.jsonl.1`, `.2.gz`, ...

The law of rotation, which many processes keep without knowing each other:

- Only who holds the folder's lock renames or removes. Nobody waits for it: who finds it taken writes on where it is.
- RotatedFiles move up from the oldest to the live file, one rename each, and only as far as the first free number. Wherever a
  process is killed in between, every line is in exactly one file, and the next rotation fills the gap.
- A segment and its `.gz` exist together only if a process was killed between the two steps that replace one by the other.
  Then the plain one counts, and the next rotation removes its `.gz`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from resilience.logs.policy import LogPolicy

LOCK: Final = ".rotation.lock"
GZ: Final = ".gz"
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
STREAMS: Final = ("operations", "performance", "errors")
"""The streams; each is a file `<stream>.jsonl` and its older segments."""
_OURS = re.compile(rf"(?:{'|'.join(STREAMS)})\.jsonl(\.\d+(?:\.gz)?)?")


class RotatedFiles:
    """The live file of one stream and the older ones, which `rotate` moves on and limits."""

    def __init__(self, directory: Path, stream: str, policy: LogPolicy) -> None:
        self.directory = directory
        self.live = directory / f"{stream}.jsonl"
        self._policy = policy
        self._number = re.compile(rf"{re.escape(self.live.name)}\.(\d+)(\.gz)?")

    def older(self) -> dict[int, list[Path]]:
        """The older segments by number, 1 the latest: the plain file, its `.gz`, or for a moment both."""
        found: dict[int, list[Path]] = {}
        for name in sorted(os.listdir(self.directory)):  # noqa: PTH208 - names are what is matched here
            match = self._number.fullmatch(name)
            if match is not None:
                found.setdefault(int(match[1]), []).append(self.directory / name)
        return found

    def is_live(self, file: int) -> bool:
        """Is the open *file* the one that is written now?"""
        return _inode(self.live) == os.fstat(file).st_ino

    def plain(self, number: int) -> Path:
        """Where the segment of this number is before it is compressed."""
        return self.live.with_name(f"{self.live.name}.{number}")

    def partial(self, inode: int) -> Path:
        """Where the segment of this inode, whatever its number, is being compressed to."""
        return self.live.with_name(f".{self.live.name}.{inode}.part")

    def rotate(self, inode: int) -> bool:
        """Let the live file give way if it is still this *inode*; False while another process is at it."""
        with self.locked() as mine:
            if not mine:
                return False
            if _inode(self.live) == inode:
                self._move_up()
                self._limit()
            return True

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the folder's lock, if it is free: False when it is not. It ends with its process, however that ends."""
        path = self.directory / LOCK
        file = os.open(path, _FLAGS, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield (
                _inode(path) == os.fstat(file).st_ino
            )  # else the folder was replaced meanwhile, and so was the lock
        finally:
            os.close(file)

    def _move_up(self) -> None:
        older = self.older()
        for _, *doubles in older.values():
            for double in doubles:
                double.unlink(missing_ok=True)
        free = next(number for number in range(1, len(older) + 2) if number not in older)
        for number in range(free - 1, 0, -1):
            path = older[number][0]
            path.rename(f"{self.plain(number + 1)}{GZ if path.suffix == GZ else ''}")
        self.live.rename(self.plain(1))

    def _limit(self) -> None:
        for number, paths in self.older().items():
            if number > self._policy.backups:
                for path in paths:
                    self._remove(path)
        self._limit_total()

    def _limit_total(self) -> None:
        """Remove the oldest segments of any stream until the folder keeps its bound; other people's files count for nothing."""
        total, aged = 0, []
        for path in self.directory.iterdir():
            ours = _OURS.fullmatch(path.name)
            with contextlib.suppress(FileNotFoundError):
                state = path.stat()
                if ours is not None:
                    total += state.st_size
                    if ours[1]:
                        aged.append((state.st_mtime_ns, state.st_size, path))
        for _, size, path in sorted(aged):
            if total <= self._policy.total_bytes:
                break
            self._remove(path)
            total -= size

    def _remove(self, path: Path) -> None:
        inode = _inode(path)
        path.unlink(missing_ok=True)
        if inode is not None:  # what a killed process left of its compression
            self.partial(inode).unlink(missing_ok=True)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
