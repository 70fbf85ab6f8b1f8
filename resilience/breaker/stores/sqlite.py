"""Circuits in an SQLite file: shared by the processes of one machine, with nothing installed.

The file is in WAL mode: readers never wait for a writer, and the many steps that change nothing are reads. A step that changes something
runs in one transaction that begins with BEGIN IMMEDIATE. So it holds the write lock before it reads, and no other process can change
the circuit between its read and its write. A plain BEGIN would take the lock with the first write, and fail with SQLITE_BUSY_SNAPSHOT
if another process had written since the read.
"""

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

from resilience import file_trust
from resilience.breaker.circuit import step
from resilience.breaker.messages import StepReply, StepRequest, Transition, TransitionRule
from resilience.breaker.state import FRESH, CircuitData, CircuitState, read_mapping, to_mapping
from resilience.breaker.stores import damage_warning
from resilience.breaker.stores.base import Store
from resilience.breaker.stores.checks import checked_transition
from resilience.breaker.stores.memory import LOG_LENGTH
from resilience.breaker.stores.namespaced import WatchedNamespace, namespaces_of
from resilience.clock import Clock, SystemClock
from resilience.errors import StoreError

_VERSION: Final = 2
"""The format of the file (PRAGMA user_version). Increase it with each change of the tables or of `CircuitData` that is no addition."""

# AUTOINCREMENT: the id of a row that the cap has removed is never used again, so no cursor can name another
# transition. Columns of `transitions` have the names of the fields of `Transition`: `_log` reads them by name.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS circuits (
  client TEXT PRIMARY KEY,
  data TEXT NOT NULL  -- JSON of the fields of state.py
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
# Seconds to wait for the write lock, as long as a whole step may take in Redis. Only the sync thread waits. Callers that wait for it
# judge its silence in time that their process really ran, which a busy machine does not use up.
_LOCK_TIMEOUT: Final = 3.0
# SQLite's own busy handler sleeps longer with each try, so a process that came first is overtaken by newcomers. It gets short tries,
# and `_execute_unlocked` repeats them.
_BUSY_TIMEOUT_MS: Final = 20

_LAST_IDS: Final = (
    "SELECT MAX(id), (SELECT seq FROM sqlite_sequence WHERE name = 'transitions') FROM transitions"
)
_MAX_ID: Final = 2**53
"""A number that no log of transitions reaches."""

_inherited: Final[list[sqlite3.Connection]] = []
"""Connections inherited through a fork. They stay open: closing one here could harm the parent's file (howtocorrupt.html 2.6)."""


