"""The URL of a history, checked without SQLAlchemy: settings are checked by commands and processes that never open a database."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from resilience.errors import ConfigurationError
from resilience.redaction import redact_url

_EXAMPLES: Final = "sqlite:////var/lib/app/resilience.db or postgresql+psycopg://host/database?user=NAME"
_URL: Final = re.compile(r"(?P<driver>[\w+]+)://(?P<rest>.*)", re.DOTALL)
_FILE: Final = re.compile(r"/(?P<path>[^?]*)(?P<query>.*)", re.DOTALL)
_SERVER: Final = re.compile(r"(?:[^:/]*(?::[^@]*)?@)?(?:\[[^/?]+\]|[^/:?]+)?(?::(?P<port>[^/?]*))?")
"""Credentials, host and port. A password may have any character but @."""
_PORT: Final = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A URL that can be one of a history.

    Attributes:
        text: the URL as it was given.
        is_sqlite: whether it names an SQLite file; otherwise a server of PostgreSQL.
        shown: the URL without its credentials, for messages and log folders; with the absolute path of a file.
    """

    text: str = field(repr=False)
    is_sqlite: bool
    shown: str


def check(url: str) -> DatabaseUrl:
    """Check that a history can be stored at *url*, as far as that can be seen without a connection.

    Args:
        url: `sqlite:///FILE` or `postgresql://...`, with or without a driver. `postgres://` is accepted: hosting services
            still give such URLs.

    Raises:
        ConfigurationError: it is not a URL, names another kind of database, or an SQLite database without a file.
    """
    found = _URL.match(url)
    if found is None:
        raise unreadable()
    backend = found["driver"].partition("+")[0]
    if backend == "sqlite":
        return DatabaseUrl(url, is_sqlite=True, shown=_file(url, found["driver"], found["rest"]))
    if backend not in {"postgresql", "postgres"}:
        msg = f"the history cannot live in {backend!r}: give a URL such as {_EXAMPLES}"
        raise ConfigurationError(msg)
    server = _SERVER.match(found["rest"])
    if server is None or (server["port"] is not None and not _PORT.fullmatch(server["port"])):
        raise unreadable()
    return DatabaseUrl(url, is_sqlite=False, shown=redact_url(url))


def _file(url: str, driver: str, rest: str) -> str:
    """Return the URL of a file with its absolute path.

    Raises:
        ConfigurationError: it names no file. A database in memory would be a different one for every connection, so nothing
            could be read back.
    """
    found = _FILE.match(rest)
    if found is None or found["path"] in {"", ":memory:"}:
        msg = f"the history needs a file that processes can share, not {redact_url(url)!r}: give a URL such as {_EXAMPLES}"
        raise ConfigurationError(msg)
    path = Path(found["path"]).expanduser().absolute()
    return redact_url(f"{driver}:///{path}{found['query']}")


def unreadable() -> ConfigurationError:
    """Return the error for what is no URL. The URL is not in it: it may have a password."""
    return ConfigurationError(f"the history's database URL cannot be read: give one such as {_EXAMPLES}")
