"""What the writer does when the database refuses, and what it never loses."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError, ProgrammingError, StatementError
from support.history_records import call, error

from resilience.errors import ConfigurationError, HistoryError
from resilience.history import ErrorRecord
from resilience.history.database_url import check
from resilience.history.schema.db_errors import error_kind
from resilience.history.schema.error_kinds import DatabaseErrorKind
from resilience.history.schema.migrations import NewerHistoryError
from resilience.history.store.lazy_database import LazyDatabase
from resilience.history.store.process import Instance, WriterStats
from resilience.history.writer.batch_wait import BatchWait
from resilience.history.writer.exit_report import Unwritten
from resilience.history.writer.queue import FlushMarker
from resilience.history.writer.sampling import QueueLimits
from resilience.history.writer.sinks import SinkGroup
from resilience.history.writer.worker import Item, Writer
from resilience.logs import JsonLines
from resilience.records.deferred import DeferredRecord
from resilience.records.records import CallOutcome, Record


def refusal(code: int, text: str) -> OperationalError:
    """Return the error that SQLAlchemy raises for an error of SQLite."""
    original = sqlite3.OperationalError(text)
    original.sqlite_errorcode = code
    return OperationalError("INSERT", {}, original)


LOCKED = refusal(sqlite3.SQLITE_BUSY, "database is locked")
READONLY = refusal(sqlite3.SQLITE_READONLY, "attempt to write a readonly database")


class ScriptedDatabase(LazyDatabase):
    """A database that raises on demand, and remembers the records and statistics that it was given."""

    def __init__(self) -> None:
        super().__init__(check("sqlite:////nowhere/x.db"), "normal", lambda: None)
        self.load()  # only that knows what its errors mean
        self.refuse: Callable[[Sequence[Record]], Exception | None] = lambda _: None
        self.taken: list[Record] = []
        self.stats: list[WriterStats] = []
        self.closed = 0
        self.refuse_counts: Callable[[], Exception | None] = lambda: None
        self.counted: list[tuple[list[Record], WriterStats]] = []

    def write(self, records: Sequence[Record], instance: Instance, stats: WriterStats) -> None:
        if refusal := self.refuse(records):
            raise refusal
        self.taken += records
        self.stats.append(stats)

    def count(self, records: Sequence[Record], instance: Instance, stats: WriterStats) -> None:
        if refusal := self.refuse_counts():
            raise refusal
        self.counted.append((list(records), stats))

    def close(self) -> None:
        self.closed += 1


class MemorySink:
    """A sink that remembers one line of each record, and fails on demand."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Mapping[str, Any]]] = []
        self.failing = False

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        if self.failing:
            raise OSError("no room")  # noqa: TRY003, EM101 - any error of a sink
        self.lines += [(stream, line) for stream, line in lines if stream != "performance"]


class Bench:
    """A writer with a scripted database and a clock that the test holds."""

    def __init__(
        self, *, sinks: Sequence[MemorySink] = (), with_database: bool = True, **limits: Any
    ) -> None:
        self.database = ScriptedDatabase()
        self.time = 1000.0
        given: dict[str, Any] = {"max_rows": 100, "max_bytes": 1_000_000, "flush_interval": 0.1, "batch": 10}
        self.writer = Writer(
            self.database if with_database else None,
            SinkGroup(sinks),
            QueueLimits(**given | limits),
            Instance(),
            now=lambda: self.time,
        )

    def run(self, *items: Item, waited: float | None = None) -> None:
        self.writer.take(items, waited=waited)
        self.writer.write_due()


def records(count: int) -> list[ErrorRecord]:
    return [error(attempt=number + 1) for number in range(count)]


def test_records_are_written_in_order_and_in_batches() -> None:
    """Records that were not taken early are written at once, in transactions of at most a batch."""
    bench, given = Bench(), records(25)
    bench.run(*given)

    assert bench.database.taken == given
    assert len(bench.database.stats) == 3
    assert bench.writer.next_timeout() is None
    assert bench.writer.depth == 0


