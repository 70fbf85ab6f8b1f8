"""Points in time as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from resilience.times import moment, parsed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("1h30m", timedelta(minutes=90)),
        ("0.5d", timedelta(hours=12)),
        ("2w", timedelta(weeks=2)),
        ("999999999w", timedelta.max),
        ("2025-06-01T12:00Z", datetime(2025, 6, 1, 12, tzinfo=UTC)),
        (
            "2025-06-01 12:00:00.5+02:00",
            datetime(2025, 6, 1, 12, 0, 0, 500_000, timezone(timedelta(hours=2))),
        ),
    ],
)
def test_times_are_read(text: str, expected: datetime | timedelta) -> None:
    """A while ago, or a moment that says where it is so late."""
    assert expected == parsed(text)


@pytest.mark.parametrize(
    "text", ["", "2", "h", "2 hours", "-2h", "2hh", "2h ", "9" * 50 + "d", "1" * 10_000, "2025-13-01T00:00Z"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    """With examples of what is."""
    with pytest.raises(ValueError, match="is no time: give one such as 90s"):
        parsed(text)


@pytest.mark.parametrize("text", ["2025-06-01", "2025-06-01T12:00"])
def test_a_moment_without_timezone_is_refused(text: str) -> None:
    """It would mean another time on another machine."""
    with pytest.raises(ValueError, match="has no timezone: add Z"):
        parsed(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00"])
def test_the_ends_of_the_calendar_are_times_too(text: str) -> None:
    """Where UTC has no such moment any more, the nearest one stands for it."""
    given = parsed(text)
    assert isinstance(given, datetime)

    assert moment("since", given, datetime.now(UTC)) == given.replace(tzinfo=UTC)
