"""Recorders and readers around forks, signals and the exit of a process, seen from inside."""

from __future__ import annotations

import asyncio
import errno
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from celery.signals import worker_process_shutdown  # type: ignore[import-untyped]  # ships no types
from support.history_records import error

from resilience import lifecycle
from resilience.history import History, Recorder, install_signal_flush, new_id
from resilience.history.schema import migrations
from resilience.history.schema.sqlite_driver import module as sqlite3

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

fork: Any = multiprocessing.get_context("fork")  # typeshed knows no Process of a context


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/resilience.db"


def messages(url: str) -> list[str]:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    try:
        return [message for (message,) in connection.execute("SELECT message FROM errors ORDER BY message")]
    finally:
        connection.close()


def test_a_child_writes_its_own_and_leaves_the_parents(url: str) -> None:
    """A forked child has an empty queue, an instance of its own, and a thread and a connection of its own."""
    recorder = Recorder(url, flush_interval=60.0)
    recorder.record(error(message="parent, before"))
    recorder.flush(20)
    recorder.record(error(message="parent, waiting"))
    instance = recorder.instance_id

    def child() -> None:
        assert recorder.queue_depth == 0
        assert recorder.instance_id != instance
        recorder.record(error(message="child"))
        assert recorder.flush(20)

    process = fork.Process(target=child)
    process.start()
    process.join(240)
    assert process.exitcode == 0
    recorder.close(20)

    assert messages(url) == ["child", "parent, before", "parent, waiting"]


def test_a_fork_waits_for_the_writer_with_a_limit(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fork does not wait for a hung writer without limit. The child logs that it keeps no history; the parent's goes on."""
    monkeypatch.setattr("resilience.history.writer.recorder._FORK_WAIT", 0.01)
    recorder = Recorder(url)
    recorder.record(error(message="before"))
    recorder.flush(20)

    def child() -> None:
        assert "keeps no history" in caplog.text
        recorder.record(error(message="child"))
        assert recorder.flush(20)

    with recorder._worker.connection_lock:
        process = fork.Process(target=child)
        process.start()
        process.join(240)
        assert recorder._worker.connection_lock.locked()
    recorder.record(error(message="after"))
    recorder.close(20)

    assert process.exitcode == 0
    assert messages(url) == ["after", "before"]


def test_a_fork_leaves_the_child_no_open_database(url: str) -> None:
    """The parent's connection is closed for the fork and opened again after it: SQLite's locks do not survive a fork."""
    recorder = Recorder(url)
    recorder.record(error(message="before"))
    recorder.flush(20)

    def child() -> None:
        assert not [name for name in open_files() if name.startswith(url.removeprefix("sqlite:///"))]

    process = fork.Process(target=child)
    process.start()
    process.join(240)
    recorder.record(error(message="after"))
    recorder.close(20)

    assert process.exitcode == 0
    assert messages(url) == ["after", "before"]


def open_files() -> list[str]:
    folder = Path("/proc/self/fd")
    return [str(link.readlink()) for link in folder.iterdir() if link.is_symlink()]


def test_a_child_can_migrate_and_make_ids(url: str) -> None:
    """A lock that another thread held at the fork does not hang the child."""

    def child() -> None:
        assert new_id()
        migrations.upgrade(url)

    process = fork.Process(target=child)
    with migrations._migrating:
        process.start()
        process.join(240)

    assert process.exitcode == 0
    assert migrations.current(url) == migrations.head()


async def test_a_child_reads_on_connections_of_its_own(url: str) -> None:
    """A reader that was in use before the fork works in the child, where the parent's connections would hang."""
    recorder = Recorder(url)
    recorder.record(error())
    await recorder.aflush(20)
    recorder.close()
    history = History(url)
    assert len(await history.errors()) == 1

    def child() -> None:
        async def read() -> None:
            assert len(await history.errors()) == 1
            await history.aclose()

        asyncio.run(read())

    process = fork.Process(target=child)
    process.start()
    await asyncio.to_thread(process.join, 60)
    assert process.exitcode == 0
    assert len(await history.errors()) == 1
    await history.aclose()


async def test_closing_an_inherited_reader_does_not_affect_the_parent(url: str) -> None:
    """A child that closes the reader it inherited does not affect the parent's."""
    migrations.upgrade(url)
    history = History(url)
    await history.errors()

    process = fork.Process(target=lambda: asyncio.run(history.aclose()))
    process.start()
    await asyncio.to_thread(process.join, 60)
    assert process.exitcode == 0
    assert await history.errors() == []
    await history.aclose()


@pytest.fixture
def handled() -> Iterator[list[int]]:
    """The signals that the program's own handler received. Previous handlers are restored afterwards."""
    got: list[int] = []
    numbers = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGURG)
    before = [signal.getsignal(number) for number in numbers]

    def handle(number: int, _frame: FrameType | None) -> None:
        got.append(number)

    signal.signal(signal.SIGUSR1, handle)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    yield got
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_a_signal_flushes_before_its_previous_handler(url: str, handled: list[int]) -> None:
    """After the flush a handler of the program runs, an ignored signal stays ignored, and a default action happens."""
    recorder = Recorder(url, flush_interval=60.0)
    install_signal_flush(signal.SIGUSR1, signal.SIGUSR2, signal.SIGURG, timeout=20.0)
    for count, number in enumerate((signal.SIGUSR1, signal.SIGUSR2, signal.SIGURG)):
        recorder.record(error(message=str(count)))
        signal.raise_signal(number)
        assert len(messages(url)) == count + 1
    recorder.close()

    assert handled == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGURG) is signal.SIG_DFL