def test_rows_taken_early_wait_for_a_batch_but_their_lines_do_not() -> None:
    """Lines are written at once; rows after the flush interval, in a full batch, or when a caller flushes."""
    sink = MemorySink()
    bench, (one, *others) = Bench(sinks=[sink]), records(11)
    bench.run(one, waited=0.01)
    assert (len(sink.lines), bench.database.taken) == (1, [])
    assert bench.writer.next_timeout() == pytest.approx(0.085)

    bench.time += 0.1
    bench.run()
    assert bench.database.taken == [one]

    bench.run(others[0], waited=0.01)
    assert bench.database.taken == [one]
    bench.run(*others[1:], waited=0.01)
    assert bench.database.taken == [one, *others]

    last = error()
    bench.run(last, FlushMarker(), waited=0.01)
    assert bench.database.taken == [one, *others, last]


@pytest.mark.parametrize(("duration", "wait"), [(0.0, 0.095), (0.02, 0.055), (3.0, 0.05)])
def test_the_wait_for_a_batch_leaves_time_for_the_transaction(duration: float, wait: float) -> None:
    """The flush interval includes the transaction and the one before it, but a row waits at least half of it for others."""
    bench = Bench(sinks=[MemorySink()])

    def slow(_: Sequence[Record]) -> None:
        bench.time += duration

    bench.database.refuse = slow
    bench.run(error())
    assert bench.writer.batch_wait == pytest.approx(wait)

    bench.run(error(), waited=0.01)
    assert bench.writer.next_timeout() == pytest.approx(wait - 0.01)


def test_the_lag_is_how_long_the_database_is_behind() -> None:
    """It grows while the database refuses and ends with the last record written; each transaction is measured."""
    took: list[float] = []
    bench = Bench()
    bench.writer._flushed = took.append
    bench.database.refuse = lambda _: LOCKED
    bench.run(*records(12))
    bench.time += 7.0
    assert bench.writer.lag == 7.0

    bench.database.refuse = lambda _: None
    bench.run()
    assert (bench.writer.lag, took) == (0.0, [0.0, 0.0])


def test_a_locked_database_gets_the_same_batch_again() -> None:
    """While other processes keep the file locked nothing is lost or reordered. The waits grow to a second and are reset."""
    bench, given = Bench(), records(5)
    bench.database.refuse = lambda _: LOCKED
    timeouts = []
    bench.run(*given)
    for _ in range(12):
        timeouts.append(bench.writer.next_timeout() or 0.0)
        bench.time += timeouts[-1]
        bench.run()

    assert bench.database.taken == []
    assert 0.025 <= timeouts[0] <= 0.05
    assert 0.5 <= timeouts[-1] <= 1.0
    bench.database.refuse = lambda _: None
    bench.time += 1.0
    bench.run(late := error())
    assert bench.database.taken == [*given, late]
    assert bench.writer.drops.dropped == 0

    bench.database.refuse = lambda _: LOCKED
    bench.run(error())
    assert (bench.writer.next_timeout() or 0.0) <= 0.1


