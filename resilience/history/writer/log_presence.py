"""Which processes have lines in a log folder whose rows may still be missing.

Each writer holds a file in the folder `.writers` of its log folder, locked for as long as it lives. A writer that closes with all
rows written removes its file. So a file without a lock belongs to a process that was killed, or that had no time: the
next writer on that folder imports its lines, see `log_recovery.py`.

The lock is a `flock`. The kernel releases it when the process ends, however it ends, and a forked child gives up its copy.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from resilience import file_trust
from resilience.history.store.process import Instance

FOLDER: Final = ".writers"
"""The folder inside a log folder."""
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL

_log = logging.getLogger("resilience")


class LogPresence:
    """The files of one writer in the log folders that it writes to. Used by the writer thread alone.

    Args:
        instance: the process.
        database: the URL of the history that gets the rows, without its password.
    """

    def __init__(self, instance: Instance, database: str) -> None:
        self._instance = instance
        self._database = database
        self._files: dict[Path, int] = {}
        # Path, device and inode of each file, for the look before every line.
        self._identities: dict[Path, tuple[str, int, int]] = {}
        self._failing = False

    @property
    def folders(self) -> tuple[Path, ...]:
        """The log folders that this writer writes to."""
        return tuple(self._files)

    def enter(self, folders: Iterable[Path]) -> bool:
        """Create the file of this process in *folders*, before a line. An error is logged once: recording goes on.

        Returns:
            Whether each folder has the file. Where one has not, the next call tries again: the disk may have been full, or the
            folder was removed with all that was in it.
        """
        missing = [folder for folder in folders if not (self._is_in(folder) or self._create(folder))]
        return not missing

    def _is_in(self, folder: Path) -> bool:
        file = self._files.get(folder)
        if file is None:
            return False
        path, *identity = self._identities[folder]
        try:
            status = os.lstat(path)
            if [status.st_dev, status.st_ino] == identity:
                return True
        except OSError:  # the folder was removed, or cannot be read
            pass
        os.close(self._files.pop(folder))
        return False

    def _create(self, folder: Path) -> bool:
        path = self._path(folder)
        try:
            file_trust.make_folder(path.parent)
            file_trust.check_own_folder(path.parent)
            self._files[folder] = file = self._created(path)
            status = os.fstat(file)
            self._identities[folder] = (str(path), status.st_dev, status.st_ino)
        except OSError as exc:
            if not self._failing:
                _log.info(
                    "%s cannot be written (%s): no other process can import what this one leaves", path, exc
                )
            self._failing = True
            return False
        self._failing = False
        return True

    def _created(self, path: Path) -> int:
        # Locked and filled before it gets its name: another process must never find it without its lock.
        unnamed = path.with_suffix(".new")
        file = file_trust.open_file(unnamed, _NEW)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.write(file, json.dumps(self._content()).encode())
            unnamed.rename(path)
        except OSError:  # the name must be free for the next attempt
            os.close(file)
            unnamed.unlink(missing_ok=True)
            raise
        return file

    def _path(self, folder: Path) -> Path:
        return folder / FOLDER / self._instance.instance_id

    def leave(self, *, complete: bool) -> None:
        """Release the files, and remove them if all rows are written: then there is nothing to import.

        Args:
            complete: whether every line of this process that needs a row has one.
        """
        for folder, file in self._files.items():
            if complete:
                with contextlib.suppress(OSError):
                    self._path(folder).unlink()
            os.close(file)
        self._files = {}

    def abandon(self) -> None:
        """Give up the copies that a forked child inherited: the lock is the parent's, and must end with it."""
        for file in self._files.values():
            os.close(file)
        self._files = {}

    def _content(self) -> dict[str, Any]:
        return {
            "instance_id": self._instance.instance_id,
            "pid": self._instance.pid,
            "host": self._instance.host,
            "database": self._database,
            "started_at": self._instance.started_at.timestamp(),
        }


@dataclass(frozen=True, slots=True)
class EndedWriter:
    """A process that ended and may have left lines without rows.

    Attributes:
        instance_id: its id.
        pid: its process id.
        started_at: when it began, in seconds since the epoch.
        path: its file.
    """

    instance_id: str
    pid: int
    started_at: float
    path: Path


@contextlib.contextmanager
def claimed(path: Path, database: str) -> Iterator[EndedWriter | None]:
    """Yield the ended process of the file *path*, locked while it is worked on; None if it lives or is of another history.

    Args:
        path: a file in the folder `FOLDER` of a log folder.
        database: the URL of the history that is to get the rows, without its password.
    """
    try:
        file_trust.check_own_folder(path.parent)
        file = file_trust.open_file(path, os.O_RDWR)
    except OSError:
        yield None
        return
    try:
        yield _ended(file, path, database)
    finally:
        os.close(file)


def _ended(file: int, path: Path, database: str) -> EndedWriter | None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another process may have imported it and removed it before the lock was free.
        if not os.fstat(file).st_nlink:
            return None
        content = json.loads(os.read(file, 65_536))
        if content["database"] != database:
            return None
        return EndedWriter(
            str(content["instance_id"]), int(content["pid"]), float(content["started_at"]), path
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
