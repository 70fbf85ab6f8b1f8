"""Rotation of real files by real processes: no line lost, torn or doubled."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilience.logs import JsonLines, LogPolicy

SMALL = LogPolicy(max_bytes=60_000, backups=10_000)


def files(directory: Path, stream: str = "errors") -> list[Path]:
    """Return the files of a stream, oldest first. A plain file counts instead of its `.gz`."""
    older = {
        path
        for path in directory.glob(f"{stream}.jsonl.*")
        if path.suffix != ".gz" or not path.with_suffix("").exists()
    }
    ordered = sorted(older, key=lambda path: int(path.name.split(".")[2]), reverse=True)
    return [*ordered, directory / f"{stream}.jsonl"]


def read(directory: Path, stream: str = "errors") -> list[dict[str, Any]]:
    """Return every line of the stream, oldest first."""
    lines: list[dict[str, Any]] = []
    for path in files(directory, stream):
        if path.exists():
            text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            lines += [json.loads(line) for line in text.splitlines()]
    return lines


def _write(directory: Path, writer: int, batches: int, policy: LogPolicy, pause: float = 0.0) -> None:
    logs = JsonLines(directory, policy)
    for number in range(batches):
        lines = [("errors", {"writer": writer, "n": number * 5 + at, "text": "x" * 250}) for at in range(5)]
        logs.write(lines)
        time.sleep(pause)


def test_eight_processes_rotate_without_losing_or_tearing_a_line(tmp_path: Path) -> None:
    """Eight processes write, rotate and compress one stream: each line is there once and whole."""
    spawn = multiprocessing.get_context("fork")
    writers = [spawn.Process(target=_write, args=(tmp_path, number, 250, SMALL)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(300)

    assert [0] * 8 == [writer.exitcode for writer in writers]
    lines = read(tmp_path)
    assert {(writer, n): 1 for writer in range(8) for n in range(1250)} == Counter(
        (line["writer"], line["n"]) for line in lines
    )
    assert len(files(tmp_path)) > 20
    assert any(path.suffix == ".gz" for path in files(tmp_path))


def test_processes_killed_while_they_rotate_and_compress_leave_every_line_once(tmp_path: Path) -> None:
    """Processes killed at random times leave no line twice, and lose none that they had written."""
    fork = multiprocessing.get_context("fork")
    policy = LogPolicy(max_bytes=4_000, backups=10_000)
    for round_ in range(12):
        writers = [
            fork.Process(target=_write, args=(tmp_path, round_ * 4 + number, 10_000, policy))
            for number in range(4)
        ]
        for writer in writers:
            writer.start()
        time.sleep(0.05 + 0.013 * round_)
        for writer in writers:
            os.kill(writer.pid or 0, signal.SIGKILL)
            writer.join(240)
    _write(tmp_path, 99, 20, policy)

    found = Counter((line["writer"], line["n"]) for line in whole(tmp_path))
    assert {1} == set(found.values())
    for writer in {writer for writer, _ in found}:
        numbers = [n for of, n in found if of == writer]
        assert sorted(numbers) == list(range(len(numbers)))


def _die_at(step: int) -> None:
    """Kill this process at its next rename or removal after *step* others."""
    left = [step]

    def fatal(move: Callable[..., Any]) -> Callable[..., Any]:
        def moved(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return move(*args, **kwargs)

        return moved

    for name in ("rename", "unlink"):
        setattr(Path, name, fatal(getattr(Path, name)))


def _write_and_die(directory: Path, step: int) -> None:
    logs = JsonLines(directory, LogPolicy(max_bytes=100, backups=100))
    _die_at(step)
    for number in range(20, 30):
        logs.write([("errors", {"writer": 1, "n": number, "text": "x" * 66})])


@pytest.mark.parametrize("step", range(12))
def test_killed_at_each_step_of_rotation_and_compression_nothing_is_lost_or_doubled(
    tmp_path: Path, step: int
) -> None:
    """After a kill between any two renames or removals each line is there once, also after the next rotation."""
    logs = JsonLines(tmp_path, LogPolicy(max_bytes=100, backups=100, compress=False))
    for number in range(4):
        logs.write([("errors", {"writer": 0, "n": number, "text": "x" * 66})])
    child = multiprocessing.get_context("fork").Process(target=_write_and_die, args=(tmp_path, step))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL

    left = [(line["writer"], line["n"]) for line in read(tmp_path)]
    assert left[:4] == [(0, number) for number in range(4)]
    assert left[4:] == [(1, number) for number in range(20, 20 + len(left) - 4)]
    again = JsonLines(tmp_path, LogPolicy(max_bytes=100, backups=100))
    for number in range(12):
        again.write([("errors", {"writer": 2, "n": number, "text": "x" * 66})])

    assert [*left, *((2, number) for number in range(12))] == [
        (line["writer"], line["n"]) for line in read(tmp_path)
    ]
    assert not [path for path in tmp_path.glob("*.gz") if path.with_suffix("").exists()]


def whole(directory: Path) -> list[dict[str, Any]]:
    """Return every line, except one that a kill during a write may have cut."""
    lines = []
    for path in files(directory):
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for line in text.splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                assert not line.endswith(b"}")
    return lines
