"""The file that a plain SQLite URL names, without SQLAlchemy: its import takes longer than all else that `db path` does."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PREFIX: Final = "sqlite:///"


def file_of(url: str) -> Path | None:
    """Return the absolute path of the file that *url* names.

    Args:
        url: the URL of a history.

    Returns:
        None if the URL needs a parser: a server, a driver, options, or an SQLite URL that names no file. `schema.urls` reads all.
    """
    name = url.removeprefix(_PREFIX)
    if not url.startswith(_PREFIX) or "?" in name or name in {"", ":memory:"}:
        return None
    return Path(name).expanduser().absolute()
