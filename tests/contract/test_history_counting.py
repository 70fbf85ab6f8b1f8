"""Every record is counted exactly once, through retries, overload and restarts, on SQLite and on PostgreSQL."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from support.history_places import Place, migrated_file, migrated_postgres, place
from support.history_records import NOON, call, error, fallback

from resilience.failure import ErrorCategory
from resilience.history import CallOutcome, ErrorRecord, Recorder, TransitionRecord
from resilience.history.store import batches
from resilience.records.records import Record

__all__ = ["migrated_file", "migrated_postgres", "place"]

COUNTS = "SELECT sum(calls), sum(attempts), sum(errors) FROM rollups"


def written(place: Place, *records: Record, **options: Any) -> Recorder:
    """Return a closed recorder that wrote *records*."""
    recorder = Recorder(place.url, **options)
    for record in records:
        recorder.record(record)
    assert recorder.flush(20)
    recorder.close(20)
    return recorder


def test_a_minute_is_counted_by_client_and_function(place: Place) -> None:
    """Calls belong to their primary client, attempts and errors to the client that was tried, each in its minute."""
    recovered = call(
        started_at=NOON + timedelta(seconds=50),
        duration=15.0,
        outcome=CallOutcome.RECOVERED_FALLBACK,
        client_final="Secondary",
        retries=1,
        fallbacks=1,
        input_tokens=7,
        output_tokens=3,
        failed_input_tokens=2,
        failed_output_tokens=1,
    )
    written(
        place,
        error(occurred_at=NOON + timedelta(seconds=51), input_tokens=2, output_tokens=1),
        error(occurred_at=NOON + timedelta(seconds=52)),
        error(occurred_at=NOON + timedelta(seconds=53), category=ErrorCategory.CIRCUIT_OPEN),
        recovered,
        call(started_at=NOON, outcome=CallOutcome.FAILED, client_final=None, duration=5.0),
        fallback(),
    )

    found = place.asked(
        "SELECT client, calls, attempts, errors, failed_calls, retried_calls, fallback_calls, recovered_fallback,"
        " answered_calls, input_tokens, output_tokens, duration_sum, duration_max, grain FROM rollups ORDER BY bucket_at, client"
    )
    assert found == [
        ("Primary", 1, 2, 2, 1, 0, 0, 0, 0, 2, 1, 0.0, 0.0, 60),
        ("Primary", 1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0.0, 0.0, 60),
        ("Secondary", 0, 1, 0, 0, 0, 0, 0, 1, 5, 2, 15.0, 15.0, 60),
    ]


def test_later_batches_add_up(place: Place) -> None:
    """The second recorder adds to the minute of the first, and the maximum of durations is kept."""
    for duration in (2.0, 0.5):
        written(place, call(started_at=NOON, duration=duration), error(occurred_at=NOON))

    assert place.asked("SELECT calls, attempts, errors, duration_sum, duration_max FROM rollups") == [
        (2, 4, 2, 2.5, 2.0)
    ]


def test_a_kind_of_error_has_one_row_that_grows(place: Place) -> None:
    """A kind has its first and last time, a count and a title without numbers; its note and status do not change."""
    written(place, error(occurred_at=NOON), error(occurred_at=NOON - timedelta(hours=1)))
    place.asked("UPDATE error_groups SET status = 'muted', note = 'known'")
    written(place, error(occurred_at=NOON + timedelta(hours=1), message="something else"))

    found = place.asked("SELECT title, count, status, note, fp_version, category FROM error_groups")
    assert found == [
        ("Rate limit reached, please try again in <duration>", 3, "muted", "known", "v1", "rate_limit")
    ]
    (first, last), *_ = place.asked("SELECT first_seen_at, last_seen_at FROM error_groups")
    assert str(first).startswith("2025-06-01 11:00:00")
    assert str(last).startswith("2025-06-01 13:00:00")


def test_what_is_there_already_is_not_counted_again(place: Place) -> None:
    """The same records in the same batch, in the next one, and among new ones give one row and one count each."""
    one, two, done = error(), error(), call()
    written(place, one, one, done)
    written(place, one, two, done)

    assert place.asked(COUNTS) == [(1, 3, 2)]
    assert place.asked("SELECT count FROM error_groups") == [(2,)]
    assert place.asked("SELECT count(*) FROM errors") == [(2,)]


class CommitUnseenError(Exception):
    """Stand for a connection that breaks after the commit and before its confirmation."""


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make every commit succeed, and the first one after each append look as if it failed."""
    breaking: list[int] = []
    real = batches.write

    def write(begin: batches.Begin, pairs: Sequence[Any], finish: Any, **options: Any) -> None:
        real(begin, pairs, finish, **options)
        if breaking:
            breaking.pop()
            statement = "COMMIT"
            raise sa.exc.OperationalError(statement, {}, CommitUnseenError("server closed the connection"))

    monkeypatch.setattr(batches, "write", write)
    return breaking