def test_a_database_that_is_away_is_tried_again_soon_and_costs_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The waits grow from a tenth of a second to two, with jitter. What waits is written when the database is back."""
    caplog.set_level(logging.INFO, "resilience")
    bench, given = Bench(), records(3)
    bench.database.refuse = lambda _: READONLY
    bench.run(*given)
    assert bench.database.closed == 1
    waits = []
    for _ in range(8):
        waits.append(bench.writer.next_timeout() or 0.0)
        bench.time += waits[-1]
        bench.run()
    assert 0.05 <= waits[0] <= 0.1
    assert 1.0 <= waits[-1] <= 2.0
    assert all(low <= wait <= 2 * low for wait, low in zip(waits, (0.05, 0.1, 0.2, 0.4, 0.8), strict=False))

    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert "make the file and its folder writable" in warning.getMessage()
    assert "RESILIENCE_DATABASE_URL" in warning.getMessage()
    assert "INSERT" not in warning.getMessage()

    bench.database.refuse = lambda _: None
    bench.time += 2.0
    bench.run()
    assert bench.database.taken == given
    assert [entry.levelno for entry in caplog.records] == [logging.WARNING, logging.INFO]


def test_what_exceeds_the_queue_is_dropped_counted_and_reported_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While the database is away the newest are dropped; the count goes to the log and, later, to `instances`."""
    bench, given = Bench(max_rows=4), records(10)
    bench.database.refuse = lambda _: READONLY
    bench.run(*given)
    bench.run(error())
    assert (bench.writer.depth, bench.writer.drops.dropped) == (4, 7)
    reports = [entry.getMessage() for entry in caplog.records if "dropped" in entry.getMessage()]
    assert reports == ["the history dropped 6 records that could not be written"]

    bench.time += 60.0
    bench.database.refuse = lambda _: None
    bench.run()
    assert bench.database.taken == given[:4]
    assert {stats.dropped for stats in bench.database.stats} == {7}
    assert [stats.pending_counts and stats.pending_counts.through for stats in bench.database.stats] == [6, 7]
    assert caplog.records[-1].getMessage() == "the history dropped 1 records that could not be written"


def test_memory_is_bounded_too() -> None:
    """Long messages fill the queue sooner than their number would."""
    bench = Bench(max_bytes=3000)
    bench.database.refuse = lambda _: READONLY
    bench.run(*[error(message="m" * 1000) for _ in range(5)])

    assert (bench.writer.depth, bench.writer.drops.dropped) == (2, 3)


