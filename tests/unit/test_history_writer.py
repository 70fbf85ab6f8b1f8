"""The writer's patience: what it does when the database refuses, and what it never loses."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError, ProgrammingError, StatementError
from support.history_records import call, error

from resilience.errors import ConfigurationError, HistoryError
from resilience.history import ErrorRecord
from resilience.history.schema import urls
from resilience.history.schema.db_errors import DatabaseErrorKind, trouble
from resilience.history.schema.migrations import NewerHistoryError
from resilience.history.store.database import Database, Instance, WriterStats
from resilience.history.writer.queue import FlushMarker
from resilience.history.writer.sampling import QueueLimits
from resilience.history.writer.worker import Writer
from resilience.records.deferred import DeferredRecord
from resilience.records.records import Record


def refusal(code: int, text: str) -> OperationalError:
    """What SQLAlchemy makes of an error of SQLite's."""
    original = sqlite3.OperationalError(text)
    original.sqlite_errorcode = code
    return OperationalError("INSERT", {}, original)


LOCKED = refusal(sqlite3.SQLITE_BUSY, "database is locked")
READONLY = refusal(sqlite3.SQLITE_READONLY, "attempt to write a readonly database")


class Scripted(Database):
    """A database that refuses as it is told, and remembers what it took."""

    def __init__(self) -> None:
        super().__init__(urls.parse("sqlite:////nowhere/x.db"))
        self.refuse: Callable[[Sequence[Record]], Exception | None] = lambda _: None
        self.taken: list[Record] = []
        self.told: list[WriterStats] = []
        self.closed = 0

    def write(self, records: Sequence[Record], instance: Instance, standing: WriterStats) -> None:
        if refusal := self.refuse(records):
            raise refusal
        self.taken += records
        self.told.append(standing)

    def close(self) -> None:
        self.closed += 1


class Kept:
    """A sink that remembers one line of each record, and fails while it is told to."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Mapping[str, Any]]] = []
        self.failing = False

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        if self.failing:
            raise OSError("no room")  # noqa: TRY003, EM101 - any error of a sink
        self.lines += [(stream, line) for stream, line in lines if stream != "performance"]


class Bench:
    """A writer with everything around it in hand."""

    def __init__(self, *, sinks: Sequence[Kept] = (), kept: bool = True, **limits: Any) -> None:
        self.database = Scripted()
        self.time = 1000.0
        given: dict[str, Any] = {"max_rows": 100, "max_bytes": 1_000_000, "flush_interval": 0.1, "batch": 10}
        self.writer = Writer(
            self.database if kept else None,
            sinks,
            QueueLimits(**given | limits),
            Instance(),
            now=lambda: self.time,
        )

    def run(self, *items: Record | DeferredRecord | FlushMarker, waited: float | None = None) -> None:
        self.writer.take(items, waited=waited)
        self.writer.write_due()


def records(count: int) -> list[ErrorRecord]:
    return [error(attempt=number + 1) for number in range(count)]


def test_records_are_written_in_order_and_in_batches() -> None:
    """What was taken is written at once where no sink made it come early, in transactions of at most a batch."""
    bench, given = Bench(), records(25)
    bench.run(*given)

    assert bench.database.taken == given
    assert len(bench.database.told) == 3
    assert bench.writer.next_timeout() is None
    assert bench.writer.depth == 0


def test_rows_taken_early_wait_for_company_but_their_lines_do_not() -> None:
    """Lines go out at once; rows when the flush interval has passed, or the batch is full, or somebody waits."""
    sink = Kept()
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


@pytest.mark.parametrize(("takes", "patience"), [(0.0, 0.095), (0.02, 0.055), (3.0, 0.05)])
def test_what_a_transaction_takes_is_waited_less(takes: float, patience: float) -> None:
    """A row is in the database within the flush interval, its transaction and the one before included; half of it at least is waited."""
    bench = Bench(sinks=[Kept()])

    def slow(_: Sequence[Record]) -> None:
        bench.time += takes

    bench.database.refuse = slow
    bench.run(error())
    assert bench.writer.batch_wait == pytest.approx(patience)

    bench.run(error(), waited=0.01)
    assert bench.writer.next_timeout() == pytest.approx(patience - 0.01)


def test_the_lag_is_how_long_the_database_is_behind() -> None:
    """It grows while the database refuses, ends with the last record written, and each transaction is measured."""
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
    """Nothing is lost or reordered while others keep the file locked; the waits grow to five seconds and start small again."""
    bench, given = Bench(), records(5)
    bench.database.refuse = lambda _: LOCKED
    naps = []
    bench.run(*given)
    for _ in range(12):
        naps.append(bench.writer.next_timeout() or 0.0)
        bench.time += naps[-1]
        bench.run()

    assert bench.database.taken == []
    assert 0.05 <= naps[0] <= 0.1
    assert 2.5 <= naps[-1] <= 5.0
    bench.database.refuse = lambda _: None
    bench.time += 5.0
    bench.run(late := error())
    assert bench.database.taken == [*given, late]
    assert bench.writer.drops.dropped == 0

    bench.database.refuse = lambda _: LOCKED
    bench.run(error())
    assert (bench.writer.next_timeout() or 0.0) <= 0.1


def test_a_database_that_is_away_gives_one_warning_and_half_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The warning names the remedy; what waits is written when the database is back, which is said too."""
    caplog.set_level(logging.INFO, "resilience")
    bench, given = Bench(), records(3)
    bench.database.refuse = lambda _: READONLY
    bench.run(*given)
    assert bench.writer.next_timeout() == pytest.approx(30.0)
    assert bench.database.closed == 1
    bench.time += 30.0
    bench.run()

    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert "make the file and its folder writable" in warning.getMessage()
    assert "RESILIENCE_DATABASE_URL" in warning.getMessage()
    assert "INSERT" not in warning.getMessage()

    bench.database.refuse = lambda _: None
    bench.time += 30.0
    bench.run()
    assert bench.database.taken == given
    assert [entry.levelno for entry in caplog.records] == [logging.WARNING, logging.INFO]


