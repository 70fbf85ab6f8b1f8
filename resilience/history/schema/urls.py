"""Database URLs: the driver for writing, the driver for reading, and the file of an SQLite database.

One URL serves both sides, whatever driver it names. The writer thread and migrations use blocking drivers, readers may await.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from resilience.history import database_url
from resilience.history.schema import postgres_session
from resilience.redaction import redact_url


def parse(url: str) -> sa.URL:
    """Parse *url* and check that a history can be stored there.

    Args:
        url: `sqlite:///FILE` or `postgresql://...`, with or without a driver. `postgres://` is accepted: hosting services
            still give such URLs.

    Returns:
        The URL, with an absolute path for a file. `~` is the home folder.

    Raises:
        ConfigurationError: it is not a URL, names another kind of database, or an SQLite database without a file.
    """
    database_url.check(url)
    try:
        parsed = _with_our_name(sa.make_url(url))
    except (ArgumentError, ValueError):
        raise database_url.unreadable() from None  # the message of the cause contains the URL with its password
    return parsed.set(database=str(path(parsed))) if is_sqlite(parsed) else parsed


def writing(url: sa.URL) -> sa.URL:
    """Return the URL of the same database with the blocking driver, for the writer thread and for migrations."""
    return _sqlite_or_psycopg(url, "sqlite+pysqlite")


def reading(url: sa.URL) -> sa.URL:
    """Return the URL of the same database with the driver for queries, which may be awaited."""
    return _sqlite_or_psycopg(url, "sqlite+aiosqlite")


def is_sqlite(url: sa.URL) -> bool:
    """Return whether the database is an SQLite file."""
    return url.get_backend_name() == "sqlite"


def path(url: sa.URL) -> Path:
    """Return the absolute path of an SQLite database."""
    return Path(url.database or "").expanduser().absolute()


def is_there(url: sa.URL) -> bool:
    """Return whether *url* is a server or an existing file, or a file in a folder that this user may not look into.

    To open the last one fails with an error that names the file. To take it for missing would show an empty history.
    """
    if not is_sqlite(url):
        return True
    try:
        return path(url).exists()
    except PermissionError:
        return True


def shown(url: sa.URL) -> str:
    """Return the URL as text without its credentials, for messages: spelled as everywhere else, see `redact_url`."""
    return redact_url(url.render_as_string(hide_password=False))


def with_schema(url: str, schema: str) -> str:
    """Return *url* with the schema for the tables; unchanged if it names no PostgreSQL server, which alone has schemas.

    Raises:
        ConfigurationError: *url* cannot be used.
    """
    parsed = parse(url)
    if is_sqlite(parsed):
        return url
    return postgres_session.with_schema(parsed, schema).render_as_string(hide_password=False)


def _with_our_name(url: sa.URL) -> sa.URL:
    """Return *url* with the name that SQLAlchemy has for PostgreSQL, and with the options of libpq.

    asyncpg has other options than libpq, which refuses what it does not know. Its `ssl` is our `sslmode`; the rest are about
    asyncpg's own statement cache and time limits.
    """
    if url.get_backend_name() == "postgres":
        url = url.set(drivername="postgresql" + url.drivername.removeprefix("postgres"))
    if url.drivername != "postgresql+asyncpg":
        return url
    query = {name: value for name, value in url.query.items() if name not in _OF_ASYNCPG}
    return url.set(query={"sslmode": url.query["ssl"], **query} if "ssl" in url.query else query)


_OF_ASYNCPG = frozenset(
    {
        *("ssl", "timeout", "command_timeout", "statement_cache_size", "prepared_statement_cache_size"),
        *("max_cached_statement_lifetime", "max_cacheable_statement_size", "prepared_statement_name_func"),
        *("async_fallback", "direct_tls"),
    }
)


def _sqlite_or_psycopg(url: sa.URL, sqlite: str) -> sa.URL:
    if is_sqlite(url):
        return url.set(drivername=sqlite)
    return postgres_session.start_up_url(url).set(drivername="postgresql+psycopg")