def test_a_commit_that_was_not_seen_counts_once(place: Place, unseen: list[int]) -> None:
    """The batch is sent again, finds its rows, and adds nothing to the counters."""
    recorder = Recorder(place.url, flush_interval=60.0)
    for record in (error(), call()):
        recorder.record(record)
    unseen.append(1)
    assert not recorder.flush(20)
    assert recorder.flush(20)
    recorder.close(20)

    assert place.asked(COUNTS) == [(1, 2, 1)]
    assert recorder.dropped == 0


def test_records_without_rows_are_counted_once_too(place: Place, unseen: list[int]) -> None:
    """Records that did not fit into the queue are counted exactly, also if a commit whose result was unknown is repeated."""
    place.shut()
    recorder = Recorder(place.url, max_rows=5, flush_interval=60.0)
    for _ in range(20):
        recorder.record(error())
        recorder.flush(20)
    lost = recorder.dropped + recorder.sampled
    assert lost >= 14
    place.open()
    unseen.append(1)
    assert not recorder.flush(20)
    assert recorder.flush(20)
    recorder.close(20)

    rows = place.asked("SELECT count(*) FROM errors")[0][0]
    assert rows + lost == 20
    assert place.asked(COUNTS) == [(0, 20, 20)]
    assert place.asked("SELECT count FROM error_groups") == [(20,)]
    assert place.asked("SELECT dropped_events + sampled_events, counted_through FROM instances") == [
        (lost, lost)
    ]


def test_known_errors_are_sampled_before_anything_is_dropped(place: Place) -> None:
    """From four fifths on one in ten of known kinds is kept, with its sample rate; new kinds, failed calls and fallbacks are all kept.

    The rest of the queue would hold all that comes: chance decides which ones of ten are kept, and so how many.
    """
    place.shut()
    recorder = Recorder(place.url, max_rows=1000, flush_interval=60.0)
    for _ in range(800):
        recorder.record(fallback())
    recorder.record(error())
    recorder.flush(20)
    for _ in range(60):
        recorder.record(error())
        recorder.record(call())
    new = error(fingerprint="e" * 32), call(outcome=CallOutcome.FAILED, client_final=None)
    for record in new:
        recorder.record(record)
    recorder.flush(20)
    place.open()
    assert recorder.flush(20)
    recorder.close(20)

    kept = dict(place.asked("SELECT sample_rate, count(*) FROM errors GROUP BY sample_rate"))
    assert kept.pop(1.0) == 2
    assert set(kept) <= {0.1}
    assert place.asked(COUNTS) == [(61, 122, 62)]
    assert recorder.sampled > 80
    assert recorder.dropped == 0
    assert place.asked("SELECT sampled_events FROM instances") == [(recorder.sampled,)]
    assert place.asked("SELECT count(*) FROM calls WHERE outcome = 'failed'") == [(1,)]


