"""Options that several commands share, and the history they read.

An option that means the same in two commands is defined here once, so that its name, its syntax and its help are the same.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import typer

from resilience.config.settings import Settings
from resilience.errors import HistoryError
from resilience.failure import ErrorCategory
from resilience.history import SyncHistory
from resilience.history.schema import urls
from resilience.times import parse_time


def database() -> str:
    """Return the URL of this project's history.

    Raises:
        ConfigurationError: the settings are not valid.
        HistoryError: the SQLite file does not exist. The message says where it was looked for.
    """
    text = Settings().complete().database_url or ""
    url = urls.parse(text)
    # Opening an SQLite file creates it, and an empty history would answer every question with "nothing".
    if urls.is_sqlite(url) and not urls.path(url).is_file():
        msg = (
            f"there is no history at {urls.path(url)}: nothing was recorded from here yet; go to the project's folder, "
            "or name its database in RESILIENCE_DATABASE_URL"
        )
        raise HistoryError(msg)
    return text


def history() -> SyncHistory:
    """Return this project's history, to be read.

    Raises:
        ConfigurationError: the settings are not valid.
        HistoryError: the SQLite file does not exist.
    """
    return SyncHistory(database())


def _time(text: str) -> datetime | timedelta:
    """Parse a TIME. Click adds the name of the option to the message of a BadParameter, not of a ValueError."""
    try:
        return parse_time(text)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from None


# `parser` and `metavar` belong together: without a metavar Typer would show the name of the parser's function.
_TIME: Final[dict[str, Any]] = {"metavar": "TIME", "parser": _time}

# Filters of the history. All that are given must match.
Client = Annotated[str | None, typer.Option(help="Only rows of this client.")]
Function = Annotated[str | None, typer.Option(help="Only rows of this BAML function.")]
Category = Annotated[ErrorCategory | None, typer.Option(help="Only errors of this category.")]
Since = Annotated[
    Any, typer.Option(help="Only rows since 90s, 15m, 2h, 7d or 2w ago, or since 2025-06-01T12:00Z.", **_TIME)
]
Until = Annotated[Any, typer.Option(help="Only rows before this time, in the format of --since.", **_TIME)]
RequestId = Annotated[str | None, typer.Option(help="Only rows of this request.")]
# The upper limit protects the terminal and the memory of this process, which holds all rows at once.
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of rows.")]
# Formats. "And nothing else" is a promise to scripts: messages go to standard error.
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON with every field, and nothing else.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV with every field, and nothing else.")]
JsonObject = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")]
JsonArray = Annotated[bool, typer.Option("--json", help="Print a JSON array, and nothing else.")]
