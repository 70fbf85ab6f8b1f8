"""Counts in memory are exact, however long they wait, and limited in number."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support.history_records import NOON, call, error, fallback

from resilience.history.store import error_groups, rollups
from resilience.history.store.counter_buffer import CounterBuffer
from resilience.history.store.counters import counted
from resilience.history.store.error_groups import Groups
from resilience.history.store.rollups import Rollups
from resilience.history.writer.drops import DropCounter
from resilience.history.writer.sampling import DropReason


def test_minutes_become_hours_when_too_many_wait() -> None:
    """While the database is away, minutes become hours; sums and maxima stay."""
    waiting = Rollups(most=30)
    for minute in range(240):
        waiting.add(call(started_at=NOON + timedelta(minutes=minute), duration=float(minute % 7)))
    found = waiting.rows()

    assert len(found) <= 34
    assert {row["grain"] for row in found} == {60, 3600}
    assert sum(row["calls"] for row in found) == sum(row["attempts"] for row in found) == 240
    assert max(row["duration_max"] for row in found) == 6.0
    assert sum(row["duration_sum"] for row in found) == sum(minute % 7 for minute in range(240))


def test_pairs_without_end_are_counted_together() -> None:
    """Ever new function names do not fill the memory: beyond the limit they share one row an hour."""
    waiting = Rollups(most=10)
    for number in range(100):
        waiting.add(error(occurred_at=NOON, function=f"F{number}"))
    found = waiting.rows()

    assert len(found) == 11
    assert sum(row["errors"] for row in found) == 100
    (others,) = [row for row in found if row["client"] == rollups.OTHERS]
    assert (others["errors"], others["grain"], others["bucket_at"]) == (90, 3600, NOON)


def test_kinds_without_end_are_counted_together() -> None:
    """Ever new fingerprints do not fill the memory either: beyond the limit they share one row."""
    waiting = Groups(most=10)
    for number in range(100):
        waiting.add(error(fingerprint=f"{number + 1:032d}"))
    found = waiting.rows()

    assert len(found) == 11
    assert found[0]["fingerprint"] == error_groups.OTHERS
    assert (found[0]["count"], found[0]["title"]) == (90, error_groups.OTHERS_TITLE)


def test_rows_are_sorted() -> None:
    """Rows are sorted by key, whatever the order of records, so that two processes cannot deadlock."""
    records = [error(fingerprint=name * 32, client=name, occurred_at=NOON) for name in "cab"]
    counts = counted(records)

    assert [row["client"] for row in counts.rollups.rows()] == ["a", "b", "c"]
    assert [row["fingerprint"][0] for row in counts.groups.rows()] == ["a", "b", "c"]


def test_a_title_needs_words() -> None:
    """An error without a message has its exception as title; one without a fingerprint belongs to no kind."""
    assert counted([error(message="")]).groups.rows()[0]["title"] == "BamlClientHttpError"
    assert not counted([error(fingerprint=""), fallback()]).groups


def test_a_time_without_zone_is_not_counted() -> None:
    """Its minute would depend on the machine."""
    with pytest.raises(ValueError, match="no timezone"):
        counted([call(started_at=datetime(2025, 6, 1))])  # noqa: DTZ001 - this is what is refused


def test_the_same_counts_are_returned_until_they_are_confirmed() -> None:
    """Records that come meanwhile go into the next counts, and sequence numbers continue."""
    buffer = CounterBuffer()
    assert not buffer
    assert buffer.next() is None
    assert [buffer.add(error()), buffer.add(error())] == [1, 2]
    first = buffer.next()
    assert buffer.add(error()) == 3
    assert buffer.next() is first
    assert first is not None
    assert (first.through, buffer.before) == (2, 0)
    buffer.confirm()
    assert buffer.before == 2
    second = buffer.next()
    assert second is not None
    assert (second.through, sum(row["errors"] for row in second.rollups.rows())) == (3, 1)
    buffer.confirm()
    assert not buffer


def test_what_cannot_be_counted_has_no_sequence_number() -> None:
    """An invalid record is dropped, its line says so, and it has no number in the counters."""
    drops = DropCounter()
    wrong = error(occurred_at=datetime(2025, 6, 1))  # noqa: DTZ001 - this is what is wrong

    assert drops.count_record(wrong, DropReason.DROPPED) == {"dropped_as": "dropped"}
    assert drops.count_record(error(), DropReason.SAMPLED) == {"dropped_as": "sampled", "sequence": 1}
    assert (drops.dropped, drops.sampled) == (1, 1)


def test_sampling_is_reported_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """The warning has the number of records since the last one."""
    drops = DropCounter()
    for now in (0.0, 30.0, 61.0):
        drops.count_record(error(occurred_at=datetime.now(UTC)), DropReason.SAMPLED)
        drops.report(now)

    messages = [entry.getMessage() for entry in caplog.records]
    assert [message.partition(" errors")[0] for message in messages] == [
        "the history is nearly full: of 1",
        "the history is nearly full: of 2",
    ]