def test_the_end_of_a_process_flushes_every_recorder(url: str, tmp_path: Path) -> None:
    """The exit hook writes what each recorder has queued."""
    recorders = [
        Recorder(url, flush_interval=60.0),
        Recorder(f"sqlite:///{tmp_path}/other.db", flush_interval=60.0),
    ]
    for recorder in recorders:
        recorder.record(error(message="last"))
    lifecycle._finish(lifecycle.Stage.HISTORY, 20.0, ends=False)

    assert messages(url) == messages(f"sqlite:///{tmp_path}/other.db") == ["last"]
    for recorder in recorders:
        recorder.close()


def test_exit_hooks_are_set_once_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both exit hooks are set once in a process however many recorders there are, and again in a child."""
    registered: list[object] = []
    finalized: list[object] = []
    monkeypatch.setattr("atexit.register", registered.append)
    monkeypatch.setattr("atexit.unregister", lambda _: None)
    monkeypatch.setattr(
        "multiprocessing.util.Finalize", lambda _, hook, exitpriority: finalized.append((hook, exitpriority))
    )
    monkeypatch.setattr(lifecycle, "_exit_hook_pid", None)

    lifecycle.ensure_exit_hook()
    lifecycle.ensure_exit_hook()
    assert registered == [lifecycle._at_exit]
    assert finalized == [(lifecycle._at_exit, 100)]

    monkeypatch.setattr("os.getpid", lambda: -1)
    lifecycle.ensure_exit_hook()
    assert len(registered) == len(finalized) == 2


def test_a_program_without_multiprocessing_needs_no_second_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has not loaded multiprocessing is not one of its children, and we do not load it."""
    monkeypatch.setattr("atexit.register", lambda _: None)
    monkeypatch.setattr("atexit.unregister", lambda _: None)
    monkeypatch.delitem(__import__("sys").modules, "multiprocessing.util")
    monkeypatch.setattr(lifecycle, "_exit_hook_pid", None)
    lifecycle.ensure_exit_hook()

    assert lifecycle._exit_hook_pid == os.getpid()
    assert "multiprocessing.util" not in __import__("sys").modules


def test_a_child_makes_ids_of_its_own(tmp_path: Path) -> None:
    """A forked child does not repeat the random part of its parent's ids."""
    new_id()

    def child() -> None:
        (tmp_path / "child").write_text(new_id())

    process = fork.Process(target=child)
    process.start()
    process.join(240)

    assert process.exitcode == 0
    assert (tmp_path / "child").read_text()[16:] != new_id()[16:]


HOLDS = """
import sys
from resilience.history.schema.sqlite_driver import module as sqlite3
connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
try:
    connection.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as exc:
    sys.exit(str(exc))
"""


def test_looking_for_the_file_releases_no_lock(tmp_path: Path) -> None:
    """Making sure that the file exists releases no lock of this process's other connections to it.

    Closing a file releases all locks that the process has on it. In an earlier version another process then took the file for
    unused, and removed the write-ahead log that rows were still being written to.
    """
    path = tmp_path / "h.db"
    migrations.create_file(path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    migrations.create_file(path)
    other = subprocess.run(
        [sys.executable, "-c", HOLDS, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    holder.close()

    assert "database is locked" in other.stderr


def test_a_file_is_created_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is readable by its owner alone, and no other file is left beside it."""

    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refused)
    migrations.create_file(tmp_path / "h.db")

    assert ["h.db"] == [file.name for file in tmp_path.iterdir()]
    assert 0o600 == stat.S_IMODE((tmp_path / "h.db").stat().st_mode)


def test_a_worker_of_celery_ends_as_a_process_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of the prefork pool run neither `atexit` nor finalizers: Celery's signal makes every stage write, in order."""
    finished: list[lifecycle.Stage] = []

    def finish(stage: lifecycle.Stage, *, ends: bool) -> None:
        finished.extend([stage] * ends)

    monkeypatch.setattr(lifecycle, "_finish", finish)
    monkeypatch.setattr(lifecycle, "_exit_hook_pid", None)
    lifecycle.ensure_exit_hook()

    worker_process_shutdown.send(sender="worker", pid=os.getpid(), exitcode=0)
    assert list(lifecycle.Stage) == finished
