"""Rows past their retention are deleted in small pieces, by one process of many, on SQLite and on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.history_places import Place, migrated_file, migrated_postgres, place
from support.history_records import call, error, eventually, fallback

from resilience.history import PayloadRecord, Recorder, TransitionRecord
from resilience.history.retention import job, pruning
from resilience.history.retention.job import RetentionJob
from resilience.history.retention.policy import Retention
from resilience.history.schema import db_time, urls
from resilience.history.schema.engine import open_engine
from resilience.history.schema.tables import instances, maintenance
from resilience.history.store import job_leases
from resilience.history.store.database import Database
from resilience.records.records import Record

__all__ = ["migrated_file", "migrated_postgres", "place"]

NOW = datetime(2025, 6, 1, 12, 30, tzinfo=UTC)


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def payload(when: datetime, text: str = "secret") -> PayloadRecord:
    return PayloadRecord(event_id=error().event_id, occurred_at=when, request_id="r", prompt=text)


def transition(epoch: int, when: datetime) -> TransitionRecord:
    return TransitionRecord(
        namespace="n",
        client="Primary",
        scope="shared",
        epoch=epoch,
        occurred_at=when,
        from_state="closed",
        to_state="open",
        rule="probe",
    )


def fill(url: str, records: Sequence[Record]) -> None:
    recorder = Recorder(url)
    for record in records:
        recorder.record(record)
    assert recorder.flush(30)
    recorder.close(20)
    assert not recorder.dropped


def pruned(url: str, retention: Retention | None = None) -> dict[str, int]:
    """Prune as of NOW. Return how many rows of each table were deleted."""
    database = Database(urls.parse(url))
    gone: dict[str, int] = {}
    for table, count in pruning.prune(database, retention or Retention(), NOW):
        gone[table] = gone.get(table, 0) + count
    database.close()
    gone.pop("pages", None)
    return gone


def test_each_kind_of_row_has_its_retention(place: Place) -> None:
    """Errors and calls 30 days, content 7, fallbacks and transitions 180: an older row of each goes, a younger one stays."""
    fill(
        place.url,
        [
            *(error(occurred_at=ago(days=days)) for days in (29.9, 30.1)),
            *(call(started_at=ago(days=days)) for days in (29.9, 30.1)),
            *(payload(ago(days=days)) for days in (6.9, 7.1)),
            *(fallback(occurred_at=ago(days=days)) for days in (179.9, 180.1)),
            *(transition(number, ago(days=days)) for number, days in enumerate((180.1, 179.9))),
        ],
    )

    gone = pruned(place.url, Retention(minutes=None))
    assert gone == {"errors": 1, "calls": 1, "payloads": 1, "fallbacks": 1, "breaker_events": 1}
    for table in gone:
        assert place.asked(f"SELECT count(*) FROM {table}") == [(1,)]  # noqa: S608 - a name of ours
    assert pruned(place.url, Retention(minutes=None)) == {}


def test_the_last_transition_of_a_circuit_stays(place: Place) -> None:
    """An order without an end is restored from it after a store lost its circuits, also after years."""
    fill(place.url, [transition(number, ago(days=days)) for number, days in enumerate((800, 700, 600))])

    assert pruned(place.url, Retention(minutes=None)) == {"breaker_events": 2}
    assert place.asked("SELECT epoch FROM breaker_events") == [(2,)]


def test_a_restoration_does_not_supersede_its_order(place: Place) -> None:
    """A store that lost its circuits is given the order itself, so the order stays, whatever was restored from it since."""
    order, restored = transition(1, ago(days=800)), replace(transition(2, ago(days=700)), rule="restored")
    fill(place.url, [order, restored])

    assert pruned(place.url, Retention(minutes=None)) == {"breaker_events": 1}
    assert place.asked("SELECT epoch FROM breaker_events") == [(1,)]


def test_transitions_of_local_circuits_are_all_deleted(place: Place) -> None:
    """The local circuits of a process end with it, and nothing is ever restored from them."""
    own = [replace(transition(number, ago(days=200)), scope=f"process {number}") for number in range(3)]
    fill(place.url, [*own, transition(9, ago(days=200))])

    assert pruned(place.url, Retention(minutes=None)) == {"breaker_events": 3}
    assert place.asked("SELECT scope FROM breaker_events") == [("shared",)]


def test_counters_are_kept_longer_than_rows(place: Place) -> None:
    """After 400 days counts are added to one row, and kinds of errors and processes deleted; a kind with a note or a status stays."""
    old = ago(days=401)
    fill(place.url, [error(occurred_at=old, fingerprint=f"{number:032d}") for number in range(3)])
    place.asked("UPDATE error_groups SET note = 'known' WHERE fingerprint LIKE '%1'")
    place.asked("UPDATE error_groups SET status = 'muted' WHERE fingerprint LIKE '%2'")
    assert pruned(place.url, Retention(rollups=None, minutes=None)) == {"errors": 3}
    assert place.asked("SELECT sum(errors) FROM rollups") == [(3,)]
    counters = dict.fromkeys(("rollups", "error_rollups", "latencies", "error_groups"), 1)
    assert pruned(place.url, Retention(minutes=None)) == counters
    for counter in ("sum(errors) FROM rollups", "sum(count) FROM error_rollups", "sum(count) FROM latencies"):
        assert place.asked(f"SELECT max(grain), {counter}") == [(0, 3)]
    assert place.asked("SELECT count(*) FROM instances") == [(1,)]


def test_minutes_become_hours_and_the_sums_stay(place: Place) -> None:
    """Old minutes are added up by hour, late ones too; younger ones stay minutes."""
    hour = ago(days=20).replace(minute=0)
    calls = [call(started_at=hour + timedelta(minutes=number), duration=1.0 + number) for number in range(3)]
    fill(place.url, [*calls, call(started_at=hour + timedelta(hours=1)), call(started_at=ago(days=1))])
    everything = Retention(calls=None)
    assert pruned(place.url, everything) == {"rollups": 4, "latencies": 8}
    fill(place.url, [call(started_at=hour, duration=0.5)])
    assert pruned(place.url, everything) == {"rollups": 1, "latencies": 2}

    found = place.asked(
        "SELECT grain, calls, attempts, duration_sum, duration_max FROM rollups ORDER BY bucket_at"
    )
    assert found == [(3600, 4, 4, 6.5, 3.0), (3600, 1, 1, 0.5, 0.5), (60, 1, 1, 0.5, 0.5)]


def test_rows_go_in_pieces(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """No piece is larger than the limit, and the last one deletes nothing younger."""
    monkeypatch.setattr(pruning, "PIECE", 10)
    monkeypatch.setattr(pruning, "_CHECKPOINT_EVERY", 1)
    fill(place.url, [error(occurred_at=ago(days=31, seconds=number)) for number in range(25)] + [error()])
    database = Database(urls.parse(place.url))
    pieces = [
        count for table, count in pruning.prune(database, Retention(minutes=None), NOW) if table == "errors"
    ]
    database.close()

    assert pieces == [10, 10, 5]
    assert place.asked("SELECT count(*) FROM errors") == [(1,)]


def test_one_process_of_many_is_chosen_each_hour(place: Place) -> None:
    """The first process that asks gets the lease, then no process for an hour; a lease from the future counts as expired."""
    database = Database(urls.parse(place.url))

    def acquired(owner: str) -> bool:
        return database.do(partial(job_leases.acquire, job="job", owner=owner, period=3600.0)) is not None

    def age(**span: float) -> None:
        """Set the age of the lease, by the database's clock."""
        database.do(
            lambda connection: connection.execute(
                sa.update(maintenance).values(last_run_at=db_time.read(connection) - timedelta(**span))
            )
        )

    assert acquired("a" * 32)
    assert not acquired("b" * 32)
    age(minutes=59)
    assert not acquired("a" * 32)
    age(minutes=61)
    assert acquired("b" * 32)
    assert place.asked("SELECT owner FROM maintenance") == [("b" * 32,)]
    age(days=-1)
    assert acquired("c" * 32)
    database.close()


