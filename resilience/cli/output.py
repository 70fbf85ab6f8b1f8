"""Rows for people, for pipes and for programs: a table on a terminal, plain columns in a pipe, JSON or CSV when asked."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Rows = Sequence[Sequence[Any]]

_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
"""A message may hold what a terminal would obey."""
_IN_A_LINE: Final = {**_CONTROL, ord("\n"): "\\n", ord("\t"): "\\t", ord("\r"): "\\r"}
_IN_CSV: Final = {code: shown for code, shown in _CONTROL.items() if chr(code) not in "\n\t\r"}


def show(
    columns: Sequence[str],
    rows: Rows,
    *,
    as_json: bool = False,
    as_csv: bool = False,
    console: Console | None = None,
) -> None:
    """Print *rows* in the form that was asked for.

    Raises:
        typer.BadParameter: both forms were asked for.
    """
    if as_json and as_csv:
        msg = "--json and --csv exclude each other"
        raise typer.BadParameter(msg)
    if as_json:
        show_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_exact(value).translate(_IN_CSV) for value in row] for row in rows)
    else:
        _for_people(columns, rows, console or Console(highlight=False))


def show_json(value: object) -> None:
    """Print one JSON value and nothing else."""
    sys.stdout.write(json.dumps(value, default=_for_json) + "\n")


def note(text: str) -> None:
    """Tell people something that is no result."""
    sys.stderr.write(f"resilience: {text.translate(_IN_A_LINE)}\n")


def fields(records: Iterable[Any]) -> tuple[list[str], list[list[Any]]]:
    """Every field of *records*, which are dataclasses of one kind, as columns and rows."""
    found = list(records)
    names = [field.name for field in dataclasses.fields(found[0])] if found else []
    return names, [[getattr(record, name) for name in names] for record in found]


def _for_people(columns: Sequence[str], rows: Rows, console: Console) -> None:
    cells = [[_plain(value).translate(_IN_A_LINE) for value in row] for row in rows]
    numeric = [all(isinstance(row[at], int | float | None) for row in rows) for at in range(len(columns))]
    if console.is_terminal:
        console.print(_table(columns, cells, numeric))
    else:
        _columns(columns, cells, numeric)


def _table(columns: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, is_number in zip(columns, numeric, strict=True):
        table.add_column(Text(column), justify="right" if is_number else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _columns(columns: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> None:
    """One line for each row, whatever its length: `grep`, `awk` and `less -S` expect no less."""
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in (columns, *cells):
        parts = (
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, numeric, strict=True)
        )
        sys.stdout.write("  ".join(parts).rstrip() + "\n")


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return format(round(value, 4), ".12g")
    if isinstance(value, datetime):
        return value.isoformat(" ", "milliseconds").replace("+00:00", "Z")
    return json.dumps(value) if isinstance(value, Mapping | list) else str(value)


def _exact(value: object) -> str:
    return str(_for_json(value)) if isinstance(value, datetime | float) else _plain(value)


def _for_json(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return dict(value) if isinstance(value, Mapping) else str(value)
