"""Lists of records: few columns that fit a terminal, all fields for programs, and what an empty list means.

A person compares lines. So a line is one record, cut at the width of the terminal, and columns that matter less are left out
where the terminal is narrow. An id has 32 characters and only its end differs between records of one minute, so a list shows
the last eight, and commands accept them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import typer

from resilience.cli.output import note, print_fitted, print_json, print_rows, record_rows

if TYPE_CHECKING:
    from resilience.history import SyncHistory

SHORT: Final = 8
"""Characters of a shortened id."""
_WHOLE: Final = 32
"""An id of this length or more is not searched by its end."""
_MATCHES: Final = 3


@dataclass(frozen=True, slots=True)
class Column:
    """A column for people.

    Attributes:
        title: its head.
        value: returns the cell of a record.
        keep: how long it stays where the terminal is narrow: columns with a small number go first.
        flexible: whether its cells may be cut.
        name: whether they are names, which are cut in their middle.
    """

    title: str
    value: Callable[[Any], object]
    keep: int = 9
    flexible: bool = False
    name: bool = False


def clock(at: datetime | None) -> str:
    """Return the time of day of today, or the date and the time of another day, in UTC."""
    if at is None:
        return ""
    utc = at.astimezone(UTC)
    if utc.date() == datetime.now(UTC).date():
        return f"{utc:%H:%M:%S}.{utc.microsecond // 1000:03}"
    return f"{utc:%Y-%m-%d %H:%M:%S}"


def short(identifier: str | None) -> str:
    """Return the last characters of an id: ids of one minute begin alike."""
    return (identifier or "")[-SHORT:]


def print_records(
    records: Sequence[Any],
    columns: Sequence[Column],
    form: str,
    *,
    limit: int,
    empty: Callable[[], str],
    raw: bool = False,
) -> None:
    """Print records in a format of `options.form`.

    Args:
        records: dataclasses of one class.
        columns: the columns for people.
        form: `table`, `wide`, `json`, `jsonl` or `csv`.
        limit: the limit of the query; a list of that length may be cut, and says so.
        empty: returns what an empty list means. It is called only for people.
        raw: whether CSV has texts exactly as they are.
    """
    names, rows = record_rows(records)
    if form == "json":
        # Programs get an empty array, which is an answer.
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    elif form == "jsonl":
        for row in rows:
            print_json(dict(zip(names, row, strict=True)))
    elif not records:
        # CSV without rows has no header: the fields are those of the records.
        note(empty())
    elif form == "table":
        cells = [[column.value(record) for column in columns] for record in records]
        keep = [0 if column.flexible or column.name else column.keep for column in columns]
        named = [index for index, column in enumerate(columns) if column.name]
        print_fitted([column.title for column in columns], cells, keep, names=named)
    else:
        print_rows(names, rows, as_csv=form == "csv", raw=raw)
    if len(records) == limit:
        first = "this is the first" if limit == 1 else f"these are the first {limit}"
        note(f"{first}; there may be more, see --limit")


def whole_id(history: SyncHistory, table: str, column: str, text: str) -> str:
    """Return the id that *text* is the end of; *text* itself if it is whole, or no id ends with it.

    Args:
        history: the history.
        table: the table with the id, a name of ours.
        column: its column, a name of ours.
        text: what a person typed.

    Raises:
        typer.BadParameter: several ids end with it.
    """
    if len(text) >= _WHOLE:
        return text
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    query = (
        f"SELECT DISTINCT {column} FROM {table} WHERE {column} = :whole OR {column} LIKE :tail ESCAPE '\\' "  # noqa: S608 - names of ours
        f"LIMIT {_MATCHES}"
    )
    found = [row[0] for row in history.sql(query, {"whole": text, "tail": f"%{escaped}"}).rows]
    if text in found or not found:
        return text
    if len(found) > 1:
        msg = f"{text!r} is the end of several ids, such as {' and '.join(found[:2])}: give more characters"
        raise typer.BadParameter(msg)
    return str(found[0])
