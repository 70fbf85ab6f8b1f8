"""`resilience demo`: the main job, on real processes with the real BAML runtime."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from valkeys import Valkey

from resilience.demo import outage, table
from resilience.demo.fleet import Frame, Row, Run
from resilience.demo.summary import Snapshot, Summary, percentile, snapshot
from resilience.testing import ProviderSimulator

MAIN = [sys.executable, "-c", "from resilience.cli import app; app()"]


def resilience(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MAIN, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_a_fleet_survives_three_outages(tmp_path: Path) -> None:
    """Every call is answered, the dead client is asked a bounded number of times, and SQL knows of every call."""
    done = resilience("demo", "--seconds", "8", "--processes", "2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)

    assert list(summary) == [
        "calls",
        "succeeded",
        "answered_by",
        "attempts_by_client",
        "dead_requests",
        "retries",
        "fallbacks",
        "transitions",
        "p50_ms",
        "p99_ms",
        "database",
        "logs",
    ]
    assert summary["calls"] == summary["succeeded"] == sum(summary["answered_by"].values())
    assert (
        5 <= summary["dead_requests"] <= 60
    )  # two trips of at most 10 calls in flight and 5 failures, probes, cool-downs
    moves = [(moved["from"], moved["to"]) for moved in summary["transitions"]]
    assert ("closed", "open") in moves
    assert ("half_open", "closed") in moves
    with closing(sqlite3.connect(summary["database"])) as connection:
        assert connection.execute("SELECT COUNT(*) FROM calls").fetchone() == (summary["calls"],)
        kinds = {
            row[0]
            for row in connection.execute("SELECT DISTINCT category FROM errors WHERE client = 'Primary'")
        }
    assert {"overloaded", "rate_limit", "timeout"} <= kinds
    for stream in ("operations", "performance", "errors"):
        assert (Path(summary["logs"]) / f"{stream}.jsonl").stat().st_size > 0


def test_a_real_provider_is_asked_when_told_to(tmp_path: Path) -> None:
    """--real asks whatever provider the environment names; here one that stands in for it."""
    with ProviderSimulator.in_thread() as provider:
        done = resilience(
            "demo", "--real", "--seconds", "2", "--processes", "1", cwd=tmp_path, **provider.environment()
        )
        asked = provider.client("Primary").asked

    assert done.returncode == 0, done.stdout + done.stderr
    assert asked > 0
    assert f"{asked} of {asked} calls got an answer (Primary {asked})" in done.stdout
    assert "sqlite3" in done.stdout


def test_a_real_provider_must_be_named(tmp_path: Path) -> None:
    """--real without a provider in the environment names the variables to export, with exit code 2."""
    done = resilience("demo", "--real", cwd=tmp_path)

    assert done.returncode == 2
    assert "PRIMARY_BASE_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unanswered_call_shows_in_the_exit_code() -> None:
    """A run is whole only if every call the agents counted was answered and stands in SQL."""
    whole = Run(Summary(calls=3, succeeded=3), Snapshot(), counted=3, answered=3)
    lost = Run(Summary(calls=2, succeeded=2), Snapshot(), counted=3, answered=3)
    failed = Run(Summary(calls=3, succeeded=2), Snapshot(), counted=3, answered=2)
    idle = Run(Summary(), Snapshot())

    assert [True, False, False, False] == [run.whole for run in (whole, lost, failed, idle)]


def test_the_play_covers_the_whole_run() -> None:
    """The phases follow each other without gaps and end with the run."""
    phases = outage.play(20.0)

    assert phases[0].start == 0.0
    assert all(one.end == two.start for one, two in pairwise(phases))
    assert phases[-1].end == pytest.approx(20.0)


def test_frames_and_summary_are_drawn_for_people() -> None:
    """The table names every client with its state, and the summary tells what was not answered."""
    console = Console(record=True, width=120, force_terminal=True)
    phase = outage.play(10.0)[1]
    rows = [Row("Primary", "open", 4, 20, 7, 1.5), Row("Secondary", "closed", 30, 0, 0, 0.0)]
    run = Run(
        Summary(calls=2, succeeded=1, answered_by={"Primary": 1}),
        Snapshot(),
        counted=2,
        answered=1,
        errors={"ValueError": 1},
    )

    with table.shown(console) as show:
        show(Frame(2.0, 10.0, phase, rows, 34, 34))
    table.tell(console, run)

    said = console.export_text()
    for words in (
        "503 outage",
        "Primary",
        "open",
        "1.5 s",
        "34 of 34 calls answered",
        "Not answered: ValueError 1",
    ):
        assert words in said


def test_a_history_not_there_yet_reads_as_empty(tmp_path: Path) -> None:
    """The watcher looks before the agents have created the database."""
    assert snapshot(tmp_path / "none.db") == Snapshot()


def test_percentiles_are_of_the_values_themselves() -> None:
    """Nearest rank, and 0 of nothing."""
    assert [1, 3, 4, 0.0] == [
        percentile([1, 2, 3, 4], 0.0),
        percentile([1, 2, 3, 4], 0.5),
        percentile([1, 2, 3, 4], 1.0),
        percentile([], 0.5),
    ]


def test_the_fleet_shares_its_circuits_through_redis_when_told_to(tmp_path: Path) -> None:
    """With RESILIENCE_REDIS_URL the same run goes through Redis: every call answered, one trip seen by all."""
    with Valkey() as valkey:
        done = resilience(
            "demo",
            "--seconds",
            "5",
            "--processes",
            "2",
            "--json",
            cwd=tmp_path,
            RESILIENCE_REDIS_URL=valkey.url,
        )

    assert done.returncode == 0, done.stdout + done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    assert summary["calls"] == summary["succeeded"] > 0
    assert ("closed", "open") in [(moved["from"], moved["to"]) for moved in summary["transitions"]]
    assert not list(Path(summary["database"]).parent.glob("circuits.db*"))