def test_what_there_is_no_room_for_is_dropped_counted_and_said_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The newest are dropped while the database is away; the count goes to the log and, later, to `instances`."""
    bench, given = Bench(max_rows=4), records(10)
    bench.database.refuse = lambda _: READONLY
    bench.run(*given)
    bench.run(error())
    assert (bench.writer.depth, bench.writer.drops.dropped) == (4, 7)
    told = [entry.getMessage() for entry in caplog.records if "dropped" in entry.getMessage()]
    assert told == ["the history dropped 6 records that could not be written"]

    bench.time += 60.0
    bench.database.refuse = lambda _: None
    bench.run()
    assert bench.database.taken == given[:4]
    assert {standing.dropped for standing in bench.database.told} == {7}
    assert [
        standing.pending_counts and standing.pending_counts.through for standing in bench.database.told
    ] == [6, 7]
    assert caplog.records[-1].getMessage() == "the history dropped 1 records that could not be written"


def test_memory_is_bounded_too() -> None:
    """Long messages fill the room sooner than their number would."""
    bench = Bench(max_bytes=3000)
    bench.database.refuse = lambda _: READONLY
    bench.run(*[error(message="m" * 1000) for _ in range(5)])

    assert (bench.writer.depth, bench.writer.drops.dropped) == (2, 3)


def test_a_newer_database_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The process goes on with its logs alone, after one warning; nothing waits for a database it must not touch."""
    sink = Kept()
    bench = Bench(sinks=[sink])
    bench.database.refuse = lambda _: NewerHistoryError(
        "it has revision 9999: upgrade the baml-resilience package"
    )
    mark = FlushMarker()
    bench.run(error(), mark)
    bench.run(error(), FlushMarker())

    (warning, dropped) = caplog.records
    assert "upgrade the baml-resilience package" in warning.getMessage()
    assert "dropped 1 records" in dropped.getMessage()
    assert mark.wait(0)
    assert not mark.written
    assert len(sink.lines) == 2
    assert bench.writer.depth == 0
    bench.writer.close()


@pytest.mark.parametrize("bad", [0, 3, 9, 24])
def test_one_poisonous_row_costs_itself_alone(bad: int, caplog: pytest.LogCaptureFixture) -> None:
    """A batch with a row no database can keep is halved until that row stands alone; all others are written in order."""
    bench, given = Bench(), records(25)
    bench.database.refuse = lambda batch: ValueError("no timezone") if given[bad] in batch else None
    bench.run(*given)

    assert bench.database.taken == given[:bad] + given[bad + 1 :]
    assert bench.writer.drops.dropped == 1
    assert "a record was dropped" in caplog.text


