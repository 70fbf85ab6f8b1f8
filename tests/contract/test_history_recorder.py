"""What a recorder writes, a history reads: the promise to callers, on a real database."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.history_records import NOON, call, error, eventually, fallback

from resilience.errors import ConfigurationError, HistoryError
from resilience.failure import ErrorCategory
from resilience.history import CallOutcome, DeferredRecord, History, Recorder
from resilience.history.schema import migrations
from resilience.history.schema.sqlite_driver import module as sqlite3
from resilience.logs import JsonLines
from resilience.records.records import Record


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the URL of a database that does not exist yet."""
    return f"sqlite:///{tmp_path}/made/resilience.db"


@pytest.fixture
def recorder(url: str) -> Iterator[Recorder]:
    recorder = Recorder(url, flush_interval=0.01)
    yield recorder
    recorder.close()


@pytest.fixture
async def history(url: str) -> AsyncIterator[History]:
    history = History(url)
    yield history
    await history.aclose()


async def test_what_is_recorded_is_read(recorder: Recorder, history: History) -> None:
    """Every kind of record comes back equal, from a database that the recorder created."""
    kept = error(), call(), fallback()
    for record in kept:
        recorder.record(record)

    assert await recorder.aflush(20)
    assert [await history.errors(), await history.calls(), await history.fallbacks()] == [
        [record] for record in kept
    ]
    assert (recorder.queue_depth, recorder.dropped) == (0, 0)


async def test_records_arrive_without_a_flush(recorder: Recorder, url: str) -> None:
    """The writer thread writes by itself."""
    recorder.record(error())

    assert eventually(lambda: recorder.queue_depth == 0, within=120)
    assert rows(url, "SELECT count(*) FROM errors") == [(1,)]


async def test_the_same_record_twice_is_kept_once(recorder: Recorder, history: History) -> None:
    """A batch whose commit was not seen may be written again: ids decide which rows are new."""
    twice, once = error(), error()
    for record in (twice, twice, once):
        recorder.record(record)
    recorder.flush(20)
    recorder.record(twice)
    recorder.flush(20)

    assert len(await history.errors()) == 2


async def test_errors_are_found_by_every_filter(recorder: Recorder, history: History) -> None:
    """Filters are combined by AND; the newest record comes first."""
    old = error(occurred_at=NOON, client="Primary", request_id="a")
    other = error(
        occurred_at=NOON + timedelta(seconds=1),
        client="Secondary",
        category=ErrorCategory.TIMEOUT,
        function="G",
    )
    new = error(occurred_at=NOON + timedelta(seconds=2), client="Primary", request_id="b")
    for record in (new, old, other):
        recorder.record(record)
    await recorder.aflush(20)

    assert await history.errors() == [new, other, old]
    assert await history.errors(client="Primary") == [new, old]
    assert await history.errors(client="Primary", request_id="a") == [old]
    assert await history.errors(function="G", category=ErrorCategory.TIMEOUT) == [other]
    assert await history.errors(category="timeout", since=NOON) == [other]
    assert await history.errors(since=NOON + timedelta(seconds=2)) == [new]
    assert await history.errors(since=60) == []
    assert await history.errors(limit=0) == []


async def test_calls_and_fallbacks_are_found_by_their_filters(recorder: Recorder, history: History) -> None:
    """Calls are filtered by outcome, client and function; fallbacks by the clients they came from and went to."""
    good, bad = (
        call(started_at=NOON),
        call(outcome=CallOutcome.FAILED, client="Secondary", client_final=None, request_id="b"),
    )
    there, back = (
        fallback(occurred_at=NOON),
        fallback(from_client="Secondary", to_client="Primary", function="G"),
    )
    for record in (good, bad, there, back):
        recorder.record(record)
    await recorder.aflush(20)

    assert await history.calls(outcome=CallOutcome.FAILED) == [bad]
    assert await history.calls(client="Primary", function="GenerateHypothesis") == [good]
    assert await history.calls(since=60, request_id="b") == [bad]
    assert await history.fallbacks(from_client="Primary") == [there]
    assert await history.fallbacks(to_client="Primary", function="G") == [back]