def test_a_database_that_went_away_gets_everything_later(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """There is one warning, without the password, and all rows and counts are written when the database is back."""
    written(place, error())
    recorder = Recorder(place.url)
    place.shut()
    for _ in range(300):
        recorder.record(error())
    assert not recorder.flush(20)
    assert recorder.queue_depth == 300
    place.open()
    assert recorder.flush(20)
    recorder.close(20)

    assert len([entry for entry in caplog.records if entry.levelno == logging.WARNING]) == 1
    assert place.asked("SELECT count(*) FROM errors") == [(301,)]
    assert place.asked(COUNTS) == [(0, 301, 301)]


def test_rows_no_database_keeps_cost_themselves_alone(place: Place) -> None:
    """A number out of range, an unknown word, a missing client, a lone surrogate, NUL, or an object that is not a record."""
    good = [error(message=str(number)) for number in range(30)]
    odd = [error(message="nul \0"), error(message="half \ud800")]
    bad: list[Any] = [
        error(status=2**70),
        error(client=None),
        call(outcome="sideways"),
        error(occurred_at=datetime(2025, 6, 1)),  # noqa: DTZ001 - this is what is refused
        error(provider=object()),
        call(duration=float("nan")),
        error(message=42),
        error(fingerprint=["no", "text"]),
        error(detail={("no", "text"): 1}),
    ]
    recorder = written(place, *bad[:2], *good, *bad[2:], *odd)

    assert place.asked("SELECT count(*) FROM errors") == [(32,)]
    assert recorder.dropped == len(bad)


def test_a_transition_of_the_fleet_has_one_row(place: Place) -> None:
    """Two processes that write the same transition of a circuit leave one row."""
    move = TransitionRecord(
        namespace="resilience",
        client="Primary",
        scope="shared",
        epoch=7,
        occurred_at=NOON,
        from_state="closed",
        to_state="open",
        rule="failure_rate",
    )
    for _ in range(2):
        written(place, move)

    assert place.asked("SELECT client, epoch, to_state FROM breaker_events") == [("Primary", 7, "open")]


def _write_many(url: str, minutes: int) -> None:
    recorder = Recorder(url, batch=20, flush_interval=0.005)
    now = datetime.now(UTC)
    for number in range(400):
        when = now - timedelta(minutes=number * 7 % minutes)
        recorder.record(error(occurred_at=when, fingerprint=f"{number % 50:032d}", client=f"C{number % 3}"))
    if not recorder.flush(60) or recorder.dropped:
        raise SystemExit(1)
    recorder.close(60)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_processes_add_to_the_same_counters_at_once(place: Place) -> None:
    """Four processes update the same minutes and kinds without a deadlock, and the sums are exact."""
    fork: Any = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_write_many, args=(place.url, 20)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)

    assert [process.exitcode for process in processes] == [0] * 4
    assert place.asked("SELECT sum(errors) FROM rollups") == [(1600,)]
    assert place.asked("SELECT count(*), sum(count) FROM error_groups") == [(50, 1600)]


def test_a_counter_never_stops_the_rows(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Counts that the database cannot store are dropped with a warning, and the rows are written."""
    recorder = Recorder(place.url, flush_interval=60.0)
    recorder._writer.drops.counters.add(error(client=None, fingerprint=""))
    recorder.record(error())
    assert recorder.flush(20)
    recorder.close(20)

    assert place.asked("SELECT count(*) FROM errors") == [(1,)]
    assert "counts of records without rows were dropped" in caplog.text


def test_errors_know_which_rules_named_them(place: Place) -> None:
    """The version of a fingerprint is in the error and in its group."""
    record: ErrorRecord = error(fp_version="v1+own")
    written(place, record)

    assert place.asked(
        "SELECT e.fp_version, g.fp_version FROM errors e JOIN error_groups g USING (fingerprint)"
    ) == [("v1+own", "v1+own")]
