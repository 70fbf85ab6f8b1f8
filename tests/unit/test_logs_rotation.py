"""When log files are rotated, kept and compressed; one process, with every step under control."""

from __future__ import annotations

import fcntl
import gzip
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from resilience.config import settings
from resilience.errors import ConfigurationError
from resilience.logs import JsonLines, LogPolicy, compression
from resilience.logs.rotated_files import LOCK, RotatedFiles
from resilience.logs.stream import LogStream
from resilience.testing import ManualClock

DAY = 86_400.0


def write(logs: JsonLines, count: int, first: int = 10, stream: str = "errors") -> None:
    """Write numbered lines of 100 bytes, one batch each."""
    for number in range(first, first + count):
        logs.write([(stream, {"n": number, "text": "x" * 79})])


def numbers(path: Path) -> list[int]:
    text = path.read_bytes()
    lines = (gzip.decompress(text) if path.suffix == ".gz" else text).splitlines()
    return [json.loads(line)["n"] for line in lines]


def tree(directory: Path) -> dict[str, list[int]]:
    """Return the line numbers in each file of the folder."""
    return {path.name: numbers(path) for path in sorted(directory.iterdir()) if not path.name.startswith(".")}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_bytes", 0),
        ("max_bytes", 1.5),
        ("backups", 0),
        ("total_bytes", 19_999_999),
        ("rotate", "hour"),
        ("compress", 1),
        ("bridge", "yes"),
    ],
)
def test_an_invalid_policy_is_refused(field: str, value: Any) -> None:
    """The error names the field and its value."""
    with pytest.raises(ValueError, match=rf"LogPolicy\.{field}={value!r}"):
        LogPolicy(**{field: value})


def test_the_environment_sets_the_policy() -> None:
    """Each field has a variable, and an error names the variable."""
    given = {"RESILIENCE_LOG__ROTATE": "day", "RESILIENCE_LOG__BACKUPS": "3", "RESILIENCE_LOG__BRIDGE": "1"}

    assert LogPolicy(rotate="day", backups=3, bridge=True) == settings.log_policy(given)
    with pytest.raises(ConfigurationError, match="RESILIENCE_LOG__ROTATE"):
        settings.log_policy({"RESILIENCE_LOG__ROTATE": "hourly"})


def test_a_file_is_rotated_before_it_grows_too_large(tmp_path: Path) -> None:
    """No file exceeds `max_bytes`; rotated files move up by one; all but the latest are compressed."""
    write(JsonLines(tmp_path, LogPolicy(max_bytes=300)), 11)

    assert {
        "errors.jsonl": [19, 20],
        "errors.jsonl.1": [16, 17, 18],
        "errors.jsonl.2.gz": [13, 14, 15],
        "errors.jsonl.3.gz": [10, 11, 12],
    } == tree(tmp_path)
    assert {0o600} == {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}


def test_a_batch_larger_than_a_file_is_a_file(tmp_path: Path) -> None:
    """The lines of one batch stay together, even if the batch alone exceeds `max_bytes`."""
    logs = JsonLines(tmp_path, LogPolicy(max_bytes=150))
    logs.write([("errors", {"n": 1}), ("errors", {"n": 2, "text": "x" * 300})])
    logs.write([("errors", {"n": 3})])

    assert {"errors.jsonl": [3], "errors.jsonl.1": [1, 2]} == tree(tmp_path)


def test_only_backups_files_are_kept(tmp_path: Path) -> None:
    """Beyond `backups` rotated files the oldest is removed."""
    write(JsonLines(tmp_path, LogPolicy(max_bytes=100, backups=2, compress=False)), 5)

    assert {"errors.jsonl": [14], "errors.jsonl.1": [13], "errors.jsonl.2": [12]} == tree(tmp_path)


def test_a_lower_limit_holds_from_the_next_rotation_on(tmp_path: Path) -> None:
    """With a lower `backups` all surplus files are removed, compressed or not."""
    write(JsonLines(tmp_path, LogPolicy(max_bytes=100)), 6)
    write(JsonLines(tmp_path, LogPolicy(max_bytes=100, backups=1)), 1, first=16)

    assert {"errors.jsonl": [16], "errors.jsonl.1": [15]} == tree(tmp_path)


