"""What a killed process leaves in its log folder: the next writer there imports it, once, by a lock."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.history_places import Place, migrated_file, migrated_postgres, place
from support.history_records import call, error, eventually

from resilience import damage_counts
from resilience.history import Recorder
from resilience.history.log_import import import_lines
from resilience.history.schema.sqlite_driver import module as sqlite3
from resilience.history.store import batches
from resilience.history.writer import log_presence, log_recovery
from resilience.logs import JsonLines

__all__ = ["migrated_file", "migrated_postgres", "place"]

COUNTS = "SELECT sum(calls), sum(attempts), sum(errors) FROM rollups"
ROWS = "SELECT (SELECT count(*) FROM calls), (SELECT count(*) FROM errors)"


def forked(work: Callable[[], object]) -> int:
    """Run *work* in a child, and return how the child ended."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(9)
    return os.waitpid(pid, 0)[1]


def killed_with_lines(url: str, logs: Path) -> None:
    """Let a process write the lines of three calls and two errors, and kill it before their rows are written."""

    def work() -> None:
        recorder = Recorder(url, sinks=[JsonLines(logs)], flush_interval=0.01)
        batches.write = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        for record in (call(), call(), call(), error(), error()):
            recorder.record(record)
        recorder.flush(60)

    assert forked(work) == signal.SIGKILL


def writers(logs: Path) -> list[str]:
    """Return the names of the files of writers in a log folder."""
    return sorted(path.name for path in (logs / ".writers").iterdir())


def written_by_the_next(url: str, logs: Path, until: Callable[[], bool]) -> None:
    """Open a writer on the folder, let it write one call, and close it when *until* holds."""
    recorder = Recorder(url, sinks=[JsonLines(logs)], flush_interval=0.01)
    recorder.record(call())
    assert eventually(until, within=60)
    recorder.close(60)


def test_the_next_writer_imports_what_a_killed_one_left(place: Place, tmp_path: Path) -> None:
    """Every row is there and counted once, a torn line is counted as unread, and a third process finds nothing left to import."""
    logs = tmp_path / "logs"
    killed_with_lines(place.url, logs)
    assert place.asked(ROWS) == [(0, 0)]
    (left,) = writers(logs)
    with (logs / "errors.jsonl").open("a") as file:
        file.write(f'{{"instance_id":"{left}","event":"attempt.failed","torn')
    unread = damage_counts.counts[damage_counts.LOG_LINE]

    written_by_the_next(place.url, logs, lambda: left not in writers(logs))
    assert damage_counts.counts[damage_counts.LOG_LINE] == unread + 1
    assert place.asked(ROWS) == [(4, 2)]
    assert place.asked(COUNTS) == [(4, 6, 2)]
    assert writers(logs) == []

    written_by_the_next(place.url, logs, lambda: place.asked(ROWS) == [(5, 2)])
    assert place.asked(COUNTS) == [(5, 7, 2)]


