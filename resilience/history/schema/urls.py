"""Database URLs: the driver for writing, the driver for reading, and the file of an SQLite database.

One URL serves both sides, whatever driver it names. The writer thread and migrations use blocking drivers, readers may await.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from resilience.errors import ConfigurationError
from resilience.redaction import redact_secrets

_EXAMPLES = "sqlite:////var/lib/app/resilience.db or postgresql+psycopg://user@host/database"


def parse(url: str) -> sa.URL:
    """Parse *url* and check that a history can be stored there.

    Args:
        url: `sqlite:///FILE` or `postgresql://...`, with or without a driver.

    Returns:
        The URL, with an absolute path for a file. `~` is the home folder.

    Raises:
        ConfigurationError: it is not a URL, names another kind of database, or an SQLite database without a file.
    """
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        msg = f"the history's database URL cannot be read: give one such as {_EXAMPLES}"
        raise ConfigurationError(msg) from None  # the message of the cause contains the URL with its password
    backend = parsed.get_backend_name()
    if backend not in {"sqlite", "postgresql"}:
        msg = f"the history cannot live in {backend!r}: give a URL such as {_EXAMPLES}"
        raise ConfigurationError(msg)
    # A database in memory would be a different one for every connection, so nothing could be read back.
    if backend == "sqlite" and parsed.database in {None, "", ":memory:"}:
        msg = (
            f"the history needs a file that processes can share, not {url!r}: give a URL such as {_EXAMPLES}"
        )
        raise ConfigurationError(msg)
    return parsed.set(database=str(path(parsed))) if backend == "sqlite" else parsed


def writing(url: sa.URL) -> sa.URL:
    """Return the URL of the same database with the blocking driver, for the writer thread and for migrations."""
    return url.set(drivername="sqlite+pysqlite" if is_sqlite(url) else "postgresql+psycopg")


def reading(url: sa.URL) -> sa.URL:
    """Return the URL of the same database with the driver for queries, which may be awaited."""
    return url.set(drivername="sqlite+aiosqlite" if is_sqlite(url) else "postgresql+psycopg")


def is_sqlite(url: sa.URL) -> bool:
    """Return whether the database is an SQLite file."""
    return url.get_backend_name() == "sqlite"


def path(url: sa.URL) -> Path:
    """Return the absolute path of an SQLite database."""
    return Path(url.database or "").expanduser().absolute()


def shown(url: sa.URL) -> str:
    """Return the URL as text without its password, for messages."""
    # SQLAlchemy hides the password of the authority. One in a query parameter is ours to mask.
    plain, mark, query = url.render_as_string(hide_password=True).partition("?")
    return plain + mark + redact_secrets(query)
