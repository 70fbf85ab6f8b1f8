"""What an error of the database means to the writer. `db_errors.py` finds out which one it is."""

from __future__ import annotations

from enum import Enum, auto


class DatabaseErrorKind(Enum):
    """Why a batch was not written."""

    LOCKED = auto()
    """Another process holds a lock. Retry the batch soon."""
    POISON = auto()
    """A record of the batch cannot be stored in any database of this schema. Find it and give it up."""
    COUNTERS = auto()
    """The counts of records without rows cannot be added to the counters. Give up the counts."""
    NEWER = auto()
    """The database has a newer schema than this code. Stop writing to it."""
    AWAY = auto()
    """The database cannot be reached or written. Retry later."""
