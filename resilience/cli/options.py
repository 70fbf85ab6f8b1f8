"""What commands that ask the history share: where it is, and the filters of its questions."""

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

NOTHING: Final = 1
"""The exit code when what was named is not kept."""


def database() -> str:
    """The URL of this project's history.

    Raises:
        HistoryError: the embedded file is not there; says where it was looked for.
    """
    url = Settings().complete().database_url or ""
    found = urls.parse(url)
    if urls.is_sqlite(found) and not urls.path(found).is_file():
        msg = (
            f"there is no history at {urls.path(found)}: nothing was recorded from here yet; go to the project's folder, "
            "or name its database in RESILIENCE_DATABASE_URL"
        )
        raise HistoryError(msg)
    return url


def history() -> SyncHistory:
    """This project's history.

    Raises:
        HistoryError: as `database`.
    """
    return SyncHistory(database())


def _when(text: str) -> datetime | timedelta:
    try:
        return parse_time(text)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from None


_TIME: Final[dict[str, Any]] = {"metavar": "TIME", "parser": _when}

Client = Annotated[str | None, typer.Option(help="Only of this client.")]
Function = Annotated[str | None, typer.Option(help="Only of this function.")]
Category = Annotated[ErrorCategory | None, typer.Option(help="Only errors of this kind.")]
Since = Annotated[Any, typer.Option(help="Only since 90s, 15m, 2h or 7d ago, or 2025-06-01T12:00Z.", **_TIME)]
Until = Annotated[Any, typer.Option(help="Only before this; as --since.", **_TIME)]
RequestId = Annotated[str | None, typer.Option(help="Only of this request.")]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else, with every field.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV and nothing else, with every field.")]
