"""Numbers and times as people read them on one screen. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

_SMALL: Final = 10.0
_UNITS: Final = (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800), ("d", 86_400, float("inf")))
"""A unit, its seconds, and the seconds below which it is used: `90 s`, but `2 min`."""
_BARS: Final = " ▁▂▃▄▅▆▇█"


def age(seconds: float) -> str:
    """Return a duration in one unit: `0.4 s`, `12 s`, `4 min`, `3 h`, `2 d`.

    Args:
        seconds: the duration; a negative one, from clocks that differ, counts as none.
    """
    if seconds < _SMALL:
        return f"{max(seconds, 0.0):.1f} s"
    unit, size = next((unit, size) for unit, size, below in _UNITS if seconds < below)
    return f"{seconds / size:.0f} {unit}"


def latency(seconds: float | None) -> str:
    """Return the duration of a call: `438 ms`, `1.8 s`; `-` for None."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def clock(at: datetime, now: datetime) -> str:
    """Return the time of day in UTC, with its date unless it is the day of *now*.

    Args:
        at: the time.
        now: the present, as the reader of the screen understands "today".
    """
    utc = at.astimezone(UTC)
    return f"{utc:%H:%M:%S}" if utc.date() == now.astimezone(UTC).date() else f"{utc:%Y-%m-%d %H:%M:%S}"


def share(part: int, whole: int) -> str:
    """Return a share in per cent, which is 0 or 100 only if it is exactly that.

    One lost call of a thousand must not read as "100 % answered".

    Args:
        part: the part.
        whole: the whole; of nothing there is no share, and the text is `-`.
    """
    if not whole:
        return "-"
    percent = round(100 * part / whole)
    if part and not percent:
        return "<1 %"
    return ">99 %" if part != whole and percent == 100 else f"{percent} %"  # noqa: PLR2004 - per cent


def count(number: int, noun: str, plural: str = "") -> str:
    """Return `1 call`, `2 calls`, `1,200 calls`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def ordinal(number: int) -> str:
    """Return `1st`, `2nd`, `3rd`, `4th`, `11th`."""
    teens = 10 <= number % 100 <= 20  # noqa: PLR2004 - the numbers that end in "teen" have one ending
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def sparkline(counts: Sequence[int]) -> str:
    """Return one bar for each count, as high as its share of the greatest.

    Args:
        counts: the counts, in the order of time.

    Returns:
        As many characters as counts; blanks where nothing was counted.
    """
    most = max(counts, default=0)
    # Rounded up: a slot with one answer among thousands still shows.
    return "".join(_BARS[-(-value * (len(_BARS) - 1) // most)] if most else " " for value in counts)