def test_the_folder_has_a_size_limit(tmp_path: Path) -> None:
    """The oldest rotated file of any stream is removed first; other files are neither counted nor touched."""
    other = tmp_path / "access.jsonl.1"
    other.write_bytes(b'{"n": 0}\n' * 1000)
    policy = LogPolicy(max_bytes=100, total_bytes=400, compress=False)
    logs = JsonLines(tmp_path, policy)
    write(logs, 2, first=10, stream="operations")
    write(logs, 2, first=20, stream="performance")
    for age, name in enumerate(("performance.jsonl.1", "operations.jsonl.1")):
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    write(logs, 2, first=30)
    assert other.exists()
    other.unlink()

    assert {
        "errors.jsonl": [31],
        "errors.jsonl.1": [30],
        "operations.jsonl": [11],
        "operations.jsonl.1": [10],
        "performance.jsonl": [21],
    } == tree(tmp_path)


def test_a_new_day_starts_a_new_file(tmp_path: Path) -> None:
    """The first line after midnight UTC starts a new file; between midnights the size counts."""
    clock = ManualClock(epoch=20 * DAY)
    logs = JsonLines(tmp_path, LogPolicy(rotate="day", max_bytes=250, compress=False), clock=clock)
    write(logs, 1, first=10)
    clock.advance(DAY - 1)
    write(logs, 1, first=20)
    clock.advance(1)
    write(logs, 2, first=30)
    clock.advance(10)
    write(logs, 1, first=40)

    assert {
        "errors.jsonl": [40],
        "errors.jsonl.1": [30, 31],
        "errors.jsonl.2": [10, 20],
    } == tree(tmp_path)


def test_a_process_that_starts_on_another_day_starts_a_new_file(tmp_path: Path) -> None:
    """The day of a file that another process wrote is the day of its modification time."""
    policy = LogPolicy(rotate="day", compress=False)
    write(JsonLines(tmp_path, policy, clock=ManualClock(epoch=20 * DAY)), 1, first=10)
    os.utime(tmp_path / "errors.jsonl", (20 * DAY + 5, 20 * DAY + 5))
    write(JsonLines(tmp_path, policy, clock=ManualClock(epoch=20 * DAY + 50)), 1, first=11)
    os.utime(tmp_path / "errors.jsonl", (20 * DAY + 51, 20 * DAY + 51))
    write(JsonLines(tmp_path, policy, clock=ManualClock(epoch=21 * DAY)), 1, first=12)

    assert {"errors.jsonl": [12], "errors.jsonl.1": [10, 11]} == tree(tmp_path)


def test_a_gap_is_filled_and_nothing_moves_beyond_it(tmp_path: Path) -> None:
    """A killed rotation leaves a number free; the next rotation fills it and moves nothing beyond."""
    policy = LogPolicy(max_bytes=100, compress=False)
    write(JsonLines(tmp_path, policy), 4)
    (tmp_path / "errors.jsonl.2").rename(tmp_path / "errors.jsonl.4")
    write(JsonLines(tmp_path, policy), 1, first=14)

    assert {
        "errors.jsonl": [14],
        "errors.jsonl.1": [13],
        "errors.jsonl.2": [12],
        "errors.jsonl.3": [10],
        "errors.jsonl.4": [11],
    } == tree(tmp_path)


def test_a_plain_file_wins_over_its_gz(tmp_path: Path) -> None:
    """A compression killed between its last two steps leaves both files; the next rotation removes the `.gz`."""
    write(JsonLines(tmp_path, LogPolicy(max_bytes=100, compress=False)), 3)
    (tmp_path / "errors.jsonl.2.gz").write_bytes(gzip.compress((tmp_path / "errors.jsonl.2").read_bytes()))
    write(JsonLines(tmp_path, LogPolicy(max_bytes=100, compress=False)), 1, first=13)

    assert {
        "errors.jsonl": [13],
        "errors.jsonl.1": [12],
        "errors.jsonl.2": [11],
        "errors.jsonl.3": [10],
    } == tree(tmp_path)


