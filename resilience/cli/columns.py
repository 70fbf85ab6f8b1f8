"""Tables as lines of text that fit a width: columns that matter less are left out, and one that may be cut is cut. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len, set_cell_size

_LEAST_CUT: Final = 24
"""Characters of a cut column that are worth a line."""
_GAP: Final = 2


def lines(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    keep: Sequence[int],
    width: int,
    *,
    right: frozenset[int] = frozenset(),
) -> list[str]:
    """Return the head and one line for each row.

    Args:
        titles: the head of each column.
        rows: one text for each column.
        keep: for each column how long it stays where the width is small; 0 is the column whose cells are cut first.
        width: characters of a line.
        right: columns that are aligned at their right, such as numbers.
    """
    widths = [max(map(cell_len, column)) for column in zip(titles, *rows, strict=True)]
    columns = fitting(widths, keep, width)
    sizes = cut(columns, widths, keep, width)
    return [
        (" " * _GAP)
        .join(
            _sized(row[index], size, right=index in right) for index, size in zip(columns, sizes, strict=True)
        )
        .rstrip()
        for row in (titles, *rows)
    ]


def _sized(text: str, size: int, *, right: bool) -> str:
    if cell_len(text) > size:
        return set_cell_size(text, size - 1) + "…"
    return " " * (size - cell_len(text)) + text if right else set_cell_size(text, size)


def fitting(widths: Sequence[int], keep: Sequence[int], width: int) -> list[int]:
    """Return the columns that fit. A column that is cut counts with its least width.

    Args:
        widths: the width of the widest cell of each column.
        keep: as for `lines`; equal numbers go from the right.
        width: characters of a line.

    Returns:
        Positions of columns, in order; at least one.
    """
    least = [min(one, _LEAST_CUT) if stays == 0 else one for one, stays in zip(widths, keep, strict=True)]
    columns = list(range(len(widths)))
    droppable = sorted((stays, -index) for index, stays in enumerate(keep) if stays)
    while droppable and sum(least[index] + _GAP for index in columns) > width and len(columns) > 1:
        columns.remove(-droppable.pop(0)[1])
    return columns


def cut(columns: Sequence[int], widths: Sequence[int], keep: Sequence[int], width: int) -> list[int]:
    """Return the width of each column: its own, or for one that is cut its share of what the others leave.

    Args:
        columns: the columns that are shown, as `fitting` returns them.
        widths: the width of the widest cell of each column.
        keep: as for `lines`.
        width: characters of a line.
    """
    whole = sum(widths[index] for index in columns if keep[index])
    flexible = sum(not keep[index] for index in columns)
    share = (width - whole - _GAP * len(columns)) // max(flexible, 1)
    return [widths[index] if keep[index] else min(widths[index], max(share, 1)) for index in columns]