def test_a_dropped_row_is_not_told_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """PostgreSQL repeats the whole row in its error; only the first line, which names the constraint, is logged."""
    bench = Bench()
    told = ValueError('violates check constraint "ck"\nDETAIL:  Failing row contains (the message)')
    bench.database.refuse = lambda _: IntegrityError("INSERT", {}, told)
    bench.run(error())

    assert 'violates check constraint "ck"' in caplog.text
    assert "the message" not in caplog.text


def test_a_flush_behind_a_locked_batch_waits_with_it() -> None:
    """Marks stay in their place while the file is locked, and one that fails takes none of the records with it."""
    bench, given, mark = Bench(), records(2), FlushMarker()
    bench.database.refuse = lambda _: LOCKED
    bench.run(*given, mark)
    assert not mark.wait(0)
    assert bench.writer.depth == 2

    bench.database.refuse = lambda _: READONLY
    bench.time += 1.0
    bench.run(late := error())
    assert mark.wait(0)
    assert not mark.written
    assert bench.writer.depth == 3

    bench.database.refuse = lambda _: None
    bench.time += 30.0
    bench.run()
    assert bench.database.taken == [*given, late]


def test_a_mark_rings_when_all_before_it_is_written() -> None:
    """A mark between records splits the batch, and what comes after it is written all the same."""
    bench = Bench()
    before, after, mark, end = error(), error(), FlushMarker(), FlushMarker()
    bench.run(before, mark, after, end)

    assert mark.wait(0)
    assert mark.written
    assert end.written
    assert bench.database.taken == [before, after]


def test_a_mark_asks_a_database_that_is_away_once_more() -> None:
    """Somebody who waits gets one try now, and the truth at once."""
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
    """Nothing waits, nothing is dropped, and a mark rings at once."""
    sink, mark = Kept(), FlushMarker()
    bench = Bench(sinks=[sink], kept=False)
    bench.run(error(), mark)
    bench.writer.abandon()
    bench.writer.close()

    assert len(sink.lines) == 1
    assert mark.written
    assert (bench.writer.depth, bench.writer.drops.dropped) == (0, 0)


def test_a_failing_sink_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """It costs its own lines and one warning; other sinks and the database get everything."""
    broken, whole = Kept(), Kept()
    bench, given = Bench(sinks=[broken, whole]), records(3)
    broken.failing = True
    bench.run(given[0])
    bench.run(given[1], FlushMarker())
    broken.failing = False
    bench.run(given[2], FlushMarker())

    assert (len(broken.lines), len(whole.lines)) == (1, 3)
    assert bench.database.taken == given
    assert [entry.getMessage() for entry in caplog.records] == [
        "log lines are being lost: Kept failed (OSError)"
    ]


def test_a_record_made_wrongly_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A call whose time is none is not logged, and the others are."""
    sink = Kept()
    bench = Bench(sinks=[sink])
    bench.run(call(started_at=None), error(message="whole"))

    assert [line["message"] for _, line in sink.lines] == ["whole"]
    assert "a record was not logged: CallRecord" in caplog.text


def test_a_record_is_made_where_it_is_written() -> None:
    """What the caller handed over unmade is made once, in its turn, and is a record like any other."""
    bench, first, last = Bench(), error(), error()
    made = call()
    bench.run(first, DeferredRecord(lambda: made), last)

    assert bench.database.taken == [first, made, last]


def test_a_record_that_cannot_be_made_costs_itself_alone(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted as dropped and said, without what the exception says."""
    bench, given = Bench(), error()

    def broken() -> Any:
        raise ValueError("the prompt")  # noqa: TRY003, EM101 - any error

    with caplog.at_level(logging.WARNING, logger="resilience"):
        bench.run(DeferredRecord(broken), given)

    assert bench.database.taken == [given]
    assert bench.writer.drops.dropped == 1
    assert "could not be made (ValueError)" in caplog.text
    assert "the prompt" not in caplog.text


def test_closing_counts_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """What could not be written until the end is dropped, and said."""
    bench = Bench()
    bench.database.refuse = lambda _: LOCKED
    bench.run(*records(3))
    bench.writer.close()

    assert (bench.writer.depth, bench.writer.drops.dropped) == (0, 3)
    assert "dropped 3 records" in caplog.text
    assert bench.database.closed == 1


class PsycopgError(Exception):
    """As psycopg's errors carry their SQLSTATE."""

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
    """Try again soon, give up the row, leave the database alone, or come back later: never the wrong one."""
    assert trouble(exc) is expected
