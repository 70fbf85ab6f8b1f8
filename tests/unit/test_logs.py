"""`JsonLines`: the three streams of JSON lines."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from resilience.logs import STREAMS, JsonLines


def read(directory: Path, stream: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / f"{stream}.jsonl").read_text().splitlines()]


def test_each_line_goes_to_its_stream_in_order(tmp_path: Path) -> None:
    """The lines of a batch are in the file of their stream, in order."""
    logs = JsonLines(tmp_path / "logs")
    logs.write(
        [("errors", {"n": 1}), ("operations", {"n": 2}), ("errors", {"n": 3}), ("performance", {"n": 4})]
    )
    logs.write([("errors", {"n": 5})])

    assert {stream: read(tmp_path / "logs", stream) for stream in STREAMS} == {
        "operations": [{"n": 2}],
        "performance": [{"n": 4}],
        "errors": [{"n": 1}, {"n": 3}, {"n": 5}],
    }


def test_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    """Folder and files, which hold names and error messages, are closed to other users."""
    JsonLines(tmp_path / "logs").write([("errors", {})])

    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "logs" / "errors.jsonl").stat().st_mode & 0o777 == 0o600


def test_any_value_makes_valid_json(tmp_path: Path) -> None:
    """Line breaks, lone surrogates and foreign types leave one line of valid JSON."""
    JsonLines(tmp_path).write(
        [("errors", {"text": 'a\nb"\u2028\ud800é', "at": datetime(2025, 6, 1, tzinfo=UTC), "set": {1}})]
    )

    (line,) = (tmp_path / "errors.jsonl").read_bytes().split(b"\n")[:-1]
    assert json.loads(line) == {"text": 'a\nb"\u2028\ud800é', "at": "2025-06-01 00:00:00+00:00", "set": "{1}"}


def test_an_unknown_stream_is_an_error(tmp_path: Path) -> None:
    """A stream that does not exist is a KeyError."""
    with pytest.raises(KeyError):
        JsonLines(tmp_path).write([("poetry", {})])


def test_an_empty_batch_creates_no_file(tmp_path: Path) -> None:
    """A stream without lines has no file."""
    JsonLines(tmp_path).write([])

    assert list(tmp_path.iterdir()) == []


def test_a_removed_directory_is_created_again(tmp_path: Path) -> None:
    """The log folder of a running process is removed: the next lines are in a new one."""
    logs = JsonLines(tmp_path / "logs")
    logs.write([("errors", {"n": 1})])
    shutil.rmtree(tmp_path / "logs")
    logs.write([("errors", {"n": 2})])

    assert read(tmp_path / "logs", "errors") == [{"n": 2}]


def test_an_unusable_directory_gives_one_warning_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While a file has the folder's name lines are lost with one warning; later lines are written again."""
    blocked = tmp_path / "logs"
    blocked.write_text("a file")
    logs = JsonLines(blocked)
    for number in range(3):
        logs.write([("errors", {"n": number})])
    blocked.unlink()
    logs.write([("errors", {"n": 3})])

    (warning,) = caplog.records
    assert (warning.levelno, warning.name) == (logging.WARNING, "resilience")
    assert "RESILIENCE_LOG_DIR" in warning.getMessage()
    assert read(blocked, "errors") == [{"n": 3}]

    shutil.rmtree(blocked)
    blocked.write_text("again")
    logs.write([("errors", {})])
    assert len(caplog.records) == 2


def test_a_line_cut_by_a_full_disk_does_not_spoil_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the disk takes half a line the rest is lost with a warning, and the next batch starts on a new line."""
    logs, write = JsonLines(tmp_path), os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, batch: write(file, batch[:5]))
        logs.write([("errors", {"n": 1})])
    logs.write([("errors", {"n": 2}), ("operations", {"n": 3})])
    logs.write([("errors", {"n": 4})])

    assert (tmp_path / "errors.jsonl").read_text() == '{"n":\n{"n":2}\n{"n":4}\n'
    assert (tmp_path / "operations.jsonl").read_text() == '{"n":3}\n'
    assert "the disk is full" in caplog.text


def test_a_stream_that_cannot_be_written_costs_no_line_of_another(tmp_path: Path) -> None:
    """A folder in the place of one file loses the lines of that stream alone."""
    (tmp_path / "performance.jsonl").mkdir()
    logs = JsonLines(tmp_path)
    logs.write([(stream, {"n": 1}) for stream in ("operations", "performance", "errors")])

    assert logs.is_failing
    assert [{"n": 1}] == read(tmp_path, "errors")
    assert [{"n": 1}] == read(tmp_path, "operations")


def _append(directory: Path, writer: int) -> None:
    logs = JsonLines(directory)
    for number in range(50):
        logs.write([("errors", {"writer": writer, "n": number, "text": "x" * 3000})] * 4)


def test_processes_never_mix_their_lines(tmp_path: Path) -> None:
    """Four processes append to one file: no line is lost or torn, and each process's order is kept."""
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_append, args=(tmp_path, writer)) for writer in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)

    lines = read(tmp_path, "errors")
    assert len(lines) == 4 * 50 * 4
    for writer in range(4):
        assert [line["n"] for line in lines if line["writer"] == writer] == sorted(list(range(50)) * 4)
