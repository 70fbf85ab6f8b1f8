"""What a refusal of the database means: come back soon, come back later, or give up a row."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from enum import Enum, auto
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
from resilience.history.schema.migrations import NewerHistoryError, OutdatedHistoryError


class DatabaseErrorKind(Enum):
    """Why a batch was not written."""

    LOCKED = auto()
    """Another process is writing; the batch goes again soon."""
    POISON = auto()
    """A row of it cannot be kept by any database of this schema."""
    COUNTERS = auto()
    """What was counted of records without rows cannot be added to the counters."""
    NEWER = auto()
    """The database belongs to newer code; this process will not write to it."""
    AWAY = auto()
    """It cannot be reached or written now."""


class CounterError(Exception):
    """What was counted of records without rows cannot be added to the counters."""


_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_STATES: Final = {
    "40": DatabaseErrorKind.LOCKED,  # serialisation failure, deadlock
    "55P03": DatabaseErrorKind.LOCKED,  # lock timeout
    "57014": DatabaseErrorKind.LOCKED,  # statement timeout
    "22": DatabaseErrorKind.POISON,  # data exception: out of range, an invalid character
    "23": DatabaseErrorKind.POISON,  # a constraint
    "54": DatabaseErrorKind.POISON,  # a limit of the program: a row too large
}
"""SQLSTATEs, and classes of them, that do not mean that the database is away (PostgreSQL, appendix A)."""


def trouble(exc: BaseException) -> DatabaseErrorKind:
    """What an exception of `Database.write` means."""
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
    return _STATES.get(state) or _STATES.get(state[:2], DatabaseErrorKind.AWAY)


def _of_driver(exc: DBAPIError) -> DatabaseErrorKind:
    """By the kind of the exception: SQLite's own refusals, and values a driver cannot send."""
    if isinstance(
        exc, (IntegrityError, DataError, ProgrammingError)
    ):  # the last: a value that cannot be bound
        return DatabaseErrorKind.POISON
    if isinstance(exc, InterfaceError) and not hasattr(
        exc.orig, "sqlstate"
    ):  # the same, as SQLite once said it
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


def complaint(exc: Exception, where: str) -> str:
    """What people are told: the history at *where*, why it is not written, and what helps."""
    told = (
        str(exc)
        if isinstance(exc, ResilienceError)
        else f"the history at {where} cannot be written: {reason(exc)}"
    )
    if isinstance(exc, OutdatedHistoryError):  # its remedy is in it
        return told
    return f"{told}; {remedy(str(exc))}, or give RESILIENCE_DATABASE_URL another place"


def reason(exc: Exception) -> str:
    """Why, without the statement and the values that SQLAlchemy adds, and the row that PostgreSQL adds on a second line."""
    return str(exc.orig).partition("\n")[0] if isinstance(exc, DBAPIError) else type(exc).__name__


_REMEDIES: Final = {
    "readonly": "make the file and its folder writable for this user",
    "unable to open": "make its folder, writable for this user",
    "Permission denied": "make the file and its folder writable for this user",
    "is full": "free space on its disk",
    "No space left": "free space on its disk",
    "not a database": "move that file away",
    "connection": "let the server be reached from here",
    "malformed": "move that file away and restore a copy",
}


def remedy(told: str) -> str:
    """What helps against it."""
    return next((mended for words, mended in _REMEDIES.items() if words in told), "mend that")
