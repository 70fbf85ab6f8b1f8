"""Points in time as people give them: a moment, a while ago, or seconds ago."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Final

Since = datetime | timedelta | float | None
"""An aware datetime, a timedelta before now, seconds before now, or None for all time."""

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST: Final = 40
_AGO: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])")


def parsed(text: str) -> datetime | timedelta:
    """What people write: a while ago as 90s, 15m, 2h, 1h30m, 7d or 2w, or a moment as 2025-06-01T12:00Z.

    Raises:
        ValueError: it is neither, or a moment that does not say in which timezone.
    """
    parts = _AGO.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        try:
            return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
        except OverflowError:
            return timedelta.max
    try:
        when = datetime.fromisoformat(text if len(text) <= _LONGEST else "")
    except ValueError:
        msg = f"{text[:_LONGEST]!r} is no time: give one such as 90s, 15m, 2h, 7d, or 2025-06-01T12:00Z"
        raise ValueError(msg) from None
    if when.tzinfo is None:
        msg = f"{text!r} has no timezone: add Z for UTC, or an offset such as +02:00"
        raise ValueError(msg)
    return when


def moment(field: str, since: Since, now: datetime) -> datetime | None:
    """The UTC moment *since* stands for; None stays None.

    Raises:
        ValueError: naming *field*, when it is a datetime without a timezone, a number that is no time, or negative.
    """
    if since is None:
        return None
    if isinstance(since, datetime):
        return _aware(field, since)
    ago: object = since.total_seconds() if isinstance(since, timedelta) else since
    if not isinstance(ago, (int, float)) or not math.isfinite(ago) or ago < 0:
        msg = f"{field}={since!r}: give an aware datetime, a timedelta, or seconds >= 0 before now"
        raise ValueError(msg)
    try:
        return now.astimezone(UTC) - timedelta(seconds=ago)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _aware(field: str, value: datetime) -> datetime:
    if value.tzinfo is None:
        msg = f"{field}={value!r} has no timezone: give datetime.now(UTC), or value.astimezone() if it is local time"
        raise ValueError(msg)
    try:
        return value.astimezone(UTC)
    except OverflowError:  # within a day of an end of the calendar
        return value.replace(tzinfo=UTC)