def test_a_newer_database_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The process goes on with its logs alone, after one warning; no record waits for a database it must not touch."""
    sink = MemorySink()
    bench = Bench(sinks=[sink])
    bench.database.refuse = lambda _: NewerHistoryError(
        "it has revision 9999: upgrade the baml-resilience package"
    )
    marker = FlushMarker()
    bench.run(error(), marker)
    bench.run(error(), FlushMarker())

    (warning, dropped) = caplog.records
    assert "upgrade the baml-resilience package" in warning.getMessage()
    assert "dropped 1 records" in dropped.getMessage()
    assert marker.wait(0)
    assert not marker.written
    assert len(sink.lines) == 2
    assert bench.writer.depth == 0
    bench.writer.close()


@pytest.mark.parametrize("position", [0, 3, 9, 24])
def test_one_poisonous_row_is_lost_alone(position: int, caplog: pytest.LogCaptureFixture) -> None:
    """A batch with a row that the database cannot store is halved until that row is alone; all others are written in order."""
    bench, given = Bench(), records(25)
    bench.database.refuse = lambda batch: ValueError("no timezone") if given[position] in batch else None
    bench.run(*given)

    assert bench.database.taken == given[:position] + given[position + 1 :]
    assert bench.writer.drops.dropped == 1
    assert "a record was dropped" in caplog.text


def test_the_log_does_not_show_a_dropped_row(caplog: pytest.LogCaptureFixture) -> None:
    """PostgreSQL repeats the whole row in its error. Only the first line, which names the constraint, is logged."""
    bench = Bench()
    original = ValueError('violates check constraint "ck"\nDETAIL:  Failing row contains (the message)')
    bench.database.refuse = lambda _: IntegrityError("INSERT", {}, original)
    bench.run(error())

    assert 'violates check constraint "ck"' in caplog.text
    assert "the message" not in caplog.text


def test_a_flush_behind_a_locked_batch_waits_with_it() -> None:
    """Markers keep their place while the file is locked, and a failed marker duration no record with it."""
    bench, given, marker = Bench(), records(2), FlushMarker()
    bench.database.refuse = lambda _: LOCKED
    bench.run(*given, marker)
    assert not marker.wait(0)
    assert bench.writer.depth == 2

    bench.database.refuse = lambda _: READONLY
    bench.time += 1.0
    bench.run(late := error())
    assert marker.wait(0)
    assert not marker.written
    assert bench.writer.depth == 3

    bench.database.refuse = lambda _: None
    bench.time += 30.0
    bench.run()
    assert bench.database.taken == [*given, late]


def test_a_marker_is_complete_when_all_before_it_is_written() -> None:
    """A marker between records splits the batch; the records after it are written as well."""
    bench = Bench()
    before, after, marker, end = error(), error(), FlushMarker(), FlushMarker()
    bench.run(before, marker, after, end)

    assert marker.wait(0)
    assert marker.written
    assert end.written
    assert bench.database.taken == [before, after]


def test_a_marker_tries_a_database_that_is_away_once_more() -> None:
    """A flush causes one attempt at once, and its caller learns the result at once."""
    bench, given = Bench(), records(2)
    bench.database.refuse = lambda _: READONLY
    bench.run(*given)
    refused, written = FlushMarker(), FlushMarker()
    bench.run(refused)
    assert refused.wait(0)
    assert not refused.written

    bench.database.refuse = lambda _: None
    bench.run(written)
    assert written.written
    assert bench.database.taken == given


def test_without_a_database_the_sinks_are_served_alone() -> None:
    """Nothing waits, nothing is dropped, and a marker is completed at once."""
    sink, marker = MemorySink(), FlushMarker()
    bench = Bench(sinks=[sink], with_database=False)
    bench.run(error(), marker)
    bench.writer.abandon()
    bench.writer.close()

    assert len(sink.lines) == 1
    assert marker.written
    assert (bench.writer.depth, bench.writer.drops.dropped) == (0, 0)


def test_a_failing_sink_affects_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It costs its own lines and one warning; other sinks and the database get everything."""
    broken, whole = MemorySink(), MemorySink()
    bench, given = Bench(sinks=[broken, whole]), records(3)
    broken.failing = True
    bench.run(given[0])
    bench.run(given[1], FlushMarker())
    broken.failing = False
    bench.run(given[2], FlushMarker())

    assert (len(broken.lines), len(whole.lines)) == (1, 3)
    assert bench.database.taken == given
    assert [entry.getMessage() for entry in caplog.records] == [
        "log lines are being lost: MemorySink failed (OSError)"
    ]


def test_a_malformed_record_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    """A call without a start time is not logged, and the other records are."""
    sink = MemorySink()
    bench = Bench(sinks=[sink])
    bench.run(call(started_at=None), error(message="whole"))

    assert [line["message"] for _, line in sink.lines] == ["whole"]
    assert "a record was not logged: CallRecord" in caplog.text


def test_a_deferred_record_is_built_by_the_writer() -> None:
    """A deferred record is built once, in its place in the order, and is a record like any other."""
    bench, first, last = Bench(), error(), error()
    made = call()
    bench.run(first, DeferredRecord(lambda: made), last)

    assert bench.database.taken == [first, made, last]


