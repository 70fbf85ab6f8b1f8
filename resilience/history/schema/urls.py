"""Database URLs: which driver writes, which one reads, and where the file is."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from resilience.errors import ConfigurationError
from resilience.redaction import redact_secrets

_EXAMPLES = "sqlite:////var/lib/app/resilience.db or postgresql+psycopg://user@host/database"


def parse(url: str) -> sa.URL:
    """Read *url* and check that the history can live there; a file's path becomes a whole one, `~` included.

    Raises:
        ConfigurationError: it is no URL, names another kind of database, or no file.
    """
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        msg = f"the history's database URL cannot be read: give one such as {_EXAMPLES}"
        raise ConfigurationError(msg) from None  # the text of the cause repeats the URL, and its password
    backend = parsed.get_backend_name()
    if backend not in {"sqlite", "postgresql"}:
        msg = f"the history cannot live in {backend!r}: give a URL such as {_EXAMPLES}"
        raise ConfigurationError(msg)
    if backend == "sqlite" and parsed.database in {None, "", ":memory:"}:
        msg = (
            f"the history needs a file that processes can share, not {url!r}: give a URL such as {_EXAMPLES}"
        )
        raise ConfigurationError(msg)
    return parsed.set(database=str(path(parsed))) if backend == "sqlite" else parsed


def writing(url: sa.URL) -> sa.URL:
    """The same database through the blocking driver, for the writer thread and for migrations."""
    return url.set(drivername="sqlite+pysqlite" if is_sqlite(url) else "postgresql+psycopg")


def reading(url: sa.URL) -> sa.URL:
    """The same database through the awaited driver, for queries."""
    return url.set(drivername="sqlite+aiosqlite" if is_sqlite(url) else "postgresql+psycopg")


def is_sqlite(url: sa.URL) -> bool:
    """Is it a file of this machine?"""
    return url.get_backend_name() == "sqlite"


def path(url: sa.URL) -> Path:
    """The file of an SQLite database."""
    return Path(url.database or "").expanduser().absolute()


def shown(url: sa.URL) -> str:
    """The URL for people, without its password, wherever that stands."""
    plain, mark, query = url.render_as_string(hide_password=True).partition("?")
    return plain + mark + redact_secrets(query)
