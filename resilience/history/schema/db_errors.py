"""What an error of the database means to a writer: retry soon, retry later, or give up one record.

The drivers have no common answer. SQLite has result codes, PostgreSQL has SQLSTATEs, and a value that a driver cannot send at all
is an exception of SQLAlchemy or of Python. Each error is looked up in that order, and what is unknown counts as an outage, because
an outage loses nothing: records wait, and the database is tried again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final, Literal

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    ProgrammingError,
    StatementError,
)

from resilience.errors import ResilienceError
from resilience.history.schema import sqlite_driver
from resilience.history.schema.error_kinds import DatabaseErrorKind
from resilience.history.schema.migrations import NewerHistoryError, OutdatedHistoryError


class CounterError(Exception):
    """The counts of records without rows cannot be added to the counters."""


_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_STATES: Final = {
    "40": DatabaseErrorKind.LOCKED,  # serialisation failure, deadlock
    "55P03": DatabaseErrorKind.LOCKED,  # lock timeout
    "57014": DatabaseErrorKind.LOCKED,  # statement timeout
    "22": DatabaseErrorKind.POISON,  # data exception: out of range, an invalid character
    "23": DatabaseErrorKind.POISON,  # a constraint
    "54": DatabaseErrorKind.POISON,  # a limit of the program: a row too large
}
"""SQLSTATEs, or their first two characters, that do not mean an outage (PostgreSQL manual, appendix A)."""


def error_kind(exc: BaseException) -> DatabaseErrorKind:
    """Return what an exception of `Database.write` means."""
    if isinstance(exc, NewerHistoryError):
        return DatabaseErrorKind.NEWER
    if isinstance(exc, CounterError):
        return DatabaseErrorKind.COUNTERS
    if isinstance(exc, DBAPIError):
        return _of_sqlite(exc) or _of_postgresql(exc) or _of_driver(exc)
    if isinstance(exc, ResilienceError):
        return DatabaseErrorKind.AWAY
    return (
        DatabaseErrorKind.POISON
        if isinstance(exc, (StatementError, ValueError, TypeError, OverflowError))
        else DatabaseErrorKind.AWAY
    )


def _of_sqlite(exc: DBAPIError) -> DatabaseErrorKind | None:
    code = getattr(exc.orig, "sqlite_errorcode", None)
    return DatabaseErrorKind.LOCKED if code is not None and code & 0xFF in _BUSY else None


def _of_postgresql(exc: DBAPIError) -> DatabaseErrorKind | None:
    state = getattr(exc.orig, "sqlstate", None)
    if state is None:
        return None
    # First the whole code, then its class: 55P03 is a lock timeout, other codes of class 55 are not.
    return _STATES.get(state) or _STATES.get(state[:2], DatabaseErrorKind.AWAY)


def _of_driver(exc: DBAPIError) -> DatabaseErrorKind:
    """Return what an error without a code means: SQLite rejects a row, or a driver cannot send a value."""
    # ProgrammingError is what sqlite3 raises for a value that it cannot bind to a parameter.
    if isinstance(exc, (IntegrityError, DataError, ProgrammingError)):
        return DatabaseErrorKind.POISON
    # Earlier versions of sqlite3 raise InterfaceError for the same mistake. From psycopg it means a lost connection.
    if isinstance(exc, InterfaceError) and not hasattr(exc.orig, "sqlstate"):
        return DatabaseErrorKind.POISON
    return DatabaseErrorKind.AWAY


def missing_object(exc: BaseException | None) -> Literal["table", "column"] | None:
    """Return which kind of object a driver's error says is missing; None for any other error.

    A missing table means a database without a history. A missing column or view means one of another version.

    Args:
        exc: the error of the driver itself, which SQLAlchemy has as `DBAPIError.orig`.
    """
    if isinstance(exc, sqlite_driver.module.Error):
        # SQLite has one error code for all mistakes in a statement, and only its text tells them apart.
        text = str(exc)
        return next((kind for kind in _MISSING.values() if text.startswith(f"no such {kind}")), None)
    return _MISSING.get(str(getattr(exc, "sqlstate", None)))


_MISSING: Final[Mapping[str, Literal["table", "column"]]] = {"42P01": "table", "42703": "column"}
"""PostgreSQL's SQLSTATEs for undefined objects."""


def describe_error(exc: Exception, where: str) -> str:
    """Return a message for the operator: which history cannot be written, why, and the remedy.

    Args:
        exc: the error.
        where: the URL of the database, without its password.
    """
    if isinstance(exc, OutdatedHistoryError):
        return str(exc)  # the remedy is part of it
    message = (
        str(exc)
        if isinstance(exc, ResilienceError)
        else f"the history at {where} cannot be written: {error_reason(exc)}"
    )
    return f"{message}; {remedy(str(exc))}, or give RESILIENCE_DATABASE_URL another place"


def error_reason(exc: Exception) -> str:
    """Return the reason that the driver gives.

    Values never appear in it: SQLAlchemy would add the statement with its parameters, and PostgreSQL adds the row on a second line.
    """
    return str(exc.orig).partition("\n")[0] if isinstance(exc, DBAPIError) else type(exc).__name__


_REMEDIES: Final = {
    "readonly": "make the file and its folder writable for this user",
    "unable to open": "make its folder, writable for this user",
    "permission denied for": "grant this role what `resilience doctor` names",
    "Permission denied": "make the file and its folder writable for this user",
    "is full": "free space on its disk",
    "No space left": "free space on its disk",
    "not a database": "move that file away",
    "connection": "make the server reachable from here",
    "malformed": "move that file away and restore a copy",
}


def remedy(message: str) -> str:
    """Return the remedy for an error, by a part of its message."""
    return next((remedy for words, remedy in _REMEDIES.items() if words in message), "fix that")
