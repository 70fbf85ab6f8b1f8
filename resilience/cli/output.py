"""Everything the commands print: tables for people, JSON and CSV for programs, messages on standard error.

A table is drawn on a terminal; a pipe gets plain columns with one line for each row. The other modules of the command line print
through this one, so text from elsewhere is escaped in one place. `doctor` and `demo` draw with Rich and call `escape` themselves.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.cells import cell_len

from resilience.cli import columns as columns_of
from resilience.cli.csv_text import write_csv
from resilience.terminal import escape

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

Rows = Sequence[Sequence[Any]]
_WIDEST: Final = 400
"""Characters to which the cells of a column are padded in a pipe. Longer cells are printed whole."""


@dataclass(frozen=True, slots=True)
class Styled:
    """A cell with a colour. Only a terminal shows the colour.

    Attributes:
        text: the cell.
        style: a style of Rich, such as `red`.
    """

    text: str
    style: str

    def __str__(self) -> str:
        return self.text


def print_rows(
    columns: Sequence[str],
    rows: Rows,
    *,
    as_json: bool = False,
    as_csv: bool = False,
    raw: bool = False,
    console: Console | None = None,
) -> None:
    """Print *rows* in the format that the options name.

    Args:
        columns: one title for each column.
        rows: one value for each column.
        as_json: print an array with one object for each row.
        as_csv: print CSV with a header line.
        raw: whether CSV has texts exactly as they are; without it, a text that a spreadsheet would run gets an apostrophe.
        console: where a table is drawn; standard output when not given.

    Raises:
        typer.BadParameter: both formats were given.
    """
    if as_json and as_csv:
        msg = "--json and --csv exclude each other"
        raise typer.BadParameter(msg)
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif as_csv:
        write_csv(columns, rows, _csv_text, raw=raw)
    else:
        _print_table(columns, rows, console or _console())


def print_in_form(columns: Sequence[str], rows: Rows, form: str, *, raw: bool = False) -> None:
    """Print rows in a format of `options.form`.

    Args:
        columns: one title for each column.
        rows: one value for each column.
        form: `table`, `wide`, `json`, `jsonl` or `csv`.
        raw: as for `print_rows`.
    """
    if form == "jsonl":
        for row in rows:
            print_json(dict(zip(columns, row, strict=True)))
    else:
        print_rows(columns, rows, as_json=form == "json", as_csv=form == "csv", raw=raw)


def print_fitted(
    titles: Sequence[str],
    rows: Rows,
    keep: Sequence[int],
    console: Console | None = None,
    *,
    names: Collection[int] = (),
) -> None:
    """Print rows for people: one line for each, no wider than the terminal. A pipe gets whole cells.

    Args:
        titles: the head of each column.
        rows: one value for each column.
        keep: for each column how long it stays where the terminal is narrow; 0 is a column whose cells are cut first.
        console: where it is drawn; standard output when not given.
        names: columns of names, which are cut in their middle.
    """
    console = console or _console()
    texts = [[_cell(value) for value in row] for row in rows]
    columns = list(range(len(titles)))
    widths = [max(map(cell_len, column)) for column in zip(titles, *texts, strict=True)]
    if console.is_terminal:
        columns = columns_of.fitting(widths, keep, console.width)
    numeric = [all(isinstance(row[index], int | float | None) for row in rows) for index in columns]
    heads = [titles[index] for index in columns]
    if not console.is_terminal:
        _print_columns(heads, texts, numeric)
        return
    sizes = dict(zip(columns, columns_of.cut(columns, widths, keep, console.width), strict=True))
    table = _empty_table(heads, numeric, list(sizes.values()))
    for row in rows:
        table.add_row(*(_styled(row[index], size, middle=index in names) for index, size in sizes.items()))
    console.print(table)


def _empty_table(heads: Sequence[str], numeric: Sequence[bool], widths: Sequence[int]) -> Table:
    # Every width is given: Rich would take from all columns what one long message needs.
    table = _table()
    for head, is_number, width in zip(heads, numeric, widths, strict=True):
        justify: Any = "right" if is_number else "left"
        table.add_column(_styled(head), justify=justify, no_wrap=True, overflow="ellipsis", width=width)
    return table


def print_json(value: object, *, indent: int | None = None) -> None:
    """Print one JSON value and nothing else.

    Args:
        value: JSON types, and datetimes, which become ISO 8601 in UTC with a Z.
        indent: spaces for each level; all on one line when not given.
    """
    # `json` escapes every character beyond ASCII. DEL is ASCII, and in JSON it can only be inside a string.
    text = json.dumps(value, default=_json_value, indent=indent).replace("\x7f", "\\u007f")
    sys.stdout.write(text + "\n")


def print_screen(lines: Iterable[Styled], console: Console) -> None:
    """Print whole lines, each in its colour; none is folded, since some of them are commands to paste.

    Args:
        lines: the lines, without line feeds.
        console: where they are drawn.
    """
    for line in lines:
        console.print(_styled(line), soft_wrap=True)


def print_line(text: str) -> None:
    """Print one line of a result for people.

    Args:
        text: the line, without a line feed at its end. One inside is escaped, so a line stays a line.
    """
    sys.stdout.write(escape(text) + "\n")


def print_exposition(text: str) -> None:
    """Print Prometheus text: exact in a pipe, escaped on a terminal. Its own escapes know line feeds and quotes only.

    Args:
        text: the text, with its line feeds.
    """
    sys.stdout.write(escape(text, keep="\n") if sys.stdout.isatty() else text)


def print_value(text: str) -> None:
    """Print one value that scripts use, such as a path: exact in a pipe, escaped on a terminal.

    Args:
        text: the value.
    """
    sys.stdout.write((escape(text) if sys.stdout.isatty() else text) + "\n")


def note(text: str, *, source: str = "resilience") -> None:
    """Print one line on standard error: a warning or an explanation, which is not part of the result.

    Args:
        text: the message.
        source: what the message is about: the command, or a place such as `errors.jsonl:2`.
    """
    sys.stderr.write(f"{escape(source)}: {escape(text)}\n")


def record_rows(records: Iterable[Any]) -> tuple[list[str], list[list[Any]]]:
    """Convert records to columns and rows.

    Args:
        records: dataclasses of one class.

    Returns:
        The names of their fields, and one row of values for each record. Both are empty without records.
    """
    all_records = list(records)
    # Not `dataclasses.asdict`: it would copy nested values, and rows need only the top level.
    names = [field.name for field in dataclasses.fields(all_records[0])] if all_records else []
    return names, [[getattr(record, name) for name in names] for record in all_records]


# Rich is imported where something is drawn: a command that prints one value would pay more for it than for its work.


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415 - as above

    return Console(highlight=False)


def _table() -> Table:
    from rich import box  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))


def _styled(value: object, size: int | None = None, *, middle: bool = False) -> Text:
    from rich.text import Text  # noqa: PLC0415 - as above

    text = _cell(value)
    if size is not None:
        text = columns_of.shorten(text, size, middle=middle)
    # `Text`, and not a string: Rich would take [brackets] of a message for its markup.
    return Text(text, style=_style(value))


def _print_table(columns: Sequence[str], rows: Rows, console: Console) -> None:
    columns = [escape(column) for column in columns]  # a query names its columns as it likes
    # Numbers are aligned at the right, so that a column of them can be compared at a glance.
    numeric = [
        all(isinstance(row[index], int | float | None) for row in rows) for index in range(len(columns))
    ]
    if console.is_terminal:
        console.print(_rich_table(columns, rows, numeric))
    else:
        _print_columns(columns, [[_cell(value) for value in row] for row in rows], numeric)


def _rich_table(columns: Sequence[str], rows: Rows, numeric: Sequence[bool]) -> Table:
    # The box has one space between columns, and each cell one at its right: two, as in a pipe. More would fold cells at
    # 80 columns that fit.
    table = _table()
    for column, is_number in zip(columns, numeric, strict=True):
        table.add_column(_styled(column), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_styled, row))
    return table


def _print_columns(columns: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> None:
    """Print one line for each row, however long, because `grep`, `awk` and `less -S` work on lines."""
    # One very long cell must not pad all other rows to its width: that would print gigabytes.
    widths = [min(max(map(len, column)), _WIDEST) for column in zip(columns, *cells, strict=True)]
    for row in (columns, *cells):
        parts = (
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, numeric, strict=True)
        )
        sys.stdout.write("  ".join(parts).rstrip() + "\n")


def _cell(value: object) -> str:
    """Return a value as people read it, on one line."""
    return escape(_text(value))


def _style(value: object) -> str:
    # All other cells have the colour of the terminal, which works with dark and light themes.
    return value.style if isinstance(value, Styled) else ""


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        # Four decimals are enough for seconds and rates. "g" drops zeros at the end and keeps whole numbers short.
        return format(round(value, 4), ".12g")
    if isinstance(value, datetime):
        return value.isoformat(" ", "milliseconds").replace("+00:00", "Z")
    return json.dumps(value) if isinstance(value, Mapping | list) else str(value)


def _csv_text(value: object) -> str:
    """Return a value as programs read it: stamps in full."""
    return str(_json_value(value)) if isinstance(value, datetime) else _text(value)


def _json_value(value: object) -> object:
    """Return a value for which JSON has no type as one for which it has, for the argument `default` of json.dumps."""
    if isinstance(value, datetime | date):
        return value.isoformat().replace("+00:00", "Z")
    return dict(value) if isinstance(value, Mapping) else str(value)


class WarningHandler(logging.Handler):
    """Prints the library's warnings on standard error.

    A library leaves its log records to the handlers of the program. Here the command is the program.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is a message for people. The log bridge uses child loggers for its events."""
        return record.name == "resilience" and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message as one line."""
        try:
            note(record.getMessage())
        except Exception:  # noqa: BLE001 - as every handler of `logging`
            self.handleError(record)