async def test_pages_follow_each_other_without_gap_or_repetition(
    recorder: Recorder, history: History
) -> None:
    """`before=page[-1]` gives the next page, also when many records have the same time."""
    kept = [error(occurred_at=NOON + timedelta(seconds=number // 4)) for number in range(10)]
    for record in kept:
        recorder.record(record)
    await recorder.aflush(20)

    found, page = [], await history.errors(limit=3)
    while page:
        found += page
        page = await history.errors(limit=3, before=page[-1])
    assert found == sorted(kept, key=lambda record: (record.occurred_at, record.event_id), reverse=True)


async def test_the_summary_counts_the_fleet(recorder: Recorder, history: History) -> None:
    """Errors by category, client and function, fallbacks with their success, calls with theirs."""
    for record in (
        error(occurred_at=NOON),
        error(),
        latest := error(category=ErrorCategory.TIMEOUT, client="Secondary"),
        fallback(),
        fallback(succeeded=False),
        fallback(succeeded=None),
    ):
        recorder.record(record)
    for outcome in (
        CallOutcome.OK,
        CallOutcome.OK,
        CallOutcome.RECOVERED_RETRY,
        CallOutcome.REJECTED,
        CallOutcome.CANCELLED,
    ):
        recorder.record(call(outcome=outcome))
    await recorder.aflush(20)

    summary = await history.summary(since=timedelta(hours=1))

    assert summary.pop("recent_errors")[0] == latest
    assert len(summary.pop("recent_fallbacks")) == 3
    assert summary == {
        "total_errors": 2,
        "by_category": {"rate_limit": 1, "timeout": 1},
        "by_client": {"Primary": 1, "Secondary": 1},
        "by_function": {"GenerateHypothesis": 2},
        "total_fallbacks": 3,
        "successful_fallbacks": 1,
        "success_rate": 0.5,
        "fallbacks_by_client": {"Secondary": 3},
        "total_calls": 5,
        "by_outcome": {"ok": 2, "cancelled": 1, "recovered_retry": 1, "rejected": 1},
        "call_success_rate": 0.75,
    }
    assert (await history.summary())["total_errors"] == 3


async def test_the_timeline_tells_one_request_from_start_to_end(recorder: Recorder, history: History) -> None:
    """The call first, then its failures and fallbacks as they happened, and nothing of other requests."""
    steps: list[Record] = [
        call(started_at=NOON, outcome=CallOutcome.RECOVERED_FALLBACK),
        error(occurred_at=NOON + timedelta(seconds=1)),
        error(occurred_at=NOON + timedelta(seconds=2)),
        fallback(occurred_at=NOON + timedelta(seconds=3)),
    ]
    for record in (*reversed(steps), error(request_id="another")):
        recorder.record(record)
    await recorder.aflush(20)

    assert await history.timeline("request-1") == steps


async def test_an_empty_history_reads_as_empty(history: History, tmp_path: Path) -> None:
    """Without a URL, a file or tables all results are empty, and reading creates no file."""
    none = History(None)
    assert await none.errors() == []
    assert (await history.summary())["total_calls"] == 0
    assert not (tmp_path / "made").exists()

    migrations.create_file(tmp_path / "made" / "resilience.db")
    assert await history.calls() == []
    await none.aclose()


async def test_a_read_of_a_file_leaves_no_thread(recorder: Recorder, history: History) -> None:
    """A program that never closes its handler has no connection left, whose thread and warning it would see in dev mode."""
    recorder.record(error())
    assert await recorder.aflush(20)

    assert [1, 1] == [len(found) for found in await asyncio.gather(history.errors(), history.errors())]
    # The function of aiosqlite that runs on the thread of a connection is part of the thread's name.
    assert await asyncio.to_thread(
        eventually, lambda: not any("_connection_worker" in thread.name for thread in threading.enumerate())
    )


async def test_a_file_that_is_no_database_raises_our_error(history: History, tmp_path: Path) -> None:
    """Reading a file that is no database raises an error with its path and the reason."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "resilience.db").write_text(
        "certainly no database, but long enough to be taken for one" * 20
    )

    with pytest.raises(HistoryError, match=r"resilience\.db cannot be read: file is not a database"):
        await history.errors()


async def test_readers_cannot_write(history: History, recorder: Recorder) -> None:
    """The reading connections refuse to change anything."""
    recorder.record(error())
    await recorder.aflush(20)
    engine = history._open()
    assert engine is not None
    with pytest.raises(Exception, match="readonly"):
        async with engine.connect() as connection:
            await connection.exec_driver_sql("DELETE FROM errors")


def test_one_history_serves_several_event_loops(recorder: Recorder, url: str) -> None:
    """Synchronous programs may call `asyncio.run` again and again."""
    recorder.record(error())
    recorder.flush(20)
    history = History(url)

    async def read(*, last: bool) -> int:
        found = await history.errors()
        if last:
            await history.aclose()
        return len(found)

    assert [asyncio.run(read(last=False)), asyncio.run(read(last=True))] == [1, 1]


async def test_invalid_arguments_are_refused_by_name(history: History) -> None:
    """A negative limit and a time without timezone raise an error that names the argument."""
    with pytest.raises(ValueError, match="limit=-1"):
        await history.errors(limit=-1)
    with pytest.raises(ValueError, match=r"since=.*timezone"):
        await history.summary(since=datetime.now())  # noqa: DTZ005 - this is what is refused


def rows(url: str, query: str) -> list[Any]:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    try:
        return list(connection.execute(query))
    finally:
        connection.close()


def test_the_process_is_known_by_its_instance(url: str) -> None:
    """Rows name the instance that wrote them; `instances` has its service, its pid and how many records it dropped."""
    recorder = Recorder(url, service="agents", max_rows=1)
    recorder.record(error())
    recorder.flush(20)
    recorder.close()
    recorder.record(error())

    (instance,) = rows(url, "SELECT instance_id, service, pid, dropped_events FROM instances")
    assert instance == (recorder.instance_id, "agents", os.getpid(), 0)
    assert rows(url, "SELECT instance_id FROM errors") == [(recorder.instance_id,)]
    assert recorder.dropped == 1


def test_the_file_is_its_owners_alone(url: str, recorder: Recorder, tmp_path: Path) -> None:
    """Other users cannot read the database, nor the files that SQLite keeps beside it."""
    recorder.record(error())
    recorder.flush(20)

    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "made").iterdir()}
    assert modes == {"resilience.db": 0o600, "resilience.db-wal": 0o600, "resilience.db-shm": 0o600}


def test_a_wrong_url_or_number_is_refused_at_once() -> None:
    """Configuration is checked by the constructor, not on the writer thread."""
    with pytest.raises(ConfigurationError):
        Recorder("mysql://host/x")
    for name, value in {"max_rows": 0, "max_bytes": 0, "flush_interval": 0.0, "batch": 0}.items():
        with pytest.raises(ValueError, match=rf"Recorder\.{name}="):
            Recorder(None, **{name: value})  # type: ignore[arg-type]  # one name stands for each


def test_nothing_runs_before_the_first_record(url: str, tmp_path: Path) -> None:
    """There is no thread and no file before the first record; flushing and closing an unused recorder is fine."""
    before = set(threading.enumerate())
    recorder = Recorder(url)
    assert recorder.flush(0)
    recorder.close()

    assert set(threading.enumerate()) <= before
    assert list(tmp_path.iterdir()) == []


def test_threads_record_at_once_and_nothing_is_lost(url: str) -> None:
    """Eight threads that record 500 errors each leave 4000 rows."""
    recorder = Recorder(url)

    def work() -> None:
        for _ in range(500):
            recorder.record(error())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.flush(30)
    recorder.close()

    assert rows(url, "SELECT count(*) FROM errors") == [(4000,)]


class Gate:
    """A sink that blocks the writer thread until it is opened."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        self.entered.set()
        self.opened.wait(240)


def test_a_full_queue_drops_the_newest_and_reports_it(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """While the writer is blocked a bounded number of records waits; the rest is counted, and `record` returns at once."""
    gate = Gate()
    recorder = Recorder(url, sinks=[gate], max_rows=5)
    recorder.record(error(message="first"))
    gate.entered.wait(240)
    for number in range(9):
        recorder.record(error(message=f"{number}"))
    assert not recorder.flush(0.01)
    assert (recorder.dropped, recorder.queue_depth) == (4, 7)
    gate.opened.set()
    recorder.close(20)

    assert "the history dropped" in caplog.text
    kept = {message for (message,) in rows(url, "SELECT message FROM errors")}
    assert kept <= {"first", "0", "1", "2", "3", "4"}
    assert len(kept) == 10 - recorder.dropped - recorder.sampled


def test_the_queue_is_bounded_in_memory_too(url: str) -> None:
    """A few huge messages fill it."""
    gate = Gate()
    recorder = Recorder(url, sinks=[gate], max_bytes=5000)
    recorder.record(error())
    gate.entered.wait(240)
    for _ in range(5):
        recorder.record(error(message="m" * 2000))
    assert recorder.dropped == 3
    gate.opened.set()
    recorder.close(20)


def test_a_full_queue_counts_what_cannot_be_built(url: str) -> None:
    """A deferred record that cannot be built is counted as dropped, and `record` raises nothing."""
    gate = Gate()
    recorder = Recorder(url, sinks=[gate], max_rows=1)
    recorder.record(error())
    gate.entered.wait(240)

    def broken() -> Any:
        raise ValueError

    recorder.record(error())
    recorder.record(DeferredRecord(broken))
    recorder.record(DeferredRecord(call))
    assert recorder.dropped == 2
    gate.opened.set()
    recorder.close(20)
    assert rows(url, "SELECT sum(calls), sum(errors) FROM rollups") == [(1, 2)]


def test_a_malformed_record_is_dropped_alone(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """No time zone, more than 64 bits, an unknown outcome, no text, no record: each of these loses only itself."""
    recorder = Recorder(url)
    good = [error(message=str(number)) for number in range(30)]
    bad: list[Any] = [
        error(occurred_at=datetime(2025, 6, 1)),  # noqa: DTZ001 - this is what is refused
        error(status=2**70),
        call(outcome="sideways"),
        error(client=None),
        error(message=None),
        SimpleNamespace(),
    ]
    for record in [*bad[:2], *good, *bad[2:]]:
        recorder.record(record)
    assert recorder.flush(20)
    recorder.close()

    assert rows(url, "SELECT count(*) FROM errors") == [(30,)]
    assert recorder.dropped == len(bad)
    assert caplog.text.count("a record was dropped") == len(bad)


def test_logs_work_without_a_database(tmp_path: Path) -> None:
    """Without a history the streams are still written: an error has two lines, a call two, a fallback one."""
    recorder = Recorder(None, sinks=[JsonLines(tmp_path)])
    for record in (error(), call(), fallback()):
        recorder.record(record)
    assert recorder.flush(20)
    recorder.close()

    lines = {path.name: len(path.read_text().splitlines()) for path in tmp_path.iterdir()}
    assert lines == {"errors.jsonl": 1, "performance.jsonl": 2, "operations.jsonl": 2}


def test_lines_do_not_wait_for_the_batch(tmp_path: Path, url: str) -> None:
    """A record is in the log long before its flush interval ends: the log is what is left of a killed process."""
    recorder = Recorder(url, sinks=[JsonLines(tmp_path / "logs")], flush_interval=60.0)
    recorder.record(error())

    assert eventually((tmp_path / "logs" / "errors.jsonl").exists)
    assert recorder.queue_depth == 1
    assert recorder.flush(20)
    recorder.close()


def test_lines_do_not_wait_for_the_first_opening(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process holds the lock of a new file, records come into the log: a kill now loses none of them."""
    monkeypatch.setattr(migrations, "_WAIT", 600.0)
    (tmp_path / "made").mkdir()
    holder = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("PRAGMA journal_mode=WAL")
    holder.execute("BEGIN IMMEDIATE")
    recorder = Recorder(url, sinks=[JsonLines(tmp_path / "logs")])
    log = tmp_path / "logs" / "errors.jsonl"
    recorder.record(error())
    assert eventually(migrations._migrating.locked)
    recorder.record(error())
    assert eventually(lambda: len(log.read_text().splitlines()) == 2)
    assert not recorder._writer.reached
    holder.execute("COMMIT")
    holder.close()
    assert recorder.flush(120)
    recorder.close()

    assert rows(url, "SELECT count(*) FROM errors") == [(2,)]


def test_a_thread_that_cannot_start_leaves_the_work_to_the_flush(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late in the end of a process no thread can be started: `record` raises nothing, and the last flush writes itself."""
    recorder = Recorder(url)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")  # noqa: TRY003, EM101 - as the interpreter words it

    with monkeypatch.context() as ending:
        ending.setattr(threading.Thread, "start", refuse)
        recorder.record(error())
        assert recorder.flush(20)
        recorder.close()

    assert rows(url, "SELECT count(*) FROM errors") == [(1,)]


def test_a_closed_recorder_only_counts(url: str) -> None:
    """After `close` a late record is counted as dropped, and no thread is started."""
    before = set(threading.enumerate())
    recorder = Recorder(url)
    recorder.record(error())
    recorder.close(20)
    recorder.record(error())
    recorder.close(20)

    assert recorder.dropped == 1
    assert rows(url, "SELECT count(*) FROM errors") == [(1,)]
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    "pragma", ["PRAGMA query_only=ON", "PRAGMA max_page_count=1"], ids=["read-only", "full"]
)
def test_a_database_that_refuses_costs_one_warning_and_no_record(
    pragma: str, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If SQLite says that it is read-only or full, records wait, and are written when it accepts them again."""
    migrations.upgrade(url)
    recorder = Recorder(url)
    with monkeypatch.context() as refusing:
        refusing.setattr("resilience.history.schema.engine._PRAGMAS", (pragma,))
        for _ in range(300):
            recorder.record(error(message="m" * 300))
        assert not recorder.flush(20)
        assert recorder.queue_depth == 300
    assert recorder.flush(20)
    recorder.close()

    warnings = [entry for entry in caplog.records if entry.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "RESILIENCE_DATABASE_URL" in warnings[0].getMessage()
    assert rows(url, "SELECT count(*) FROM errors") == [(300,)]


def test_a_path_that_cannot_be_created_costs_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file in place of the folder: the caller notices nothing; the log has the remedy and the number of lost records."""
    (tmp_path / "file").write_text("")
    recorder = Recorder(f"sqlite:///{tmp_path}/file/resilience.db")
    recorder.record(error())
    assert not recorder.flush(20)
    assert not recorder.flush(20)
    recorder.close()

    warnings = [entry.getMessage() for entry in caplog.records]
    assert "resilience.db cannot be upgraded: " in warnings[0]
    assert len(warnings) == 2
    assert warnings[1].startswith("the history dropped 1 records at the end of this process (")


def test_a_newer_database_leaves_the_logs(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A process older than its database writes no rows, logs the remedy once, and keeps its logs."""
    migrations.upgrade(url)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE resilience_version SET version_num = '9999'")
    connection.close()
    recorder = Recorder(url, sinks=[JsonLines(tmp_path / "logs")])
    recorder.record(error())
    assert not recorder.flush(20)
    recorder.record(error())
    recorder.flush(20)
    recorder.close()

    newer = [entry.getMessage() for entry in caplog.records if "newer" in entry.getMessage()]
    assert len(newer) == 1
    assert "upgrade the baml-resilience package" in newer[0]
    assert len((tmp_path / "logs" / "errors.jsonl").read_text().splitlines()) == 2


def test_a_locked_file_loses_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records made while another process holds the write lock are all there after it is released."""
    monkeypatch.setattr("resilience.history.store.database._WAIT", 0.02)
    migrations.upgrade(url)
    recorder = Recorder(url, flush_interval=0.01)
    holder = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for _ in range(1000):
        recorder.record(error())
    assert not recorder.flush(0.3)
    assert recorder.queue_depth == 1000
    holder.execute("COMMIT")
    holder.close()
    assert recorder.flush(20)
    recorder.close()

    assert recorder.dropped == 0
    assert rows(url, "SELECT count(*) FROM errors") == [(1000,)]


def test_a_file_that_was_removed_is_created_again(url: str, recorder: Recorder, tmp_path: Path) -> None:
    """SQLite would go on writing into the deleted file. The recorder notices, and creates a new one."""
    recorder.record(error())
    recorder.flush(20)
    for path in (tmp_path / "made").iterdir():
        path.unlink()
    (tmp_path / "made").rmdir()
    recorder.record(error(message="after"))
    assert recorder.flush(20)

    assert rows(url, "SELECT message FROM errors") == [("after",)]


def test_a_postgresql_without_its_driver_names_the_remedy(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver is an extra: a process without it goes on, and logs what to install."""
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    recorder = Recorder("postgresql://user:hunter2@localhost/x")
    recorder.record(error())
    assert not recorder.flush(20)
    recorder.close()

    assert "pip install 'baml-resilience[postgres]'" in caplog.text
    assert "hunter2" not in caplog.text