def test_a_record_that_cannot_be_built_is_lost_alone(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted as dropped and logged, without the text of the exception."""
    bench, given = Bench(), error()

    def broken() -> Any:
        raise ValueError("the prompt")  # noqa: TRY003, EM101 - any error

    with caplog.at_level(logging.WARNING, logger="resilience"):
        bench.run(DeferredRecord(broken), given)

    assert bench.database.taken == [given]
    assert bench.writer.drops.dropped == 1
    assert "could not be made (ValueError)" in caplog.text
    assert "the prompt" not in caplog.text


def test_closing_counts_what_is_left() -> None:
    """Records that could not be written before the close are dropped, and the recorder learns how many, and why."""
    bench = Bench()
    bench.database.refuse = lambda _: LOCKED
    bench.run(*records(3))
    bench.writer.close()

    assert (bench.writer.depth, bench.writer.drops.dropped) == (0, 3)
    assert bench.writer.given_up == Unwritten(records=3, counted=False, reason="database is locked")
    assert bench.database.closed == 1


class PsycopgError(Exception):
    """An error with an SQLSTATE, like those of psycopg."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (LOCKED, DatabaseErrorKind.LOCKED),
        (refusal(sqlite3.SQLITE_BUSY_SNAPSHOT, "database is locked"), DatabaseErrorKind.LOCKED),
        (OperationalError("", {}, PsycopgError("40P01")), DatabaseErrorKind.LOCKED),
        (OperationalError("", {}, PsycopgError("08006")), DatabaseErrorKind.AWAY),
        (READONLY, DatabaseErrorKind.AWAY),
        (refusal(sqlite3.SQLITE_FULL, "database or disk is full"), DatabaseErrorKind.AWAY),
        (ProgrammingError("", {}, PsycopgError("42P01")), DatabaseErrorKind.AWAY),
        (InterfaceError("", {}, PsycopgError("08003")), DatabaseErrorKind.AWAY),
        (
            ProgrammingError("", {}, sqlite3.ProgrammingError("type 'X' is not supported")),
            DatabaseErrorKind.POISON,
        ),
        (IntegrityError("", {}, sqlite3.IntegrityError("CHECK constraint failed")), DatabaseErrorKind.POISON),
        (StatementError("", "", {}, ValueError("no timezone")), DatabaseErrorKind.POISON),
        (OverflowError("int too large"), DatabaseErrorKind.POISON),
        (ConfigurationError("needs a driver"), DatabaseErrorKind.AWAY),
        (HistoryError("cannot be upgraded"), DatabaseErrorKind.AWAY),
        (NewerHistoryError("newer"), DatabaseErrorKind.NEWER),
        (PermissionError(13, "Permission denied"), DatabaseErrorKind.AWAY),
    ],
    ids=lambda value: value.name if isinstance(value, DatabaseErrorKind) else type(value).__name__,
)
def test_each_refusal_means_one_thing(exc: Exception, expected: DatabaseErrorKind) -> None:
    """Retry soon, drop the row, leave the database alone, or try later: each error has the right one of these kinds."""
    assert error_kind(exc) is expected


def test_rows_of_clean_calls_gather_where_their_lines_are_in_a_file(tmp_path: Path) -> None:
    """They wait a second; an error among them, a full batch or a flush writes them as before. Without log files nothing gathers."""
    bench, gathering = Bench(), SinkGroup([JsonLines(tmp_path)])
    clean, failed = call(), call(outcome=CallOutcome.FAILED, client_final=None)
    bench.writer.take([(gathering, clean)])
    assert bench.writer.next_timeout() == pytest.approx(0.9)

    bench.time += 0.3
    bench.writer.take([(gathering, clean)])
    assert bench.writer.next_timeout() == pytest.approx(0.6)
    bench.writer.take([])
    assert bench.writer.next_timeout() == pytest.approx(0.6)

    bench.writer.take([(gathering, error())], waited=0.01)
    assert bench.writer.next_timeout() == pytest.approx(0.085)
    bench.writer.take([(gathering, failed)])
    assert bench.writer.next_timeout() == 0.0
    bench.writer.write_due()
    assert len(bench.database.taken) == 4

    bench.writer.take([(gathering, clean)] * 10)
    assert bench.writer.next_timeout() == 0.0  # a full batch
    bench.writer.write_due()
    bench.writer.take([clean])
    assert bench.writer.next_timeout() == 0.0


def test_the_lines_of_a_first_record_wait_for_no_other() -> None:
    """After a pause its lines are due at once, and its row waits on; records that follow closely share a write. Errors are as before."""
    now = [1000.0]
    wait = BatchWait(lambda: now[0])
    assert wait.wait(60.0, lines_first=True) == 0.0

    now[0] += 0.09
    assert wait.wait(0.001, lines_first=True) is None
    now[0] += 0.2
    assert wait.wait(0.001) is None, "without log files the row alone is waited for"

    now[0] += 0.2
    wait.end_for_line()
    assert wait.wait(60.0, lines_first=True) == 0.01
    now[0] += 0.2
    wait.end()
    assert wait.wait(60.0, lines_first=True) is None, "a caller flushes"
    now[0] += 60.1
    assert wait.wait(60.0, lines_first=True) == 0.0, "neither signal is left over"


