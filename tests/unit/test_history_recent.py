"""`Recent`: the latest records of this process."""

from __future__ import annotations

import multiprocessing
import threading
from datetime import UTC, datetime, timedelta

import pytest
from support.history_records import call, error, fallback

from resilience.failure import ErrorCategory
from resilience.history import Recent


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def test_errors_come_newest_first_and_match_every_filter() -> None:
    """Filters are joined by and; the newest matching error comes first."""
    recent = Recent()
    old = error(occurred_at=ago(100), client="Primary")
    other = error(client="Secondary", function="G", category=ErrorCategory.TIMEOUT)
    new = error(client="Primary")
    for record in (old, other, new):
        recent.add(record)

    assert recent.errors() == [new, other, old]
    assert recent.errors(client="Primary") == [new, old]
    assert recent.errors(client="Primary", since=50) == [new]
    assert recent.errors(function="G", category="timeout") == [other]
    assert recent.errors(function="G", client="Primary") == []
    assert recent.errors(since=timedelta(hours=1), limit=1) == [new]
    assert recent.errors(limit=0) == []
    assert recent.errors(limit=None) == [new, other, old]


def test_only_the_latest_records_are_held() -> None:
    """Beyond *maxlen* the oldest record is dropped, errors and fallbacks counted apart."""
    recent = Recent(maxlen=2)
    errors = [error() for _ in range(3)]
    for record in errors:
        recent.add(record)
    recent.add(fallback())

    assert recent.errors() == [errors[2], errors[1]]
    assert recent.fallback_summary()["total_fallbacks"] == 1


def test_calls_are_ignored() -> None:
    """A call is neither an error nor a fallback."""
    recent = Recent()
    recent.add(call())

    assert recent.errors() == []
    assert recent.fallback_summary()["total_fallbacks"] == 0


def test_the_error_summary_counts_by_category_client_and_function() -> None:
    """Counts are sorted, most frequent first; the ten latest errors are included."""
    recent = Recent()
    errors = [error(client="Primary" if number % 3 else "Secondary") for number in range(12)]
    for record in (error(occurred_at=ago(100)), *errors):
        recent.add(record)

    summary = recent.error_summary(since=50)

    assert summary == {
        "total_errors": 12,
        "by_category": {"rate_limit": 12},
        "by_client": {"Primary": 8, "Secondary": 4},
        "by_function": {"GenerateHypothesis": 12},
        "recent_errors": errors[:1:-1],
    }


def test_the_success_rate_leaves_out_unknown_outcomes() -> None:
    """A fallback with an unknown outcome counts in the total, but not in the rate."""
    recent = Recent()
    fallbacks = [
        fallback(),
        fallback(to_client="Tertiary", succeeded=False),
        fallback(succeeded=None),
        fallback(),
    ]
    for record in fallbacks:
        recent.add(record)

    assert recent.fallback_summary() == {
        "total_fallbacks": 4,
        "successful_fallbacks": 2,
        "success_rate": 2 / 3,
        "by_client": {"Secondary": 3, "Tertiary": 1},
        "recent_fallbacks": fallbacks[::-1],
    }


def test_an_empty_summary_has_every_key() -> None:
    """Without records the counts are 0 and the rate is 0.0."""
    recent = Recent()

    assert recent.error_summary()["total_errors"] == 0
    assert recent.fallback_summary(since=10)["success_rate"] == 0.0


def test_clearing_removes_all_or_older_records() -> None:
    """`clear(older_than)` keeps later records; `clear()` removes all; the limit stays."""
    recent = Recent(maxlen=5)
    old, new = error(occurred_at=ago(100)), error()
    for record in (old, new, fallback(occurred_at=ago(100)), fallback()):
        recent.add(record)

    recent.clear(older_than=50)
    assert recent.errors() == [new]
    assert recent.fallback_summary()["total_fallbacks"] == 1

    recent.clear()
    assert recent.errors() == []
    assert recent.fallback_summary()["total_fallbacks"] == 0

    for _ in range(9):
        recent.add(error())
    assert len(recent.errors()) == 5


def test_wrong_arguments_are_named() -> None:
    """A length of 0, a negative limit and a naive time are errors that name the argument."""
    with pytest.raises(ValueError, match=r"Recent\.maxlen=0"):
        Recent(maxlen=0)
    with pytest.raises(ValueError, match="limit=-1"):
        Recent().errors(limit=-1)
    with pytest.raises(ValueError, match="older_than"):
        Recent().clear(older_than=datetime.now())  # noqa: DTZ005 - this is what is refused


def test_threads_may_add_and_read_concurrently() -> None:
    """Summaries made while four threads add never fail, and no record is lost."""
    recent = Recent(maxlen=10_000)

    def add() -> None:
        for _ in range(1000):
            recent.add(error())

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        recent.error_summary()
    for thread in threads:
        thread.join()

    assert recent.error_summary()["total_errors"] == 4000


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_empty_and_is_not_locked() -> None:
    """A child forked while the lock is held has a new lock, and none of the parent's records."""
    recent = Recent()
    recent.add(error())

    def child() -> None:
        assert recent.errors() == []
        recent.add(error())
        assert len(recent.errors()) == 1

    process = multiprocessing.get_context("fork").Process(target=child)
    held = threading.Thread(target=recent._lock.acquire)  # never released
    held.start()
    held.join()
    process.start()
    process.join(240)

    assert process.exitcode == 0
    assert len(recent._errors) == 1
