"""Circuits in an SQLite file: what the processes of one machine share with nothing installed."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from resilience.breaker.circuit import step
from resilience.breaker.messages import StepReply, StepRequest, Transition, TransitionRule
from resilience.breaker.state import FRESH, CircuitData, CircuitState, from_mapping, to_mapping
from resilience.breaker.stores.memory import LOG_LENGTH
from resilience.clock import Clock, SystemClock
from resilience.errors import StoreError

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS circuits (
  client TEXT PRIMARY KEY,
  document TEXT NOT NULL  -- JSON of the fields of document.py
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS transitions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  client TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  from_state TEXT NOT NULL,
  to_state TEXT NOT NULL,
  rule TEXT NOT NULL,
  reason TEXT NOT NULL,
  actor TEXT NOT NULL,
  calls INTEGER NOT NULL,
  failures INTEGER NOT NULL,
  wait_ms INTEGER NOT NULL,
  UNIQUE (client, epoch)
);
"""
_COLUMNS: Final = "client, epoch, at_ms, from_state, to_state, rule, reason, actor, calls, failures, wait_ms"
_PATIENCE: Final = 1.0  # seconds to wait for the write lock; the exchange's thread waits, never a caller
_NAP_MS: Final = 20  # SQLite's own busy handler backs off unfairly, so it is given short turns

_orphans: Final[list[sqlite3.Connection]] = []
"""Connections inherited through a fork that could not be parked: closing them here could harm the parent's file."""


class SQLiteStore:
    """One row a client, and the transition log, changed in one transaction under the write lock.

    The file must be on a local disk. It is created for its owner only (mode 0600). Times are the machine's wall clock.
    If the file is deleted or replaced while in use, the next step notices and starts on the new one.

    Args:
        path: the file; it and its folder are made when missing.
        clock: the store's time.
    """

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self._path = path.absolute()
        self._clock = clock or SystemClock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int, int] = (0, 0, 0)

    def step(self, requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]:
        """Run each request through `circuit.step`, all in one transaction.

        Raises:
            StoreError: the file was made by a newer version.
            sqlite3.Error: the file cannot be used now; nothing was changed.
            OSError: the file or its folder cannot be made.
        """
        connection = self._connected()
        if not any(request.tells for request in requests):
            replies, changed = self._look(connection, requests)
            if not changed:
                return replies
        with _writing(connection):
            return [self._change(connection, request) for request in requests]

    def _look(
        self, connection: sqlite3.Connection, requests: Sequence[StepRequest]
    ) -> tuple[list[StepReply], bool]:
        now = round(1000 * self._clock.time())
        turns = [
            (request, before := _read(connection, request.client), step(before, now, request))
            for request in requests
        ]
        changed = any(after != before and not request.looks for request, before, (after, _) in turns)
        return [reply for _, _, (_, reply) in turns], changed

    def _change(self, connection: sqlite3.Connection, request: StepRequest) -> StepReply:
        # The clock is read under the lock: otherwise waiting writers would see it go back.
        before = _read(connection, request.client)
        document, reply = step(before, round(1000 * self._clock.time()), request)
        if document != before and not request.looks:
            row = (request.client, json.dumps(to_mapping(document), separators=(",", ":")))
            connection.execute("INSERT OR REPLACE INTO circuits VALUES (?, ?)", row)
            for transition in reply.transitions:
                _log(connection, transition)
        return reply

    def transitions(self, after: str = "") -> list[Transition]:
        """The logged transitions after this cursor, oldest first; a cursor of another store or file counts as none."""
        connection = self._connected()
        rows = connection.execute(
            f"SELECT id, {_COLUMNS} FROM transitions WHERE id > ? ORDER BY id",  # noqa: S608 - a constant of this file
            (_place(connection, after),),
        )
        return [_transition(row) for row in rows]

    def names(self) -> list[str]:
        """The clients whose circuits have ever changed, sorted."""
        return [name for (name,) in self._connected().execute("SELECT client FROM circuits ORDER BY client")]

    def park(self) -> None:
        """Close the connection: one that a fork copies breaks the locks of both processes (sqlite.org/howtocorrupt.html 2.6)."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close the connection."""
        self.park()

    def _connected(self) -> sqlite3.Connection:
        connection = self._connection
        if connection is not None:
            if self._identity == self._present():
                return connection
            self._connection = None
            if self._identity[0] == os.getpid():
                connection.close()
            else:
                _orphans.append(connection)
        self._connection = connection = _open(self._path)
        self._identity = self._present()
        return connection

    def _present(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return (os.getpid(), 0, 0)
        return (os.getpid(), found.st_dev, found.st_ino)


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Only a new file is opened by hand: closing a descriptor of an existing one would drop this process's locks on it.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=_NAP_MS / 1000, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    _patiently(connection, "PRAGMA journal_mode=WAL")  # does not honour the busy timeout
    connection.execute("PRAGMA synchronous=NORMAL")  # a power cut may cost the last results, never the file
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > _VERSION:
        msg = f"the file of circuits has version {version}, made by a newer resilience; this one reads up to {_VERSION}"
        raise StoreError(msg)
    if version < _VERSION:
        with _writing(connection):
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={_VERSION}")


@contextlib.contextmanager
def _writing(connection: sqlite3.Connection) -> Iterator[None]:
    _patiently(connection, "BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _patiently(connection: sqlite3.Connection, statement: str) -> None:
    """Execute what needs the write lock, again while another process holds it: until then nothing has happened."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.001)
        else:
            return


def _read(connection: sqlite3.Connection, client: str) -> CircuitData:
    row = connection.execute("SELECT document FROM circuits WHERE client = ?", (client,)).fetchone()
    if row is None:
        return FRESH
    try:
        return from_mapping(json.loads(row[0]))
    except (ValueError, AttributeError):
        return (
            FRESH  # a row that is no JSON object; the epoch of 0 makes the processes restore what they know
        )


def _log(connection: sqlite3.Connection, transition: Transition) -> None:
    values = [getattr(transition, column) for column in _COLUMNS.split(", ")]
    marks = ", ".join("?" * len(values))
    last = connection.execute(
        f"INSERT OR IGNORE INTO transitions ({_COLUMNS}) VALUES ({marks})",  # noqa: S608 - constants of this file
        values,
    ).lastrowid
    connection.execute("DELETE FROM transitions WHERE id <= ?", ((last or 0) - LOG_LENGTH,))


def _place(connection: sqlite3.Connection, cursor: str) -> int:
    """The id that a cursor means. It names the epoch there too, because the ids of a file that was deleted come again."""
    place, _, epoch = cursor.partition(":")
    if not (place.isdigit() and epoch.isdigit()):
        return 0
    (last,) = connection.execute("SELECT max(id) FROM transitions").fetchone()
    found = connection.execute("SELECT epoch FROM transitions WHERE id = ?", (int(place),)).fetchone()
    trimmed = found is None and int(place) < (last or 0)
    return int(place) if trimmed or found == (int(epoch),) else 0


def _transition(row: tuple[object, ...]) -> Transition:
    named = dict(zip(("cursor", *_COLUMNS.split(", ")), row, strict=True))
    plain = Transition(**named)  # type: ignore[arg-type]  # the schema gives each column its type
    return replace(
        plain,
        cursor=f"{plain.cursor}:{plain.epoch}",
        from_state=CircuitState(plain.from_state),
        to_state=CircuitState(plain.to_state),
        rule=TransitionRule(plain.rule),
    )