@pytest.mark.parametrize("rate", [3, 25])
def test_clean_calls_make_one_transaction_a_second(tmp_path: Path, rate: int) -> None:
    """However often a process calls, up to a full batch: each transaction changes the end of every table and index."""
    bench, gathering = Bench(batch=200), SinkGroup([JsonLines(tmp_path)])
    for hundredth in range(1000):
        if hundredth * rate % 100 < rate:
            bench.writer.take([(gathering, call())], waited=0.09)
        bench.writer.write_due()
        bench.time += 0.01

    assert 9 <= len(bench.database.stats) <= 10
    assert len(bench.database.taken) + bench.writer.depth == 10 * rate


def test_rare_calls_wake_the_thread_for_their_lines_alone(tmp_path: Path) -> None:
    """Three calls a second: the rows go with the line of the last call before they are due, in one transaction a second."""
    bench, gathering = Bench(), SinkGroup([JsonLines(tmp_path)])
    for _ in range(30):
        bench.run((gathering, call()), waited=0.0)
        assert bench.writer.next_timeout() != 0.0
        bench.time += 1 / 3
        assert bench.writer.next_timeout() != 0.0, "no row is due between two calls"
    assert len(bench.database.stats) == 10
    assert len(bench.database.taken) == 30


def test_errors_make_ten_transactions_a_second_at_most(tmp_path: Path) -> None:
    """Also in a storm, where their lines are in a file: each transaction begins an interval after the last. Lines are written meanwhile."""
    bench, group = Bench(batch=200), SinkGroup([JsonLines(tmp_path)])

    def slow(_: Sequence[Record]) -> None:
        bench.time += 0.004

    bench.database.refuse = slow
    began = bench.time
    while bench.time < began + 2.0:
        bench.run((group, error()), waited=0.01)
        bench.time += 0.01
    assert 18 <= len(bench.database.stats) <= 20
    assert (
        len((tmp_path / "errors.jsonl").read_text().splitlines())
        == len(bench.database.taken) + bench.writer.depth
    )


def test_rows_wait_for_nothing_while_their_lines_are_lost(tmp_path: Path) -> None:
    """A killed process would lose them: while the log file cannot be written, or says nowhere that the process writes to it."""
    logs, clean = tmp_path / "logs", call()
    bench, gathering = Bench(), SinkGroup([JsonLines(logs)])
    logs.write_text("a file in the place of the folder")
    bench.writer.take([(gathering, clean)])
    assert bench.writer.next_timeout() == 0.0
    bench.writer.write_due()

    logs.unlink()
    logs.mkdir()
    marks = logs / ".writers"
    marks.write_text("a file in the place of the folder of marks")
    bench.writer.take([(gathering, clean)])
    assert bench.writer.next_timeout() == 0.0
    bench.writer.write_due()

    marks.unlink()
    bench.writer.take([(gathering, clean)])
    assert bench.writer.next_timeout() == pytest.approx(0.9)
    assert [bench.writer.instance.instance_id] == [path.name for path in marks.iterdir()]


def test_a_mark_that_could_not_be_filled_or_was_removed_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk leaves no half of a mark, and a removed log folder gets a new one: killed later, the process is found."""
    bench, group = Bench(), SinkGroup([JsonLines(tmp_path)])
    marks = tmp_path / ".writers"

    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        bench.writer.take([(group, call())])
    assert [] == list(marks.iterdir())

    for _ in range(2):
        bench.writer.take([(group, call())])
        assert [bench.writer.instance.instance_id] == [path.name for path in marks.iterdir()]
        shutil.rmtree(tmp_path)