def test_compression_goes_slice_by_slice_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file takes several batches; rotated meanwhile by others, its `.gz` gets the present number."""
    monkeypatch.setattr(compression, "SLICE", 64)
    logs = JsonLines(tmp_path, LogPolicy(max_bytes=300))
    write(logs, 7)
    before = (tmp_path / "errors.jsonl.2").read_bytes()
    assert numbers(tmp_path / "errors.jsonl.2") == [10, 11, 12]
    write(JsonLines(tmp_path, LogPolicy(max_bytes=300, compress=False)), 3, first=17)
    for _ in range(30):
        logs.write([("errors", {"n": 20})])

    assert before == gzip.decompress((tmp_path / "errors.jsonl.4.gz").read_bytes())
    assert not (tmp_path / "errors.jsonl.4").exists()
    assert not list(tmp_path.glob(".*.part"))


def test_a_file_removed_during_its_compression_stays_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The `.gz` of a removed file does not appear, and no `.part` file is left."""
    monkeypatch.setattr(compression, "SLICE", 64)
    logs = JsonLines(tmp_path, LogPolicy(max_bytes=300))
    write(logs, 7)
    (tmp_path / "errors.jsonl.2").unlink()
    for _ in range(15):
        logs.write([("errors", {"n": 20})])

    assert not list(tmp_path.glob("errors.jsonl.2*"))
    assert not list(tmp_path.glob(".*.part"))


def test_an_orphaned_part_file_is_removed_with_its_source(tmp_path: Path) -> None:
    """The `.part` file that a killed compression left is removed together with its source."""
    write(JsonLines(tmp_path, LogPolicy(max_bytes=100, compress=False)), 3)
    inode = (tmp_path / "errors.jsonl.2").stat().st_ino
    partial = RotatedFiles(tmp_path, "errors", LogPolicy()).partial_path(inode)
    partial.write_bytes(b"half")
    write(JsonLines(tmp_path, LogPolicy(max_bytes=100, backups=2, compress=False)), 1, first=13)

    assert not partial.exists()


def test_a_file_with_a_late_writer_is_not_compressed_yet(tmp_path: Path) -> None:
    """A late writer holds its file's lock while it writes: the compression waits, and has its line."""
    write(JsonLines(tmp_path, LogPolicy(max_bytes=100, compress=False)), 3)
    late_writer = os.open(tmp_path / "errors.jsonl.2", os.O_WRONLY | os.O_APPEND)
    try:
        fcntl.flock(late_writer, fcntl.LOCK_SH)
        logs = JsonLines(tmp_path)
        write(logs, 3, first=13)
        assert numbers(tmp_path / "errors.jsonl.2") == [10]
        os.write(late_writer, b'{"n": 99}\n')
    finally:
        os.close(late_writer)
    again = JsonLines(tmp_path)
    for _ in range(3):
        again.write([("errors", {"n": 20})])

    assert numbers(tmp_path / "errors.jsonl.2.gz") == [10, 99]


class Late(LogStream):
    """A stream that opened the live file before its rotation."""

    def __init__(self, directory: Path, name: str) -> None:
        super().__init__(directory, "errors", LogPolicy(compress=False), ManualClock())
        self.late = [os.open(directory / name, os.O_RDWR | os.O_APPEND)]

    def _open(self) -> int:
        return self.late.pop() if self.late else super()._open()


@pytest.mark.parametrize("removed", [False, True])
def test_a_late_writer_whose_file_is_compressed_writes_to_the_live_one(
    tmp_path: Path, *, removed: bool
) -> None:
    """The file of a late writer was compressed or removed since: its line goes to the live file."""
    write(JsonLines(tmp_path, LogPolicy(max_bytes=100, compress=False)), 3)
    late = Late(tmp_path, "errors.jsonl.2")
    claimed = os.open(tmp_path / "errors.jsonl.2", os.O_RDONLY)
    try:
        if removed:
            (tmp_path / "errors.jsonl.2").unlink()
        else:
            fcntl.flock(claimed, fcntl.LOCK_EX)
        late.append(b'{"n": 99}\n')
    finally:
        os.close(claimed)

    assert numbers(tmp_path / "errors.jsonl") == [12, 99]