CLOCK_AHEAD = """
import datetime, sys, time
ahead = float(sys.argv[2]) * 86400
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + ahead
time.time_ns = lambda: real_ns() + int(ahead) * 10**9
class Ahead(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)
datetime.datetime = Ahead  # before anything of ours is imported, so that every module sees this clock

from support.history_records import error
from resilience.history.retention.job import RetentionJob
from resilience.history.retention.policy import Retention
from resilience.history.schema import urls
from resilience.history.store.database import Database
from resilience.history.store.process import Instance, WriterStats

database, instance, monotonic = Database(urls.parse(sys.argv[1])), Instance(), [0.0]
database.write([error()], instance, WriterStats())
job = RetentionJob(lambda: database, Retention(), instance.instance_id, now=lambda: monotonic[0])
for _ in range(20):
    monotonic[0] += 100.0
    job.step()
database.close()
"""


@pytest.mark.parametrize("days", [40, 400])
def test_a_process_whose_clock_is_ahead_deletes_nothing_of_others(place: Place, days: int) -> None:
    """Neither rows nor leases go by its clock: the rows of others stay, and no lease lies in the future."""
    fill(place.url, [*(error() for _ in range(20)), call(), payload(datetime.now(UTC)), fallback()])
    tables = ("errors", "calls", "payloads", "fallbacks", "rollups", "error_groups", "instances")
    before = {table: place.asked(f"SELECT count(*) FROM {table}")[0][0] for table in tables}  # noqa: S608 - names of ours
    subprocess.run(
        [sys.executable, "-c", CLOCK_AHEAD, place.url, str(days)],
        check=True,
        timeout=250,
        cwd=Path(__file__).parents[1],
    )

    after = {table: place.asked(f"SELECT count(*) FROM {table}")[0][0] for table in tables}  # noqa: S608 - names of ours
    assert after["errors"] == before["errors"] + 1
    assert all(after[table] >= before[table] for table in tables)
    engine = open_engine(urls.parse(place.url), wait=10)
    with engine.begin() as connection:
        latest = connection.scalar(sa.select(sa.func.max(maintenance.c.last_run_at)))
        heartbeat = connection.scalar(sa.select(sa.func.max(instances.c.heartbeat_at)))
        now = db_time.read(connection)
    engine.dispose()
    assert latest is not None
    assert heartbeat is not None
    assert max(latest, heartbeat) <= now


