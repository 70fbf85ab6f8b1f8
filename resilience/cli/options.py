"""Options that several commands share, and the history they read.

An option that means the same in two commands is defined here once, so that its name, its syntax and its help are the same.
"""

from __future__ import annotations

import contextlib
import difflib
import shlex
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from resilience.cli import completion
from resilience.config.settings import Settings
from resilience.errors import HistoryError
from resilience.failure import ErrorCategory
from resilience.history.sqlite_url import file_of
from resilience.times import parse_time, to_utc

if TYPE_CHECKING:
    from resilience.history import SyncHistory


def database() -> str:
    """Return the URL of this project's history.

    Raises:
        ConfigurationError: the settings are not valid.
        HistoryError: the SQLite file does not exist. The message says where it was looked for.
    """
    text = Settings().complete().database_url or ""
    file = _file(text)
    # Opening an SQLite file creates it, and an empty history would answer every question with "nothing".
    if file is not None and not file.is_file():
        msg = (
            f"there is no history at {file}: nothing was recorded from here yet; go to the project's folder, "
            f"or name its database in RESILIENCE_DATABASE_URL{demo_below(file.parent)}"
        )
        raise HistoryError(msg)
    return text


def demo_below(folder: Path) -> str:
    """Return the options that lead to the newest demo in *folder*, to end a message with; empty without one.

    A newcomer runs the demo first, and looks for its history where the agents of the project will have theirs.
    """
    with contextlib.suppress(OSError):
        # Names end in the time and the process: the newest is the last.
        for file in sorted(folder.glob("demo-*/resilience.db"), reverse=True):
            demo = file.parent
            return f"; the last demo here is at --at {shlex.quote(str(demo))} --namespace {shlex.quote(demo.name)}"
    return ""


def history() -> SyncHistory:
    """Return this project's history, to be read: the rows of the configured namespace.

    Raises:
        ConfigurationError: the settings are not valid.
        HistoryError: the SQLite file does not exist.
    """
    from resilience.history import SyncHistory  # noqa: PLC0415 - SQLAlchemy, which not every command needs

    return SyncHistory(database(), Settings().complete().namespace)


def shown_place() -> str:
    """Return where this project's history is, without secrets, for messages."""
    return place_of(database())


def place_of(url: str) -> str:
    """Return where the history of a URL is, without secrets: the path of an SQLite file, else the URL.

    Raises:
        ConfigurationError: *url* cannot be used.
    """
    file = _file(url)
    if file is not None:
        return str(file)
    from resilience.history.schema import urls  # noqa: PLC0415 - SQLAlchemy, which not every command needs

    return urls.shown(urls.parse(url))


def _file(url: str) -> Path | None:
    """Return the file of an SQLite URL; None for a server."""
    file = file_of(url)
    if file is not None:
        return file
    from resilience.history.schema import urls  # noqa: PLC0415 - SQLAlchemy, which not every command needs

    parsed = urls.parse(url)
    return urls.path(parsed) if urls.is_sqlite(parsed) else None


def parse_moment(text: str) -> datetime | timedelta:
    """Parse a TIME. Click adds the name of the option to the message of a BadParameter, not of a ValueError."""
    try:
        return parse_time(text)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from None


def _category(text: str) -> ErrorCategory:
    """Parse a category. Hyphens and capitals are what people type after other tools."""
    word = text.strip().lower().replace("-", "_")
    try:
        return ErrorCategory(word)
    except ValueError:
        near = difflib.get_close_matches(word, list(ErrorCategory), 1)
        guess = f"did you mean {near[0]}? " if near else ""
        msg = f"{text!r} is not a category: {guess}there are {', '.join(ErrorCategory)}"
        raise typer.BadParameter(msg) from None


class OutputFormat(StrEnum):
    """A format of a list."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


class ObjectFormat(StrEnum):
    """A format of one object."""

    TABLE = "table"
    JSON = "json"


def form(output: OutputFormat | None, *, as_json: bool, as_csv: bool) -> str:
    """Return the one format that the options name; a table by default.

    Args:
        output: the value of --output.
        as_json: whether --json was given.
        as_csv: whether --csv was given.

    Raises:
        typer.BadParameter: they exclude each other.
    """
    named = {
        *([output.value] if output else []),
        *(["json"] if as_json else []),
        *(["csv"] if as_csv else []),
    }
    if len(named) > 1:
        msg = "--json, --csv and --output exclude each other"
        raise typer.BadParameter(msg)
    return named.pop() if named else OutputFormat.TABLE.value


def check_window(since: Any, until: Any) -> None:
    """Refuse a window that ends before it begins: an empty answer would look like good news.

    Raises:
        typer.BadParameter: it does.
    """
    now = datetime.now(UTC)
    begin, end = to_utc("since", since, now), to_utc("until", until, now)
    if begin is not None and end is not None and end <= begin:
        msg = f"--until {end:%Y-%m-%dT%H:%M:%SZ} is not after --since {begin:%Y-%m-%dT%H:%M:%SZ}: nothing can be between"
        raise typer.BadParameter(msg)


# `parser` and `metavar` belong together: without a metavar Typer would show the name of the parser's function.
_TIME: Final[dict[str, Any]] = {"metavar": "TIME", "parser": parse_moment}

# Filters of the history. All that are given must match.
Client = Annotated[
    str | None, typer.Option(help="Only rows of this client.", autocompletion=completion.clients)
]
Function = Annotated[
    str | None,
    typer.Option(help="Only rows of this BAML function.", autocompletion=completion.functions),
]
Category = Annotated[
    Any,
    typer.Option(
        metavar="CATEGORY",
        parser=_category,
        autocompletion=completion.categories,
        help="Only errors of this category, such as rate_limit.",
    ),
]
Since = Annotated[
    Any, typer.Option(help="Only rows since 90s, 15m, 2h, 7d or 2w ago, or since 2025-06-01T12:00Z.", **_TIME)
]
Until = Annotated[Any, typer.Option(help="Only rows before this time, in the format of --since.", **_TIME)]
RequestId = Annotated[str | None, typer.Option(help="Only rows of this request.")]
# The upper limit protects the terminal and the memory of this process, which holds all rows at once.
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of rows.")]
# Formats. "And nothing else" is a promise to scripts: messages go to standard error.
Output = Annotated[
    OutputFormat | None,
    typer.Option("--output", "-o", help="Format: a table that fits the terminal, or every field."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON with every field, and nothing else.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV with every field, and nothing else.")]
Raw = Annotated[
    bool,
    typer.Option(
        "--raw", help="With --csv: cells exactly as they are, also those that a spreadsheet would run."
    ),
]
ObjectOutput = Annotated[
    ObjectFormat | None,
    typer.Option("--output", "-o", help="Format: a screen for people, or one JSON object."),
]
JsonObject = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")]
JsonArray = Annotated[bool, typer.Option("--json", help="Print a JSON array, and nothing else.")]
