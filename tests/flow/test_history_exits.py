"""Nothing recorded is lost when a process ends or forks, however it does it; a killed one loses what it says it loses."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from support.history_exits import RECORDS, WAYS
from support.postgres import asked as on_server

from resilience.history.log_import import import_lines
from resilience.history.schema import migrations

PROGRAM = Path(__file__).parents[1] / "support" / "history_exits.py"

INTERRUPTED = 1
"""What an uncaught KeyboardInterrupt ends with here, and `-SIGINT` in the shell: CPython forgets that it was a signal when
code is compiled during the exit, as SQLAlchemy does at a process's first statements."""
ENDS: dict[str, tuple[int, int]] = {
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
    "forked_child": (0, 1),
    "preloaded": (0, 3),
    "preloaded_pool": (0, 2),
    "many_forks": (0, 16),
}
"""How each way ends: the exit code, and how many times fifty records are kept."""


def end(way: str, tmp_path: Path, url: str = "") -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    url = url or f"sqlite:///{tmp_path}/resilience.db"
    return subprocess.run(
        [sys.executable, str(PROGRAM), way, url, str(tmp_path / "logs")],
        check=False,
        timeout=100,
        capture_output=True,
        text=True,
        env=os.environ
        | {"PYTHONWARNINGS": "ignore::DeprecationWarning", "PYTHONPATH": str(PROGRAM.parents[1])},
    )


def asked(tmp_path: Path, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(tmp_path / "resilience.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_every_way_but_the_killed_one_is_expected() -> None:
    """No ending of the program goes untested."""
    assert set(ENDS) | {"killed"} == set(WAYS)


@pytest.mark.parametrize("way", ENDS)
def test_nothing_is_lost(way: str, tmp_path: Path) -> None:
    """All records of all processes are in the database, and as many lines in the log, when the last process is gone."""
    ended = end(way, tmp_path)
    code, times = ENDS[way]

    assert ended.returncode in ({code, -signal.SIGINT} if way == "interrupted" else {code}), ended.stderr
    assert asked(tmp_path, "SELECT count(*) FROM errors") == [(times * RECORDS,)], ended.stderr
    assert len((tmp_path / "logs" / "errors.jsonl").read_text().splitlines()) == times * RECORDS
    assert asked(tmp_path, "PRAGMA integrity_check") == [("ok",)]
    assert asked(tmp_path, "SELECT count(DISTINCT instance_id) FROM errors") == asked(
        tmp_path, "SELECT count(*) FROM instances"
    )


def test_a_killed_process_leaves_its_log_and_a_sound_database(tmp_path: Path) -> None:
    """After SIGKILL the lines are all there, the database is whole, and no row of it is missing in the log."""
    assert end("killed", tmp_path).returncode == -signal.SIGKILL

    lines = [json.loads(line) for line in (tmp_path / "logs" / "errors.jsonl").read_text().splitlines()]
    assert len(lines) == RECORDS
    if (tmp_path / "resilience.db").exists() and asked(
        tmp_path, "SELECT name FROM sqlite_master WHERE name = 'errors'"
    ):
        assert asked(tmp_path, "PRAGMA integrity_check") == [("ok",)]
        kept = {event_id for (event_id,) in asked(tmp_path, "SELECT event_id FROM errors")}
        assert kept <= {line["event_id"] for line in lines}


@pytest.mark.parametrize("way", ["terminated_installed", "preloaded_pool"])
def test_nothing_is_lost_on_a_server(way: str, postgres_url: str, tmp_path: Path) -> None:
    """The same with PostgreSQL: after a signal, and in a forked child whose parent was connected."""
    migrations.upgrade(postgres_url)
    ended = end(way, tmp_path, postgres_url)
    code, times = ENDS[way]

    assert ended.returncode == code, ended.stderr
    assert on_server(postgres_url, "SELECT count(*) FROM errors") == [(times * RECORDS,)], ended.stderr


def test_what_a_killed_process_lost_is_in_its_logs(tmp_path: Path) -> None:
    """`history import` makes the fifty whole again, in rows and in counters, and a second time changes nothing."""
    end("killed", tmp_path)
    url = f"sqlite:///{tmp_path}/resilience.db"
    first = import_lines(url, [tmp_path / "logs" / "errors.jsonl"])
    again = import_lines(url, [tmp_path / "logs" / "errors.jsonl"])

    assert first.new + first.known == RECORDS
    assert (again.new, again.known) == (0, RECORDS)
    assert asked(tmp_path, "SELECT count(*) FROM errors") == [(RECORDS,)]
    assert asked(tmp_path, "SELECT sum(errors) FROM rollups") == [(RECORDS,)]
    assert asked(tmp_path, "SELECT sum(count) FROM error_groups") == [(RECORDS,)]
