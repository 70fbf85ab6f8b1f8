"""Import of what ended processes left in the log folders of this one, by the first writer that looks.

A process that was killed has lost the rows of its last moments, but not their log lines. Each is imported once: the file of the
process is locked during the import and removed after it, and an import that was cut short is repeated without counting twice.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from resilience import damage_counts, file_trust, lifecycle
from resilience.history.writer.log_presence import FOLDER, EndedWriter, LogPresence, claimed
from resilience.records.records import NAMESPACE

if TYPE_CHECKING:
    from resilience.history.store.database import Database

_INTERVAL: Final = 10.0
"""Seconds between two looks at the folders."""
_STREAMS: Final = ("operations", "errors")
"""The streams with lines that become rows."""
_CLOCK_STEP: Final = 60.0
"""Seconds. Files that were written last this long before the process began have no line of it, also if the clock was set."""

_log = logging.getLogger("resilience")


class LogRecovery:
    """The imports of one writer. Used by the writer thread alone.

    Args:
        database: returns the database that gets the rows.
        where: its URL, as the files of the processes name it.
        presence: the log folders of this process; None for none.
        namespace: the namespace of lines that name none: that of this process, which shares the folder.
        now: the monotonic clock, in seconds.
    """

    def __init__(
        self,
        database: Callable[[], Database],
        where: str,
        presence: LogPresence | None,
        namespace: str = NAMESPACE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._namespace = namespace
        self._database = database
        self._where = where
        self._presence = presence
        self._now = now
        self._due = 0.0
        self._steps: Iterator[None] | None = None

    def seconds_until_due(self) -> float | None:
        """Return the seconds until `step` has something to do; None without log folders."""
        if not self._folders():
            return None
        return 0.0 if self._steps is not None else max(0.0, self._due - self._now())

    def step(self) -> None:
        """Import one batch of lines, if one is due. Never raises: the next look finds what is left."""
        if self.seconds_until_due() != 0.0:
            return
        if self._steps is None:
            self._steps = self._import_all()
        try:
            next(self._steps)
        except StopIteration:
            self._rest()
        except Exception as exc:  # noqa: BLE001 - what a killed process left must not end the thread that writes for this one
            _log.info("the log lines of ended processes were not imported (%s)", type(exc).__name__)
            self._rest()

    def _folders(self) -> tuple[Path, ...]:
        return () if self._presence is None else self._presence.folders

    def _rest(self) -> None:
        self._steps, self._due = None, self._now() + _INTERVAL

    def _import_all(self) -> Iterator[None]:
        for folder in self._folders():
            for path in _files(folder):
                with claimed(path, self._where) as ended:
                    if ended is not None:
                        yield from self._import(folder, ended)

    def _import(self, folder: Path, ended: EndedWriter) -> Iterator[None]:
        with lifecycle.importing():
            from resilience.history import log_import  # noqa: PLC0415 - few processes find lines of another

        mark = f'"instance_id":"{ended.instance_id}"'.encode()
        with contextlib.ExitStack() as stack:
            # All files are opened before the first is read: a rotation renames them meanwhile.
            files = [(path, stack.enter_context(file)) for path, file in _opened(folder, ended)]
            lines = (
                (f"{path}:{number}", line)
                for path, file in files
                for number, line in enumerate(log_import.unzipped(file), start=1)
                if mark in line
            )
            done = log_import.Imported()
            for _ in log_import.import_some(self._database().begin, lines, done, self._namespace):
                yield
        damage_counts.counts[damage_counts.LOG_LINE] += done.refused
        ended.path.unlink(missing_ok=True)
        if done.new:
            _log.info(
                "%d records that process %d could not write were imported from its log", done.new, ended.pid
            )


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in (folder / FOLDER).iterdir() if not path.suffix)
    except OSError:
        return []


def _opened(folder: Path, ended: EndedWriter) -> Iterable[tuple[Path, BinaryIO]]:
    """Yield the files that may have lines of *ended*, oldest first."""
    paths = [path for stream in _STREAMS for path in folder.glob(f"{stream}.jsonl*")]
    written: list[tuple[float, Path]] = []
    for path in paths:
        with contextlib.suppress(OSError):
            written.append((path.lstat().st_mtime, path))
    for at, path in sorted(written):
        if at >= ended.started_at - _CLOCK_STEP:
            with contextlib.suppress(OSError):
                file: Any = os.fdopen(file_trust.open_file(path, os.O_RDONLY), "rb")
                yield path, file
