"""The end of a writer: how long it may take, and the report of what has no row then, to the log and to standard error."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from resilience import notices
from resilience.history.writer.queue import FlushMarker

_EXIT_TIMEOUT: Final = 2.0
_CREATION_TIMEOUT: Final = 5.0
"""Seconds that a close may take: usually, and while the tables are not there yet. Making them takes 0.3 s of processor time, which
a container with a tenth of a processor needs 3 s for."""
HANGING_AT_EXIT: Final = 0.5
"""Seconds until a sink that does not return is given up while the process ends."""

_log = logging.getLogger("resilience")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwritten:
    """What a closing writer could not write.

    Attributes:
        records: number of records without a row.
        counted: whether the counters of the database include them.
        reason: why, in the words of the database.
    """

    records: int
    counted: bool
    reason: str


def exit_limit(given: float | None, *, creating: bool) -> float:
    """Return the seconds that a close may take.

    Args:
        given: the exit timeout of the settings; None for the default.
        creating: whether the database was not written by this process yet.
    """
    if given is not None:
        return given
    return _CREATION_TIMEOUT if creating else _EXIT_TIMEOUT


def wait_until(deadline: float, marker: FlushMarker, leave_hanging: Callable[[], object]) -> bool:
    """Wait for *marker*, at most until *deadline* of the monotonic clock. Return whether all before it was written.

    Args:
        deadline: the end of the wait.
        marker: the position in the queue.
        leave_hanging: gives up a sink that hangs, called from time to time.
    """
    while not marker.wait(min(HANGING_AT_EXIT, max(0.0, deadline - time.monotonic()))):
        if time.monotonic() >= deadline:
            return False
        leave_hanging()
    return marker.written


def report(unwritten: Unwritten, waiting: int, where: str, folders: Iterable[Path]) -> None:
    """Report what has no row, if anything, as a warning. If logging does not show it on standard error, print it there as well.

    Args:
        unwritten: what the writer could not write.
        waiting: number of further records that its thread has not taken.
        where: the URL of the database, without its password.
        folders: the folders with the log lines of these records.
    """
    records = unwritten.records + waiting
    if not records:
        return
    counted = unwritten.counted and not waiting
    message = _message(
        Unwritten(records=records, counted=counted, reason=unwritten.reason), where, tuple(folders)
    )
    _log.warning("%s", message)
    if not any(_shows_warnings(handler) for handler in notices.handlers_of(_log)):
        # Logging is often not configured in scripts, and the loss would be silent there.
        notices.print_warning(message)


def _message(unwritten: Unwritten, where: str, folders: tuple[Path, ...]) -> str:
    counted = "all of them are counted" if unwritten.counted else "they are not counted"
    reason = unwritten.reason or "the time limit has passed"
    if folders:
        files = " ".join(f"{folder}/{name}.jsonl" for folder in folders for name in ("errors", "operations"))
        remedy = (
            "their log lines are kept, and the next process that writes there imports them; to import them now, "
            f"run `resilience history import {files}` with RESILIENCE_DATABASE_URL={where}"
        )
    else:
        remedy = "without RESILIENCE_LOG_DIR there are no log lines to import; a longer RESILIENCE_EXIT_TIMEOUT gives more time"
    return f"the history dropped {unwritten.records} records at the end of this process ({reason}); {counted}; {remedy}"


def _shows_warnings(handler: logging.Handler) -> bool:
    stream = getattr(handler, "stream", None)
    return handler.level <= logging.WARNING and stream is not None and stream in {sys.stderr, sys.__stderr__}
