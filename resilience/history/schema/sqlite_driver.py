"""Which SQLite this process uses for the history: one and the same for every connection.

SQLite 3.7.0 to 3.51.2 has a race between connections that write and reset the write-ahead log, which can damage the file
(https://sqlite.org/wal.html#walresetbug); it was mended in 3.51.3, and in 3.44.6 and 3.50.7. The extra `sqlite-fixed`
brings a build of its own, and where it is installed it is used. Never both: two builds in one process know nothing of each
other's locks, and the first that closes a file lets go of all of them (https://sqlite.org/howtocorrupt.html, section 2.2.1).
"""

from __future__ import annotations

import importlib
import sqlite3
from types import ModuleType
from typing import Any, Final

_MENDED: Final = ((3, 44, 6), (3, 50, 7))
_SOUND: Final = (3, 51, 3)
_FIRST: Final = (3, 7, 0)


def chosen() -> ModuleType:
    """The module that speaks to SQLite files: `pysqlite3` where it is installed, else Python's own."""
    try:
        return importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        return sqlite3


module: Final = chosen()


def awaited() -> ModuleType | None:
    """What SQLAlchemy's awaited dialect is to use; None for what it uses by itself."""
    if module is sqlite3:
        return None
    import aiosqlite  # noqa: PLC0415 - for readers alone
    from sqlalchemy.dialects.sqlite.aiosqlite import (  # noqa: PLC0415 - as above
        AsyncAdapt_aiosqlite_dbapi,
    )

    def connect(path: str, **options: Any) -> aiosqlite.Connection:
        return aiosqlite.Connection(lambda: module.connect(path, **options), 64)

    stand_in = ModuleType("aiosqlite")
    stand_in.__dict__.update(
        {name: getattr(module, name) for name in _NAMES},
        connect=connect,
        Connection=aiosqlite.Connection,
        __version__=aiosqlite.__version__,
    )
    adapted: Any = AsyncAdapt_aiosqlite_dbapi(stand_in, module)
    found: ModuleType = adapted
    return found


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
    """Is it a version of SQLite whose write-ahead log several processes should not share?"""
    mended = any(version[:2] == since[:2] and version >= since for since in _MENDED)
    return _FIRST <= version < _SOUND and not mended
