"""CSV that spreadsheets and programs read as it was meant.

Providers decide what many cells say, and a spreadsheet runs a cell that begins with `=` as a formula: it can send the sheet to another
computer. So such a cell gets an apostrophe in front, which spreadsheets take for "this is text". A text
with a line break of any kind is quoted: without quotes it would start a new row.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from resilience.terminal import escape_controls

_WHITESPACE: Final = "\n\t\r"
"""Kept: quotes hold a cell together, and other programs read it."""
_QUOTED: Final = re.compile(r"[\",\r\n\t]|^ | $")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The first characters of a formula, some of them in full width. A spreadsheet drops white space before it."""


def write_csv(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], text_of: Callable[[Any], str], *, raw: bool
) -> None:
    """Write CSV with a header line on standard output.

    Args:
        columns: one title for each column.
        rows: one value for each column.
        text_of: returns a value as text.
        raw: whether to write texts exactly as they are.
    """
    lines = ([_cell(column, raw=raw) for column in columns], *(_line(row, text_of, raw=raw) for row in rows))
    sys.stdout.writelines(f"{','.join(line)}\n" for line in lines)


def _line(row: Sequence[Any], text_of: Callable[[Any], str], *, raw: bool) -> list[str]:
    return [str(value) if _is_number(value) else _cell(text_of(value), raw=raw) for value in row]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(text: str, *, raw: bool) -> str:
    if not raw:
        is_formula = text.lstrip(" ").startswith(_FORMULA)
        text = escape_controls(f"'{text}" if is_formula else text, keep=_WHITESPACE)
    # Not by the module csv, which leaves a carriage return without quotes where lines end with a line feed.
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if _QUOTED.search(text) else text