class SQLiteStore:
    """One row a client and the transition log, changed in one transaction under the write lock.

    The file must be on a local disk: WAL needs shared memory. It is readable by its owner only (mode 0600). Times are the machine's wall
    clock. If the file is deleted or replaced while in use, the next step notices and uses the new one.

    Args:
        path: the file; it and its folder are created if missing.
        clock: the store's time.
    """

    shared: Final = True

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self._path = path.absolute()
        self._clock = clock or SystemClock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int, int] = (0, 0, 0)
        self._check_writable = False
        # The version of the file at the last step about each client. `PRAGMA data_version` changes with each commit of another
        # connection, and with none of this one. It says so for the whole file, so each client has the version of its own step.
        self._versions: dict[str, int] = {}

    def step(self, requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]:
        """Run each request through `circuit.step`, all in one transaction.

        Raises:
            StoreError: the file was made by a newer version.
            sqlite3.Error: the file cannot be used now; nothing was changed.
            OSError: the file or its folder cannot be created, or another user can change it.
        """
        # Cleared at the end: if this step raises, the next one takes the write lock. Reads alone need no lock in WAL mode, and a
        # file that another process keeps locked would seem healthy.
        check_writable, self._check_writable = self._check_writable, True
        replies = self._step(requests, check_writable=check_writable)
        self._check_writable = False
        return replies

    def _step(self, requests: Sequence[StepRequest], *, check_writable: bool) -> list[StepReply]:
        connection = self._connect()
        check_writable = check_writable and not all(request.read_only for request in requests)
        if not check_writable and not any(request.has_updates for request in requests):
            # A step without updates seldom changes anything, so it is tried without the write lock. If it does change something (an
            # override has ended, say), it runs again below, under the lock and with the time that is read there.
            version = _data_version(
                connection
            )  # before the rows: a commit in between shows at the next comparison
            replies, changed = self._step_without_writing(connection, requests)
            if not changed:
                self._note_version(requests, version)
                return replies
        with _write_transaction(connection):
            version = _data_version(connection)
            replies = [self._step_and_save(connection, request) for request in requests]
        self._note_version(requests, version)
        return replies

    def _note_version(self, requests: Sequence[StepRequest], version: int) -> None:
        self._versions.update(dict.fromkeys((request.client for request in requests), version))

    def is_unchanged(self, clients: Sequence[str]) -> bool:
        """Return whether no other connection has written to the file since the last step about each of *clients*."""
        if self._check_writable:
            return False
        version = _data_version(self._connect())
        return all(self._versions.get(client) == version for client in clients)

    def _step_without_writing(
        self, connection: sqlite3.Connection, requests: Sequence[StepRequest]
    ) -> tuple[list[StepReply], bool]:
        now = round(1000 * self._clock.time())
        replies, changed = [], False
        for request in requests:
            # No transaction: each circuit is read in one statement, and no circuit depends on another.
            before = _read(connection, request.client)
            after, reply = step(before, now, request)
            changed = changed or (after != before and not request.read_only)
            replies.append(reply)
        return replies, changed

    def _step_and_save(self, connection: sqlite3.Connection, request: StepRequest) -> StepReply:
        before = _read(connection, request.client)
        # The clock is read under the lock. Otherwise a process that waited for the lock would write an earlier time than the one before
        # it, and the circuit would take that for a clock that went back.
        after, reply = step(before, round(1000 * self._clock.time()), request)
        damage_warning.note("circuit", request.client, reply.damaged)
        if after != before and not request.read_only:
            row = (request.client, json.dumps(to_mapping(after), separators=(",", ":")))
            connection.execute("INSERT OR REPLACE INTO circuits VALUES (?, ?)", row)
            for transition in reply.transitions:
                _log(connection, transition)
        return reply

    def transitions(self, after: str = "") -> list[Transition]:
        """Return the logged transitions after a cursor, oldest first. A cursor of another store or file counts as none."""
        connection = self._connect()
        rows = connection.execute(
            f"SELECT id, {_COLUMNS} FROM transitions WHERE id > ? ORDER BY id",  # noqa: S608 - a constant of this file
            (_position(connection, after),),
        )
        log: list[Transition] = []
        for row in rows:
            if len(log) == LOG_LENGTH:
                break
            # A transition of newer code is skipped, and so is one that is planted: it must not stop the rows behind it.
            try:
                log.append(_transition(row))
            except (ValueError, TypeError):
                damage_warning.note("transition", "")
        return log

    def names(self) -> list[str]:
        """Return the clients whose circuits have ever changed, sorted."""
        names = self._connect().execute("SELECT client FROM circuits ORDER BY client")
        return [name for (name,) in names if isinstance(name, str)]

    def forget(self, client: str) -> bool:
        """Delete the circuit of a client. Its logged transitions stay."""
        connection = self._connect()
        self._versions.pop(client, None)
        with _write_transaction(connection):
            return connection.execute("DELETE FROM circuits WHERE client = ?", (client,)).rowcount > 0

    def namespaces(self) -> list[str]:
        """Return the namespaces that have circuits here, sorted."""
        return namespaces_of(self.names())

    def in_namespace(self, namespace: str) -> Store:
        """Return this store with *namespace* in front of every client's name."""
        return WatchedNamespace(self, self, namespace)

    def disconnect(self) -> None:
        """Close the connection. A fork must not copy it: both processes would break each other's locks (sqlite.org/howtocorrupt.html 2.6)."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close the connection."""
        self.disconnect()

    def _connect(self) -> sqlite3.Connection:
        """Return a connection to the file that is at the path now, of this process."""
        connection = self._connection
        if connection is not None:
            if self._identity == self._file_identity():
                return connection
            self._connection = None
            if self._identity[0] == os.getpid():
                connection.close()
            else:
                _inherited.append(connection)
        self._versions.clear()
        self._connection = connection = _open(self._path)
        self._identity = self._file_identity()
        return connection

    def _file_identity(self) -> tuple[int, int, int]:
        """Return what changes with a fork and with a new file at the path: process id, device, inode."""
        try:
            status = self._path.lstat()  # of a link that takes the file's place, too
        except FileNotFoundError:
            return (os.getpid(), 0, 0)
        return (os.getpid(), status.st_dev, status.st_ino)


def _open(path: Path) -> sqlite3.Connection:
    file_trust.make_folder(path.parent)
    # Only a new file is opened here, to set its mode. POSIX drops all locks of a process on a file when it closes any descriptor of it:
    # opening and closing a file that is in use would drop the locks of this process's other connections.
    with contextlib.suppress(FileExistsError):
        os.close(file_trust.open_file(path, os.O_CREAT | os.O_EXCL | os.O_RDWR))
    file_trust.check_database(path)
    # isolation_level=None: otherwise the sqlite3 module would begin transactions itself,
    # with a plain BEGIN. check_same_thread=False: the sync thread uses the connection,
    # but the thread that forks closes it. The sync worker holds a lock around both.
    connection = sqlite3.connect(
        path, timeout=_BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
    )
    # A text that is no UTF-8 must not make the file unreadable: it is then a damaged value like any other.
    connection.text_factory = _decoded
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _decoded(text: bytes) -> str:
    return text.decode(errors="backslashreplace")


