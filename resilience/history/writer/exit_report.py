"""The report of a process that ends before all of its records have rows: to the log, and to standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

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


def report(unwritten: Unwritten, where: str, folders: Iterable[Path]) -> None:
    """Report *unwritten* as a warning. If logging does not show it on standard error, print it there as well.

    Args:
        unwritten: what has no row.
        where: the URL of the database, without its password.
        folders: the folders with the log lines of these records.
    """
    message = _message(unwritten, where, tuple(folders))
    _log.warning("%s", message)
    if not any(_shows_warnings(handler) for handler in _handlers(_log)):
        # Logging is often not configured in scripts, and then nobody would learn of the loss. At this point of the process
        # standard error may be closed, or a signal may have interrupted a print to it.
        with suppress(Exception):
            print(f"resilience: {message}", file=sys.stderr, flush=True)


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
    return (
        f"the history dropped {unwritten.records} records at the end of this process ({reason}); {counted}; {remedy}"
    )


def _handlers(logger: logging.Logger) -> Iterator[logging.Handler]:
    """Yield the handlers that get a warning of *logger*, also those of its parents."""
    current: logging.Logger | None = logger
    while current is not None:
        yield from current.handlers
        current = current.parent if current.propagate else None


def _shows_warnings(handler: logging.Handler) -> bool:
    stream = getattr(handler, "stream", None)
    return handler.level <= logging.WARNING and stream is not None and stream in {sys.stderr, sys.__stderr__}
