"""The end of a recorder: counters first, rows within the limit, and a report of what was not written. On both databases."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.history_places import Place, migrated_file, migrated_postgres, place
from support.history_records import call, error, eventually

from resilience.history import Recorder
from resilience.history.log_import import import_lines
from resilience.history.schema.sqlite_driver import module as sqlite3
from resilience.history.store import batches
from resilience.logs import JsonLines

__all__ = ["migrated_file", "migrated_postgres", "place"]

COUNTS = "SELECT sum(calls), sum(attempts), sum(errors) FROM rollups"
ROWS = "SELECT (SELECT count(*) FROM calls), (SELECT count(*) FROM errors)"


def killed_at_its_rows(place: Place, logs: Path) -> None:
    """Let a forked process record ten calls and five errors, and kill it when its first batch of rows would be written."""
    pid = os.fork()
    if pid == 0:
        try:
            recorder = Recorder(place.url, sinks=[JsonLines(logs)], flush_interval=60.0)
            for _ in range(10):
                recorder.record(call())
            for _ in range(5):
                recorder.record(error())
            batches.write = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
            recorder.close(60.0)
        finally:
            os._exit(9)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_a_kill_between_counters_and_rows_leaves_the_counters_exact(place: Place, tmp_path: Path) -> None:
    """Counters are written first. Two imports then add the rows, and count nothing again."""
    killed_at_its_rows(place, tmp_path)
    assert place.asked(ROWS) == [(0, 0)]
    assert place.asked(COUNTS) == [(10, 15, 5)]
    assert place.asked("SELECT dropped_events, rows_counted_through FROM instances") == [(15, 15)]

    paths = [tmp_path / "operations.jsonl", tmp_path / "errors.jsonl"]
    assert import_lines(place.url, paths).new == 15
    assert import_lines(place.url, paths).new == 0
    assert place.asked(ROWS) == [(10, 5)]
    assert place.asked(COUNTS) == [(10, 15, 5)]


def test_a_close_with_time_writes_everything_once(place: Place) -> None:
    """Rows that follow their counters are not counted again, and nothing counts as dropped in the end."""
    recorder = Recorder(place.url, flush_interval=60.0, batch=4)
    for _ in range(10):
        recorder.record(call())
    recorder.close(60.0)

    assert place.asked(ROWS) == [(10, 0)]
    assert place.asked(COUNTS) == [(10, 10, 0)]
    assert place.asked("SELECT dropped_events, rows_counted_through FROM instances") == [(0, 10)]


def test_a_commit_that_was_not_seen_is_not_counted_ahead(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A close counts what the database has not counted: the number of the last counted record is in it."""
    recorder = Recorder(place.url, flush_interval=60.0)
    recorder.record(call())
    assert recorder.flush(20)
    write = batches.write

    def write_unseen(*args: Any, **options: Any) -> None:
        write(*args, **options)
        monkeypatch.setattr(batches, "write", write)
        statement = "COMMIT"
        raise sa.exc.OperationalError(statement, {}, ConnectionError("the answer is lost"))

    monkeypatch.setattr(batches, "write", write_unseen)
    recorder.record(call())
    assert not recorder.flush(20)
    recorder.record(call())
    recorder.close(60.0)

    assert place.asked(ROWS) == [(3, 0)]
    assert place.asked(COUNTS) == [(3, 3, 0)]


@pytest.fixture
def locked(tmp_path: Path, migrated_file: Path) -> Iterator[tuple[str, Any]]:
    """An SQLite history whose write lock another connection holds."""
    path = tmp_path / "resilience.db"
    path.write_bytes(migrated_file.read_bytes())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield f"sqlite:///{path}", other


def test_what_a_close_cannot_write_is_reported_with_the_import(
    locked: tuple[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard error has the number, the reason and the command that brings the rows; that command works."""
    url, other = locked
    recorder = Recorder(url, sinks=[JsonLines(tmp_path / "logs")], exit_timeout=0.3)
    for _ in range(5):
        recorder.record(call())
    recorder.close()
    said = capsys.readouterr().err

    assert "dropped 5 records" in said
    assert "database is locked" in said
    assert f"resilience history import {tmp_path}/logs/errors.jsonl {tmp_path}/logs/operations.jsonl" in said
    assert not [thread for thread in threading.enumerate() if thread.name == "resilience-history"]
    other.execute("ROLLBACK")
    assert import_lines(url, [tmp_path / "logs" / "operations.jsonl"]).new == 5


def test_a_loss_without_logs_names_both_settings(
    locked: tuple[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without log lines there is nothing to import: the report names the folder and the time limit."""
    recorder = Recorder(locked[0], exit_timeout=0.1)
    recorder.record(call())
    recorder.close()

    said = capsys.readouterr().err
    assert "RESILIENCE_LOG_DIR" in said
    assert "RESILIENCE_EXIT_TIMEOUT" in said


class Sink:
    """A sink of an application that keeps the names of events, exits, or hangs."""

    def __init__(self, error: BaseException | None = None, hang: threading.Event | None = None) -> None:
        self.events: list[str] = []
        self.error, self.hang = error, hang

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        if self.hang is not None:
            self.hang.wait()
        if self.error is not None:
            raise self.error
        self.events += [line["event"] for _, line in lines]


def test_a_sink_that_exits_harms_nothing(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """SystemExit in a sink ends neither the thread nor the program, reaches no other sink, and is reported once."""
    exits, other = Sink(SystemExit(3)), Sink()
    recorder = Recorder(place.url, sinks=[exits, other])
    for _ in range(2):
        recorder.record(error())
        assert recorder.flush(20)
    recorder.close(20)

    assert place.asked(ROWS) == [(0, 2)]
    assert other.events.count("attempt.failed") == 2
    assert caplog.text.count("Sink failed (SystemExit)") == 1


def test_a_sink_that_hangs_harms_nothing(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A close gives it up, and writes its rows and the lines of others; the thread ends when the sink returns."""
    hang = threading.Event()
    hangs, other = Sink(hang=hang), Sink()
    recorder = Recorder(place.url, sinks=[other, hangs])
    for _ in range(3):
        recorder.record(error())
    recorder.close(20)

    assert place.asked(ROWS) == [(0, 3)]
    assert other.events.count("attempt.failed") == 3
    assert caplog.text.count("Sink has not returned") == 1
    hang.set()
    assert eventually(
        lambda: not [thread for thread in threading.enumerate() if thread.name == "resilience-history"],
        within=20,
    )
    assert hangs.events != []
