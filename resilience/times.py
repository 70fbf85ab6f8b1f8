"""Durations and points in time as people write them: `90s`, `1h30m`, `2w`, or `2025-06-01T12:00Z`.

Every option and query parameter that takes a time goes through here. Only the `Retry-After` of providers does not: those
use the syntax of Go, see `failure/retry_after.py`.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Final

Since = datetime | timedelta | float | None
"""A point in time: an aware datetime, a timedelta before now, seconds before now, or None for no limit."""

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])")
_QUOTED: Final = 40
"""Characters of a rejected text that an error message repeats, and the length above which no text is a datetime."""


def parse_duration(text: str) -> float:
    """Return the seconds that *text* stands for.

    Args:
        text: one or more numbers, each with its unit: `s`, `m`, `h`, `d` or `w`. Examples: `90s`, `1h30m`, `0.5d`, `2w`.

    Raises:
        ValueError: *text* is anything else. Limits are the caller's: `0s` is a duration too.
    """
    parts = _PART.findall(text)
    # The parts joined must be the whole text: findall skips what it does not know, such as the space in "2h 5m".
    if not parts or "".join(number + unit for number, unit in parts) != text:
        msg = f"{text[:_QUOTED]!r} is not a duration: give one such as 90s, 15m, 1h30m, 7d or 2w"
        raise ValueError(msg)
    return float(sum(float(number) * _UNITS[unit] for number, unit in parts))


def parse_time(text: str) -> datetime | timedelta:
    """Return the point in time that *text* names: a duration before now, or a datetime with a timezone.

    Args:
        text: as for `parse_duration`, or a moment in ISO 8601 such as `2025-06-01T12:00Z`, or a day in UTC.

    Returns:
        A timedelta before now, `timedelta.max` for one that is longer; or an aware datetime.

    Raises:
        ValueError: *text* is neither, or a moment without a timezone, which would differ from machine to machine.
    """
    try:
        return timedelta(seconds=parse_duration(text))
    except OverflowError:
        return timedelta.max
    except ValueError:
        pass  # not a duration, so it has to be a moment
    try:
        moment = datetime.fromisoformat(text if len(text) <= _QUOTED else "")
    except ValueError:
        msg = f"{text[:_QUOTED]!r} is not a time: give one such as 90s, 15m, 2h, 7d, or 2025-06-01T12:00Z"
        raise ValueError(msg) from None
    if moment.tzinfo is None and len(text) == len("2025-06-01"):
        # A day alone can only be a day of the history, whose times are UTC.
        return moment.replace(tzinfo=UTC)
    if moment.tzinfo is None:
        msg = f"{text!r} has no timezone: add Z for UTC, or an offset such as +02:00"
        raise ValueError(msg)
    return moment


def to_utc(field: str, value: Since, now: datetime) -> datetime | None:
    """Return the UTC datetime that *value* stands for; None stays None.

    Args:
        field: the parameter's name, for the error message.
        value: an aware datetime, a timedelta before *now*, or seconds before *now*.
        now: the present, timezone-aware.

    Returns:
        An aware UTC datetime. What lies before the first year of the calendar becomes its first moment.

    Raises:
        ValueError: *value* is a datetime without a timezone, a number that is not finite, or negative.
    """
    if value is None:
        return None
    if isinstance(value, datetime):
        return _aware(field, value)
    seconds: object = value.total_seconds() if isinstance(value, timedelta) else value
    if not isinstance(seconds, (int, float)) or not math.isfinite(seconds) or seconds < 0:
        msg = f"{field}={value!r}: give an aware datetime, a timedelta, or seconds >= 0 before now"
        raise ValueError(msg)
    try:
        return now.astimezone(UTC) - timedelta(seconds=seconds)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _aware(field: str, value: datetime) -> datetime:
    if value.tzinfo is None:
        msg = f"{field}={value!r} has no timezone: give datetime.now(UTC), or value.astimezone() if it is local time"
        raise ValueError(msg)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        # Within a day of either end of the calendar an offset leads out of it: the local reading is the nearest moment.
        return value.replace(tzinfo=UTC)
