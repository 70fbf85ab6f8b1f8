"""Tables as lines of text that fit a width: columns that matter less are left out, and one that may be cut is cut. Pure."""

from __future__ import annotations

from collections import deque
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
    middle: frozenset[int] = frozenset(),
) -> list[str]:
    """Return the head and one line for each row.

    Args:
        titles: the head of each column.
        rows: one text for each column.
        keep: for each column how long it stays where the width is small; 0 is a column whose cells are cut first.
        width: characters of a line.
        right: columns that are aligned at their right, such as numbers.
        middle: columns that are cut in their middle, such as names: see `shorten`.
    """
    widths = [max(map(cell_len, column)) for column in zip(titles, *rows, strict=True)]
    columns = fitting(widths, keep, width)
    sizes = cut(columns, widths, keep, width)
    return [
        (" " * _GAP)
        .join(
            _sized(shorten(row[index], size, middle=index in middle), size, right=index in right)
            for index, size in zip(columns, sizes, strict=True)
        )
        .rstrip()
        for row in (titles, *rows)
    ]


def _sized(text: str, size: int, *, right: bool) -> str:
    return " " * (size - cell_len(text)) + text if right else set_cell_size(text, size)


def shorten(text: str, size: int, *, middle: bool = False) -> str:
    """Return *text* in at most *size* cells, with an ellipsis where something is left out.

    Args:
        text: the text.
        size: cells of the terminal; a wide character needs two.
        middle: cut the middle, and not the end. Names of one fleet often begin alike and differ in a region or a number at
            their end.
    """
    if cell_len(text) <= size:
        return text
    begin = size // 2 if middle else size - 1
    tail = size - 1 - begin
    # Where a wide character is cut, `set_cell_size` puts a space.
    end = set_cell_size(text[::-1], tail)[::-1].lstrip() if tail else ""
    return set_cell_size(text, begin).rstrip() + "…" + end


def wrap(text: str, width: int, first: str, later: str) -> list[str]:
    """Return *text* as lines of at most *width* cells. A word longer than a line is cut; `textwrap` counts characters, not cells.

    Args:
        text: words with spaces between them.
        width: cells of a line.
        first: what the first line begins with.
        later: what each later line begins with.
    """
    words, lines, line, empty = deque(text.split()), list[str](), first, True
    while words:
        word = words.popleft()
        longer = f"{line}{word}" if empty else f"{line} {word}"
        if cell_len(longer) <= width:
            line, empty = longer, False
            continue
        if empty:
            part = set_cell_size(word, max(width - cell_len(line), 2)).rstrip()
            line, word = f"{line}{part}", word[len(part) :]
        lines.append(line)
        words.extendleft([word] if word else [])
        line, empty = later, True
    return lines if empty else [*lines, line]


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

    A column that needs less than its share leaves the rest to the others.

    Args:
        columns: the columns that are shown, as `fitting` returns them.
        widths: the width of the widest cell of each column.
        keep: as for `lines`.
        width: characters of a line.
    """
    whole = sum(widths[index] for index in columns if keep[index])
    left, sizes = width - whole - _GAP * len(columns), dict[int, int]()
    narrow_first = sorted((widths[index], index) for index in columns if not keep[index])
    for done, (wanted, index) in enumerate(narrow_first):
        sizes[index] = min(wanted, max(left // (len(narrow_first) - done), 1))
        left -= sizes[index]
    return [sizes.get(index, widths[index]) for index in columns]
