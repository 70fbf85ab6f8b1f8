"""Durations and points in time as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from resilience.times import parse_duration, parse_time, to_utc


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0.0),
        ("30s", 30.0),
        ("0.5s", 0.5),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("1h30m", 5400.0),
        ("3d", 259_200.0),
        ("2w", 1_209_600.0),
        ("999999999w", 999_999_999 * 604_800.0),
    ],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    """Each unit from seconds to weeks is known, parts add up, and the result is a float."""
    duration = parse_duration(text)

    assert seconds == duration
    assert isinstance(duration, float)


@pytest.mark.parametrize(
    "text", ["", "2", "h", "2 hours", "-2h", "2hh", "2h 5m", "1e3s", "9" * 50 + "d", "1" * 10_000]
)
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    """The error repeats the beginning of the text and gives examples."""
    with pytest.raises(
        ValueError, match="is not a duration: give one such as 90s, 15m, 1h30m, 7d or 2w"
    ) as error:
        parse_duration(text)

    assert len(str(error.value)) < 120


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
        ("2025-06-01", datetime(2025, 6, 1, tzinfo=UTC)),
        (
            "2025-06-01 12:00:00.5+02:00",
            datetime(2025, 6, 1, 12, 0, 0, 500_000, timezone(timedelta(hours=2))),
        ),
    ],
)
def test_times_are_read(text: str, expected: datetime | timedelta) -> None:
    """A duration before now, or a moment with its timezone."""
    assert expected == parse_time(text)


@pytest.mark.parametrize(
    "text", ["", "2", "h", "2 hours", "-2h", "2hh", "2h ", "9" * 50 + "d", "1" * 10_000, "2025-13-01T00:00Z"]
)
def test_what_is_not_a_time_is_refused(text: str) -> None:
    """The error gives examples of what is accepted."""
    with pytest.raises(ValueError, match="is not a time: give one such as 90s"):
        parse_time(text)


@pytest.mark.parametrize("text", ["2025-06-01T12:00", "2025-06-01 12:00:00"])
def test_a_moment_without_timezone_is_refused(text: str) -> None:
    """It would mean another time on another machine."""
    with pytest.raises(ValueError, match="has no timezone: add Z"):
        parse_time(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00"])
def test_the_ends_of_the_calendar_are_times_too(text: str) -> None:
    """Where UTC lies outside the calendar, the nearest moment inside it is used."""
    given = parse_time(text)
    assert isinstance(given, datetime)

    assert to_utc("since", given, datetime.now(UTC)) == given.replace(tzinfo=UTC)