def test_a_late_writer_in_a_plain_file_loses_nothing(tmp_path: Path) -> None:
    """A rotated file that is still plain takes the line of a late writer."""
    write(JsonLines(tmp_path, LogPolicy(max_bytes=100, compress=False)), 2)
    Late(tmp_path, "errors.jsonl.1").append(b'{"n": 99}\n')

    assert numbers(tmp_path / "errors.jsonl.1") == [10, 99]


def test_no_process_waits_for_a_rotation(tmp_path: Path) -> None:
    """While the lock is taken a line is written at once, into a file that exceeds its limit."""
    logs = JsonLines(tmp_path, LogPolicy(max_bytes=100))
    write(logs, 1)
    with RotatedFiles(tmp_path, "errors", LogPolicy()).lock() as locked:
        assert locked
        write(logs, 1, first=11)
    write(logs, 1, first=12)

    assert {"errors.jsonl": [12], "errors.jsonl.1": [10, 11]} == tree(tmp_path)


def test_a_foreign_lock_on_the_file_does_not_stop_the_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that another program holds on the live file is waited for a limited time."""
    monkeypatch.setattr("resilience.logs.stream._LOCK_ATTEMPTS", 3)
    logs = JsonLines(tmp_path)
    write(logs, 1)
    foreign = os.open(tmp_path / "errors.jsonl", os.O_RDONLY)
    try:
        fcntl.flock(foreign, fcntl.LOCK_EX)
        write(logs, 1, first=11)
    finally:
        os.close(foreign)

    assert numbers(tmp_path / "errors.jsonl") == [10, 11]


def test_a_removed_folder_costs_no_new_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is removed during a compression: the next lines are written to a new one."""
    monkeypatch.setattr(compression, "SLICE", 64)
    folder = tmp_path / "logs"
    logs = JsonLines(folder, LogPolicy(max_bytes=300))
    write(logs, 7)
    shutil.rmtree(folder)
    write(logs, 12, first=20)

    held = [number for found in tree(folder).values() for number in found]
    assert sorted(held) == list(range(20, 32))


def test_a_file_that_cannot_be_rotated_grows_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the lock file cannot be opened lines are written all the same, and a later rotation succeeds."""
    (tmp_path / LOCK).mkdir()
    logs = JsonLines(tmp_path, LogPolicy(max_bytes=100))
    write(logs, 3)
    (tmp_path / LOCK).rmdir()
    write(logs, 1, first=13)

    assert {"errors.jsonl": [13], "errors.jsonl.1": [10, 11, 12]} == tree(tmp_path)
    (warning,) = caplog.records
    assert (warning.levelno, warning.name) == (logging.WARNING, "resilience")
    assert "cannot be rotated" in warning.getMessage()


def test_a_full_disk_ends_compression_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that cannot be compressed stays plain, with one warning, until a later rotation finds space."""
    full = OSError(28, "No space left on device")

    def refuse(file: int, content: bytes) -> None:
        raise full

    logs = JsonLines(tmp_path, LogPolicy(max_bytes=100))
    with monkeypatch.context() as disk:
        disk.setattr(compression, "_write_all", refuse)
        write(logs, 4)
        assert {"errors.jsonl.1", "errors.jsonl.2", "errors.jsonl.3"} <= set(tree(tmp_path))
    write(logs, 3, first=14)

    assert ["No space left" in entry.getMessage() for entry in caplog.records] == [True]
    assert {f"errors.jsonl.{number}.gz" for number in (4, 5, 6)} <= set(tree(tmp_path))
    assert sorted(number for found in tree(tmp_path).values() for number in found) == list(range(10, 17))


