"""Threads that do the least that a part of the layer could do, to be woken after each bare call: for `benchmarks.overhead --floors`.

What a guarded call at the pace of agents costs is hardly what its code takes in a loop. A thread that sleeps between two calls finds
cold caches, a neighbour on its core, and the interpreter lock. So a floor is measured beside the calls, and not alone.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

_LINE: Final = b'{"ts":"2026-11-30T11:00:00.000000Z","event":"call.end","rest":"' + b"x" * 440 + b'"}\n'
"""As long as the line of a clean call."""
_ROW: Final = ("x" * 32, "x" * 32, 1.5, "ParseResearchGoal", "Primary", "Primary", "ok", 1, 0, 0, 10, 20)


class Floor:
    """A thread that does *work* each time it is woken.

    Args:
        work: what it does; None for nothing.
    """

    def __init__(self, work: Callable[[], object] | None = None) -> None:
        self._work = work
        self._bell = threading.Lock()
        self._bell.acquire()
        self._thread = threading.Thread(target=self._serve, name="floor", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Let the thread work once."""
        if self._bell.locked():
            self._bell.release()

    def _serve(self) -> None:
        while True:
            self._bell.acquire()
            if self._work is not None:
                self._work()


def line_writer(folder: Path) -> Callable[[], object]:
    """Return what appends a line to a file that is opened for it, as any process may rotate it."""
    path = str(folder / "floor.jsonl")

    def work() -> None:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, _LINE)
        os.close(file)

    return work


def row_writer(folder: Path) -> Callable[[], object]:
    """Return what inserts a row into a table with one index, the rows of each second in one transaction."""
    connection = sqlite3.connect(folder / "floor.db", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    columns = ", ".join(f"c{number}" for number in range(len(_ROW)))
    connection.execute(f"CREATE TABLE calls ({columns})")
    connection.execute("CREATE INDEX ix ON calls (c2)")
    insert = f"INSERT INTO calls VALUES ({', '.join('?' * len(_ROW))})"  # noqa: S608 - no value is in it
    waiting: list[tuple[object, ...]] = []
    written = time.monotonic()

    def work() -> None:
        nonlocal written
        waiting.append(_ROW)
        if time.monotonic() - written < 0.9:  # noqa: PLR2004 - the seconds that clean rows gather
            return
        written = time.monotonic()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(insert, waiting)
        connection.execute("COMMIT")
        waiting.clear()

    return work
