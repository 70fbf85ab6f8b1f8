"""Nothing recorded is lost when a process exits or forks, in whatever exit_name; a killed process loses no log line."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from support.history_exits import EXITS, RECORDS
from support.history_records import error, eventually
from support.postgres import asked as on_server

from resilience.history import Recorder
from resilience.history.log_import import import_lines
from resilience.history.schema import migrations
from resilience.logs import JsonLines

PROGRAM = Path(__file__).parents[1] / "support" / "history_exits.py"

INTERRUPTED = 1
"""Exit code after an uncaught KeyboardInterrupt; elsewhere it is `-SIGINT`.

CPython forgets that a signal ended the program if code is compiled during the exit, as SQLAlchemy does at first statements.
"""
EXPECTED: dict[str, tuple[int, int]] = {
    "normal": (0, 1),
    "system_exit": (3, 1),
    "uncaught": (1, 1),
    "event_loop": (0, 1),
    "interrupted": (INTERRUPTED, 1),
    "terminated_handled": (0, 1),
    "terminated_installed": (-signal.SIGTERM, 1),
    "terminated_chained": (7, 1),
    "terminated_ignored": (5, 1),
    "process_forked": (0, 1),
    "process_spawned": (0, 1),
    "pool": (0, 1),
    "pool_recycled": (0, 3),
    "forked_child": (0, 1),
    "preloaded": (0, 3),
    "preloaded_pool": (0, 2),
    "many_forks": (0, 16),
}
"""For each exit its code, and how many recorders have written fifty records each."""
HARD = {"killed": -signal.SIGKILL, "left_at_once": 0, "pool_terminated": 0}
"""The exits that run no hook of Python, with their codes."""


def run_to_exit(exit_name: str, tmp_path: Path, url: str = "") -> subprocess.CompletedProcess[str]:
    """Run the program until it exits in the given exit_name."""
    url = url or f"sqlite:///{tmp_path}/resilience.db"
    return subprocess.run(
        [sys.executable, str(PROGRAM), exit_name, url, str(tmp_path / "logs")],
        check=False,
        timeout=250,
        capture_output=True,
        text=True,
        env=os.environ
        | {"PYTHONWARNINGS": "ignore::DeprecationWarning", "PYTHONPATH": str(PROGRAM.parents[1])},
    )


def query_rows(tmp_path: Path, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(tmp_path / "resilience.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_every_exit_is_expected() -> None:
    """Every exit of the program is tested."""
    assert set(EXPECTED) | set(HARD) == set(EXITS)


@pytest.mark.parametrize("exit_name", EXPECTED)
def test_nothing_is_lost(exit_name: str, tmp_path: Path) -> None:
    """When the last process is gone, all records of all processes are in the database, and as many lines in the log."""
    result = run_to_exit(exit_name, tmp_path)
    code, recorders = EXPECTED[exit_name]

    assert result.returncode in ({code, -signal.SIGINT} if exit_name == "interrupted" else {code}), (
        result.stderr
    )
    assert query_rows(tmp_path, "SELECT count(*) FROM errors") == [(recorders * RECORDS,)], result.stderr
    assert len((tmp_path / "logs" / "errors.jsonl").read_text().splitlines()) == recorders * RECORDS
    assert query_rows(tmp_path, "PRAGMA integrity_check") == [("ok",)]
    assert query_rows(tmp_path, "SELECT count(DISTINCT instance_id) FROM errors") == query_rows(
        tmp_path, "SELECT count(*) FROM instances"
    )


def test_a_killed_process_leaves_its_log_and_a_sound_database(tmp_path: Path) -> None:
    """After SIGKILL all lines are in the log, the database is intact, and the log has every row of it."""
    assert run_to_exit("killed", tmp_path).returncode == -signal.SIGKILL

    lines = [json.loads(line) for line in (tmp_path / "logs" / "errors.jsonl").read_text().splitlines()]
    assert len(lines) == RECORDS
    if (tmp_path / "resilience.db").exists() and query_rows(
        tmp_path, "SELECT name FROM sqlite_master WHERE name = 'errors'"
    ):
        assert query_rows(tmp_path, "PRAGMA integrity_check") == [("ok",)]
        kept = {event_id for (event_id,) in query_rows(tmp_path, "SELECT event_id FROM errors")}
        assert kept <= {line["event_id"] for line in lines}


@pytest.mark.parametrize("exit_name", ["terminated_installed", "preloaded_pool"])
def test_nothing_is_lost_on_a_server(exit_name: str, postgres_url: str, tmp_path: Path) -> None:
    """The same holds for PostgreSQL: after a signal, and in a forked child whose parent was connected."""
    migrations.upgrade(postgres_url)
    result = run_to_exit(exit_name, tmp_path, postgres_url)
    code, recorders = EXPECTED[exit_name]

    assert result.returncode == code, result.stderr
    assert on_server(postgres_url, "SELECT count(*) FROM errors") == [(recorders * RECORDS,)], result.stderr


def test_what_a_killed_process_lost_is_in_its_logs(tmp_path: Path) -> None:
    """`history import` completes the fifty rows and counters, and a second import changes nothing."""
    run_to_exit("killed", tmp_path)
    url = f"sqlite:///{tmp_path}/resilience.db"
    first = import_lines(url, [tmp_path / "logs" / "errors.jsonl"])
    again = import_lines(url, [tmp_path / "logs" / "errors.jsonl"])

    assert first.new + first.known == RECORDS
    assert (again.new, again.known) == (0, RECORDS)
    assert query_rows(tmp_path, "SELECT count(*) FROM errors") == [(RECORDS,)]
    assert query_rows(tmp_path, "SELECT sum(errors) FROM rollups") == [(RECORDS,)]
    assert query_rows(tmp_path, "SELECT sum(count) FROM error_groups") == [(RECORDS,)]


@pytest.mark.parametrize("exit_name", HARD)
def test_the_next_process_imports_what_a_hard_exit_left(exit_name: str, tmp_path: Path) -> None:
    """Rows and counters are complete as soon as another process writes to the same folder, without a command."""
    assert run_to_exit(exit_name, tmp_path).returncode == HARD[exit_name]
    left = list((tmp_path / "logs" / ".writers").iterdir())
    recorder = Recorder(
        f"sqlite:///{tmp_path}/resilience.db", sinks=[JsonLines(tmp_path / "logs")], flush_interval=0.01
    )
    recorder.record(error())

    assert eventually(lambda: not any(file.exists() for file in left))
    recorder.close(60)
    assert query_rows(tmp_path, "SELECT count(*) FROM errors") == [(RECORDS + 1,)]
    assert query_rows(tmp_path, "SELECT sum(errors) FROM rollups") == [(RECORDS + 1,)]
