"""The SQLite library that this process uses for the history, the same for every connection.

SQLite 3.7.0 to 3.51.2 has a race between connections that write and reset the write-ahead log. It can damage the file
(https://sqlite.org/wal.html#walresetbug). It was fixed in 3.51.3, and in 3.44.6 and 3.50.7. The extra `sqlite-fixed` installs
a fixed build, which is used if it is there.

A process must never use both builds. POSIX locks belong to a process, not to a library: the two builds know nothing of each
other's locks, and when one of them closes the file, it releases the locks of the other as well
(https://sqlite.org/howtocorrupt.html, section 2.2.1).
"""

from __future__ import annotations

import importlib
import sqlite3
from types import ModuleType
from typing import Any, Final

_FIXED_BRANCHES: Final = ((3, 44, 6), (3, 50, 7))
_FIXED: Final = (3, 51, 3)
_AFFECTED: Final = (3, 7, 0)


def chosen() -> ModuleType:
    """Return the DB-API module for SQLite files: `pysqlite3` if it is installed, else `sqlite3`."""
    try:
        return importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        return sqlite3


module: Final = chosen()


def awaited() -> ModuleType | None:
    """Return the module for SQLAlchemy's aiosqlite dialect; None for its default.

    aiosqlite itself always uses `sqlite3`. So with `pysqlite3` it gets a module that looks like aiosqlite, and whose connections
    open the file with `pysqlite3`.
    """
    if module is sqlite3:
        return None
    import aiosqlite  # noqa: PLC0415 - only readers need it
    from sqlalchemy.dialects.sqlite.aiosqlite import (  # noqa: PLC0415 - as above
        AsyncAdapt_aiosqlite_dbapi,
    )

    def connect(path: str, **options: Any) -> aiosqlite.Connection:
        return aiosqlite.Connection(
            lambda: module.connect(path, **options), 64
        )  # 64: aiosqlite's own default

    # SQLAlchemy reads these names from the module that it takes for aiosqlite.
    stand_in = ModuleType("aiosqlite")
    stand_in.__dict__.update(
        {name: getattr(module, name) for name in _NAMES},
        connect=connect,
        Connection=aiosqlite.Connection,
        __version__=aiosqlite.__version__,
    )
    adapted: Any = AsyncAdapt_aiosqlite_dbapi(stand_in, module)
    dialect_module: ModuleType = adapted
    return dialect_module


_NAMES: Final = (
    *(
        "DatabaseError",
        "Error",
        "IntegrityError",
        "NotSupportedError",
        "OperationalError",
        "ProgrammingError",
    ),
    *("sqlite_version", "sqlite_version_info"),
)


def has_reset_bug(version: tuple[int, ...]) -> bool:
    """Return whether *version* of SQLite has the race, so that several processes should not share a file."""
    fixed = any(version[:2] == branch[:2] and version >= branch for branch in _FIXED_BRANCHES)
    return _AFFECTED <= version < _FIXED and not fixed