def _prepare(connection: sqlite3.Connection) -> None:
    _execute_unlocked(connection, "PRAGMA journal_mode=WAL")  # this one ignores the busy timeout
    connection.execute("PRAGMA synchronous=NORMAL")  # a power cut may cost the last results, never the file
    version = _version(connection)
    if version > _VERSION:
        msg = f"the file of circuits has version {version}, made by a newer resilience; this one reads up to {_VERSION}"
        raise StoreError(msg)
    if version < _VERSION:
        with _write_transaction(connection):
            # Read again under the lock: of several processes that start at once, only the first may drop the old table.
            if _version(connection) < _VERSION:
                _upgrade(connection)


def _data_version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _upgrade(connection: sqlite3.Connection) -> None:
    """Create the tables. The circuits of an older format are forgotten; the transition log is kept.

    A forgotten circuit starts closed. Processes that still know it, and the history, restore what is still in effect.
    """
    connection.execute("DROP TABLE IF EXISTS circuits")
    for statement in _SCHEMA.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version={_VERSION}")


@contextlib.contextmanager
def _write_transaction(connection: sqlite3.Connection) -> Iterator[None]:
    _execute_unlocked(connection, "BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if (
            connection.in_transaction
        ):  # some errors have ended it already, and a second error would hide the first
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _execute_unlocked(connection: sqlite3.Connection, statement: str) -> None:
    """Execute a statement that needs the write lock. Repeat it while another process holds the lock.

    Repeating is safe: a statement that did not get the lock has done nothing.
    """
    deadline = time.monotonic() + _LOCK_TIMEOUT
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as exc:
            # The low byte is the primary code: SQLITE_BUSY_RECOVERY and the like are waited for as well.
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.001)
        else:
            return


def _read(connection: sqlite3.Connection, client: str) -> CircuitData:
    row = connection.execute("SELECT data FROM circuits WHERE client = ?", (client,)).fetchone()
    if row is None:
        return FRESH
    try:
        data, unreadable = read_mapping(json.loads(row[0]))
    except (ValueError, TypeError, AttributeError, RecursionError):
        # The row is no JSON object. Its epoch becomes 0, at which the processes restore what they know.
        data, unreadable = FRESH, 1
    damage_warning.note("circuit", client, unreadable)
    return data


def _log(connection: sqlite3.Connection, transition: Transition) -> None:
    values = [_storable(getattr(transition, column)) for column in _COLUMNS.split(", ")]
    placeholders = ", ".join("?" * len(values))
    insert = f"INSERT OR IGNORE INTO transitions ({_COLUMNS}) VALUES ({placeholders})"  # noqa: S608 - constants of this file
    _forget_planted(connection)
    last_id = connection.execute(insert, values).lastrowid
    connection.execute("DELETE FROM transitions WHERE id <= ?", ((last_id or 0) - LOG_LENGTH,))


def _forget_planted(connection: sqlite3.Connection) -> None:
    """Delete rows whose number SQLite did not give. Behind the greatest number it inserts no row, and no circuit could change."""
    lasts = [value or 0 for value in connection.execute(_LAST_IDS).fetchone()]
    if all(isinstance(last, int) and 0 <= last < _MAX_ID for last in lasts):
        return
    connection.execute("DELETE FROM transitions WHERE id >= ? OR id < 0", (_MAX_ID,))
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'transitions'")
    damage_warning.note("transition", "")


def _storable(value: object) -> object:
    """Return a value of a transition as SQLite can keep it: half a surrogate in a reason must not fail the step."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _position(connection: sqlite3.Connection, cursor: str) -> int:
    """Return the id of the transition that a cursor names, or 0.

    A cursor is `id:epoch`. The epoch shows whether the row is the same: a file that was deleted and created again starts at id 1. A row
    that the cap has removed cannot be compared. It counts if the log has gone further.
    """
    row_id, _, epoch = cursor.partition(":")
    if not (row_id.isdigit() and epoch.isdigit()):
        return 0
    (last_id,) = connection.execute("SELECT max(id) FROM transitions").fetchone()
    row = connection.execute("SELECT epoch FROM transitions WHERE id = ?", (int(row_id),)).fetchone()
    removed = row is None and int(row_id) < (last_id or 0)
    return int(row_id) if removed or row == (int(epoch),) else 0


def _transition(row: tuple[object, ...]) -> Transition:
    fields = dict(zip(("cursor", *_COLUMNS.split(", ")), row, strict=True))
    transition = Transition(**fields)  # type: ignore[arg-type]  # the schema gives each column its type
    return checked_transition(
        replace(
            transition,
            cursor=f"{transition.cursor}:{transition.epoch}",
            from_state=CircuitState(transition.from_state),
            to_state=CircuitState(transition.to_state),
            rule=TransitionRule(transition.rule),
        )
    )
