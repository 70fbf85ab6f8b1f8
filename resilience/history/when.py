"""Points in time as people give them: a moment, a while ago, or seconds ago."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

Since = datetime | timedelta | float | None
"""An aware datetime, a timedelta before now, seconds before now, or None for all time."""


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
    return value.astimezone(UTC)