def test_the_writer_thread_prunes_by_itself(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorder that lives long enough takes the job, and continues to write."""
    fill(place.url, [error(occurred_at=datetime.now(UTC) - timedelta(days=31)) for _ in range(3)])
    monkeypatch.setattr(job, "_FIRST", 0.0)
    recorder = Recorder(place.url)
    recorder.record(error())

    assert eventually(lambda: place.asked("SELECT count(*) FROM errors") == [(1,)])
    recorder.record(error())
    assert recorder.flush(20)
    recorder.close(20)
    assert place.asked("SELECT owner FROM maintenance") == [(recorder.instance_id,)]


def test_an_error_while_pruning_delays_the_job(place: Place) -> None:
    """A database that goes away ends the round and not the thread, and the job is tried again after an hour."""
    time = [0.0]
    database = Database(urls.parse(place.url))
    keeper = RetentionJob(lambda: database, Retention(), "a" * 32, now=lambda: time[0])
    assert keeper.seconds_until_due() == 60.0
    keeper.step()
    time[0] = 60.0
    place.shut()
    keeper.step()
    assert keeper.seconds_until_due() == 3600.0
    place.open()
    time[0] = 3660.0
    keeper.step()
    assert keeper.seconds_until_due() in {3600.0, job.PAUSE}
    database.close()


def file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


@pytest.fixture
def lite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/made/resilience.db"


def test_deleted_text_is_really_gone(lite: str) -> None:
    """Nothing of deleted content and messages is left in the file or in its write-ahead log."""
    canary = "canary-4711"
    old = datetime.now(UTC) - timedelta(days=31)
    fill(
        lite,
        [
            payload(old, f"{canary} " * 20_000),
            payload(old, canary),
            error(occurred_at=old, message=canary, stack=canary),
        ],
    )
    folder = file(lite).parent
    assert any(canary.encode() in path.read_bytes() for path in folder.iterdir())
    database = Database(urls.parse(lite))
    reader = Database(urls.parse(lite))
    reader.do(lambda connection: None)  # another process has the file open, so its log is not removed
    for _ in pruning.prune(database, Retention(rollups=1.0, minutes=None), datetime.now(UTC)):
        pass

    assert [path.name for path in folder.iterdir() if canary.encode() in path.read_bytes()] == []
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    reader.close()
    database.close()


def test_a_file_that_is_too_large_loses_its_oldest_rows(lite: str) -> None:
    """The oldest rows of all tables go first, until the rest fits, and their pages are returned to the disk."""
    now = datetime.now(UTC)
    fill(
        lite,
        [
            error(occurred_at=now - timedelta(seconds=5000 - number), message="m" * 200)
            for number in range(4000)
        ],
    )
    fill(lite, [call(started_at=now - timedelta(days=1)) for _ in range(500)])
    before = file(lite).stat().st_size
    assert before > 2_000_000
    gone = pruned(lite, Retention(max_bytes=1_500_000))

    assert gone["calls"] == 500
    assert 1000 <= gone["errors"] < 4000
    assert gone["errors"] % 1000 == 0
    assert file(lite).stat().st_size <= 1_500_000
    assert pruned(lite, Retention(max_bytes=1_500_000)) == {}


def test_nothing_left_to_delete_ends_the_search(lite: str) -> None:
    """A file that is too large without any such row is left alone."""
    fill(lite, [error(fingerprint=f"{number:032d}", message="m" * 300) for number in range(3000)])
    assert pruned(lite, Retention(max_bytes=1_000_000)).keys() == {"errors"}
    assert pruned(lite, Retention(max_bytes=1_000_000)) == {}


@pytest.mark.parametrize(
    "wrong",
    [{"errors": 0.0}, {"payloads": -1.0}, {"rollups": "x"}, {"max_bytes": 10}, {"minutes": float("nan")}],
)
def test_wrong_times_are_refused_by_name(wrong: dict[str, float]) -> None:
    """The error names the field, its value and what is allowed."""
    (name,) = wrong
    with pytest.raises(ValueError, match=rf"Retention\.{name}="):
        Retention(**wrong)  # type: ignore[arg-type]  # this is what is refused


def test_none_means_without_limit() -> None:
    """Every kind of row may be kept without limit, and an enormous age does not overflow."""
    assert (
        list(
            Retention(
                **dict.fromkeys(("errors", "calls", "payloads", "fallbacks", "breaker_events", "rollups"))
            ).ages()
        )
        == []
    )
    assert NOW - dict(Retention(errors=1e12).ages())["errors"] < NOW