def test_a_line_cut_by_a_kill_does_not_spoil_the_next(tmp_path: Path) -> None:
    """The next writer ends a torn line, also one of another process."""
    (tmp_path / "errors.jsonl").write_bytes(b'{"n":1}\n{"n":')
    JsonLines(tmp_path).write([("errors", {"n": 2})])

    assert (tmp_path / "errors.jsonl").read_bytes() == b'{"n":1}\n{"n":\n{"n":2}\n'


def test_a_torn_line_in_a_rotated_file_is_left_alone(tmp_path: Path) -> None:
    """Ending a torn line needs the exclusive lock; if a rotated file does not give it, the live file is written."""
    write(JsonLines(tmp_path, LogPolicy(max_bytes=100, compress=False)), 3)
    torn = tmp_path / "errors.jsonl.2"
    torn.write_bytes(b'{"n":')
    late = Late(tmp_path, torn.name)
    other = os.open(torn, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_SH)
        late.append(b'{"n": 99}\n')
    finally:
        os.close(other)

    assert (torn.read_bytes(), numbers(tmp_path / "errors.jsonl")) == (b'{"n":', [12, 99])


def test_a_forked_child_leaves_the_compression_to_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child writes its own lines; the parent finishes the compression that it started."""
    monkeypatch.setattr(compression, "SLICE", 64)
    logs = JsonLines(tmp_path, LogPolicy(max_bytes=300))
    write(logs, 7)
    child = os.fork()
    if child == 0:
        try:
            logs.write([("errors", {"n": 50})])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    for number in range(60, 70):
        logs.write([("errors", {"n": number})])

    assert numbers(tmp_path / "errors.jsonl.2.gz") == [10, 11, 12]
    assert 50 in numbers(tmp_path / "errors.jsonl")


def test_after_a_fork_inherited_descriptors_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked process closes the inherited descriptors, and may start a compression itself."""
    monkeypatch.setattr(compression, "SLICE", 64)
    logs = JsonLines(tmp_path, LogPolicy(max_bytes=300))
    write(logs, 7)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    for number in range(20, 35):
        logs.write([("errors", {"n": number})])

    assert numbers(tmp_path / "errors.jsonl.2.gz") == [10, 11, 12]
    assert not list(tmp_path.glob(".*.part"))


def test_a_finished_gz_waits_for_the_lock(tmp_path: Path) -> None:
    """While another process holds the lock the `.gz` stays hidden; afterwards it replaces its source."""
    write(JsonLines(tmp_path, LogPolicy(max_bytes=100, compress=False)), 3)
    logs = JsonLines(tmp_path)
    with RotatedFiles(tmp_path, "errors", LogPolicy()).lock():
        write(logs, 2, first=13)
        assert (tmp_path / "errors.jsonl.2").exists()
    write(logs, 1, first=15)

    assert numbers(tmp_path / "errors.jsonl.2.gz") == [10]
    assert not (tmp_path / "errors.jsonl.2").exists()


def test_a_file_is_not_compressed_twice(tmp_path: Path) -> None:
    """A file opened before and locked after another process compressed it has no name any more and is left."""
    rotated = tmp_path / "errors.jsonl.2"
    rotated.write_bytes(b'{"n": 1}\n')
    opened = os.open(rotated, os.O_RDONLY)
    rotated.unlink()

    assert compression.Compressor(RotatedFiles(tmp_path, "errors", LogPolicy()))._claim(opened) is None
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(opened)


def test_a_file_system_without_locks_still_gets_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without locks nothing is rotated or compressed, with one warning; every line is written."""

    def no_locks(file: int, kind: int) -> None:
        raise OSError(37, "No locks available")

    logs = JsonLines(tmp_path, LogPolicy(max_bytes=100))
    with monkeypatch.context() as mounted:
        mounted.setattr(fcntl, "flock", no_locks)
        write(logs, 3)

    assert {"errors.jsonl": [10, 11, 12]} == tree(tmp_path)
    assert ["No locks available" in entry.getMessage() for entry in caplog.records] == [True]