def test_lines_of_a_living_process_are_left_alone(place: Place, tmp_path: Path) -> None:
    """The lock of its file says that it lives, also in a child that it has forked."""
    logs = tmp_path / "logs"
    living = Recorder(place.url, sinks=[JsonLines(logs)], flush_interval=0.01)
    living.record(call())
    assert living.flush(20)
    (file,) = writers(logs)
    descriptor = os.open(logs / ".writers" / file, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    living.close(20)

    assert writers(logs) == []
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_what_a_close_could_not_write_is_imported_too(tmp_path: Path, migrated_file: Path) -> None:
    """A process that had no time leaves its file, and the next writer brings its rows."""
    path, logs = tmp_path / "resilience.db", tmp_path / "logs"
    path.write_bytes(migrated_file.read_bytes())
    url = f"sqlite:///{path}"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        recorder = Recorder(url, sinks=[JsonLines(logs)], exit_timeout=0.1)
        recorder.record(error())
        recorder.close()
        other.execute("ROLLBACK")
    (left,) = writers(logs)

    written_by_the_next(url, logs, lambda: left not in writers(logs))
    assert Place(url).asked(ROWS) == [(1, 1)]


def test_an_import_that_was_cut_short_counts_once(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed while it imports leaves the file, and the next one repeats the import."""
    logs = tmp_path / "logs"
    killed_with_lines(place.url, logs)
    (left,) = writers(logs)

    def cut_short() -> None:
        unlink = Path.unlink

        def killed(path: Path, *, missing_ok: bool = False) -> None:
            if path.name == left:
                os.kill(os.getpid(), signal.SIGKILL)
            unlink(path, missing_ok=missing_ok)

        monkeypatch.setattr(Path, "unlink", killed)
        written_by_the_next(place.url, logs, lambda: False)

    assert forked(cut_short) == signal.SIGKILL
    assert left in writers(logs)
    assert place.asked(COUNTS) == [(4, 6, 2)]

    written_by_the_next(place.url, logs, lambda: left not in writers(logs))
    assert place.asked(ROWS) == [(5, 2)]
    assert place.asked(COUNTS) == [(5, 7, 2)]


def test_what_an_earlier_file_counted_is_counted_in_the_new_one(tmp_path: Path, migrated_file: Path) -> None:
    """Of a killed process whose history file was replaced, the new file gets every row from the log, and counts each once."""
    path, logs = tmp_path / "resilience.db", tmp_path / "logs"
    path.write_bytes(migrated_file.read_bytes())
    url = f"sqlite:///{path}"
    earlier, later = (call(), call(), error()), (call(), error())

    def work() -> None:
        recorder = Recorder(url, sinks=[JsonLines(logs)], flush_interval=0.01)
        for records in (earlier, later):
            for record in records:
                recorder.record(record)
            assert recorder.flush(60)
            if records is earlier:
                moved = tmp_path / "moved"
                moved.mkdir()
                for file in tmp_path.glob("resilience.db*"):
                    file.rename(moved / file.name)
        os.kill(os.getpid(), signal.SIGKILL)

    assert forked(work) == signal.SIGKILL
    new = Place(url)
    assert new.asked(ROWS) == [(1, 1)]
    assert new.asked("SELECT rows_counted_from, rows_counted_through FROM instances") == [(3, 5)]

    (left,) = writers(logs)
    written_by_the_next(url, logs, lambda: left not in writers(logs))
    assert new.asked(ROWS) == [(4, 2)]
    assert new.asked(COUNTS) == [(4, 6, 2)]
    import_lines(url, sorted(logs.glob("*.jsonl")))
    assert new.asked(COUNTS) == [(4, 6, 2)]


def test_a_file_that_is_put_back_counts_nothing_twice(tmp_path: Path, migrated_file: Path) -> None:
    """A history that was away for a while gets every row from the log. What was counted elsewhere meanwhile stays counted there alone."""
    path, logs = tmp_path / "resilience.db", tmp_path / "logs"
    path.write_bytes(migrated_file.read_bytes())
    first, second = tmp_path / "first", tmp_path / "second"

    def move(origin: Path, target: Path) -> None:
        target.mkdir(exist_ok=True)
        for file in origin.glob("resilience.db*"):
            file.rename(target / file.name)

    def work() -> None:
        recorder = Recorder(f"sqlite:///{path}", sinks=[JsonLines(logs)], flush_interval=0.01)
        for records in ((call(), call(), error()), (call(), error()), (call(),)):
            for record in records:
                recorder.record(record)
            assert recorder.flush(60)
            if not first.exists():
                move(tmp_path, first)
            elif not second.exists():
                move(tmp_path, second)
                move(first, tmp_path)
        os.kill(os.getpid(), signal.SIGKILL)

    assert forked(work) == signal.SIGKILL
    back, meanwhile = Place(f"sqlite:///{path}"), Place(f"sqlite:///{second}/resilience.db")
    assert [back.asked(ROWS), meanwhile.asked(ROWS)] == [[(3, 1)], [(1, 1)]]
    assert [back.asked(COUNTS), meanwhile.asked(COUNTS)] == [[(3, 4, 1)], [(1, 2, 1)]]

    import_lines(back.url, sorted(logs.glob("*.jsonl")))
    import_lines(back.url, sorted(logs.glob("*.jsonl")))
    assert back.asked(ROWS) == [(4, 2)]
    assert back.asked(COUNTS) == [(3, 4, 1)]


def test_another_history_is_left_alone(place: Place, tmp_path: Path) -> None:
    """Processes with different databases may share a log folder: each imports only for its own."""
    logs = tmp_path / "logs"
    killed_with_lines(place.url, logs)
    (left,) = writers(logs)
    looked: list[str] = []
    other = f"sqlite:///{tmp_path}/other.db"
    with pytest.MonkeyPatch.context() as patch:
        claimed = log_presence.claimed

        def look(path: Path, database: str) -> object:
            looked.append(path.name)
            return claimed(path, database)

        patch.setattr(log_recovery, "claimed", look)
        written_by_the_next(other, logs, lambda: left in looked)

    assert left in writers(logs)
    assert Place(other).asked(ROWS) == [(1, 0)]


def test_a_record_after_the_close_is_left_to_the_next_writer(place: Place, tmp_path: Path) -> None:
    """A thread that goes on calling while the process ends loses nothing that its log can keep."""
    logs = tmp_path / "logs"
    recorder = Recorder(place.url, sinks=[JsonLines(logs)], flush_interval=0.01)
    recorder.record(call())
    recorder.close(60)
    assert writers(logs) == []
    for _ in range(2):
        recorder.record(error())
    (left,) = writers(logs)
    assert recorder.dropped == 2

    written_by_the_next(place.url, logs, lambda: left not in writers(logs))
    assert place.asked(ROWS) == [(2, 2)]
    assert place.asked(COUNTS) == [(2, 4, 2)]
