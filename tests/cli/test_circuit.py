"""`resilience circuit`: what operators type, what they see, and that running processes obey."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from support.transition_workers import processes
from support.valkey_servers import Valkey
from typer.testing import CliRunner, Result

from resilience import BAMLErrorHandler, CircuitOpenError
from resilience.breaker import Operation, Outcome, open_store
from resilience.breaker.messages import Batch, Cooldown, Order, StepRequest
from resilience.breaker.policy import BreakerPolicy
from resilience.cli import app
from resilience.cli.circuit import duration
from resilience.times import parse_time

_PATIENCE = 30.0


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with Valkey() as running:
        yield running


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, and a wide terminal."""
    (tmp_path / "baml_src").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("RESILIENCE_"):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture(params=["sqlite", "valkey"])
def store(request: pytest.FixtureRequest, project: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the circuits are: the project's file, or Valkey by the environment."""
    if request.param == "sqlite":
        return f"sqlite:///{project}/.resilience/circuits.db"
    running: Valkey = request.getfixturevalue("valkey")
    with running.looking() as client:
        client.flushall()
    monkeypatch.setenv("RESILIENCE_REDIS_URL", running.url)
    return running.url


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["circuit", *words])


def words(message: str) -> str:
    """Return a message of Typer without its frame and line breaks."""
    return " ".join(message.replace("│", " ").split())


def listed() -> dict[str, Any]:
    """The circuits of `list --json`, by client."""
    done = run("list", "--json")
    assert done.exit_code == 0, done.stderr
    return {each["client"]: each for each in json.loads(done.stdout)["circuits"]}


def events(project: Path) -> list[tuple[Any, ...]]:
    """What SQL says was ordered."""
    connection = sqlite3.connect(project / ".resilience" / "resilience.db")
    query = (
        "SELECT client, to_state, rule, actor, reason, wait, indefinite FROM breaker_events ORDER BY epoch"
    )
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


class TestOrders:
    def test_open_close_disable_reset(self, store: str, project: Path) -> None:
        """Each order is carried out, told in a line, listed, and in SQL when the command ends, with actor, reason and time."""
        by = ("--actor", "ann", "--reason", "unpaid bill")
        said = [
            run("open", "Primary", "--for", "10m", *by),
            run("disable", "Primary", *by),
            run("close", "Primary", *by),
            run("open", "Primary", *by),
            run("reset", "Primary", *by),
        ]

        assert [0] * 5 == [done.exit_code for done in said]
        assert said[0].stdout.startswith("Primary: forced_open until ")
        assert said[0].stdout.endswith("Z, by ann, unpaid bill\n")
        assert "Primary: disabled until another order, by ann, unpaid bill\n" == said[1].stdout
        assert "Primary: closed\n" == said[2].stdout
        assert ("closed", "ann", "unpaid bill") == tuple(
            listed()["Primary"][name] for name in ("state", "actor", "reason")
        )
        assert [
            ("Primary", "forced_open", "operator", "ann", "unpaid bill", 600.0, 0),
            ("Primary", "disabled", "operator", "ann", "unpaid bill", None, 1),
            ("Primary", "closed", "operator", "ann", "unpaid bill", None, 0),
            ("Primary", "forced_open", "operator", "ann", "unpaid bill", None, 1),
            ("Primary", "closed", "operator", "ann", "unpaid bill", None, 0),
        ] == events(project)

    def test_the_actor_is_who_is_logged_in(self, store: str, project: Path) -> None:
        """Without --actor the order bears the user of the system and the host."""
        run("open", "Primary")

        assert events(project)[0][3].count("@") == 1

    def test_an_order_as_json(self, store: str) -> None:
        """`--json` prints one object: how the circuit stands, whether that changed, whether the history has it."""
        done = json.loads(run("open", "Primary", "--json").stdout)
        again = json.loads(run("close", "Primary", "--json").stdout)
        idle = json.loads(run("close", "Primary", "--json").stdout)

        assert ("forced_open", True, True, None) == tuple(
            done[name] for name in ("state", "indefinite", "changed", "until")
        )
        assert [True, True, True] == [each["recorded"] for each in (done, again, idle)]
        assert [True, False] == [again["changed"], idle["changed"]]

    def test_what_changes_nothing_says_so(self, store: str) -> None:
        """Closing what is closed is done, and told as no change."""
        run("close", "Primary")

        assert "Primary: closed as before\n" == run("close", "Primary").stdout

    def test_an_unknown_client_is_pointed_out(self, store: str) -> None:
        """A name the store has not seen is obeyed, but the names it knows are told, in case of a slip."""
        run("open", "Primary")
        done = run("open", "Primry")

        assert 0 == done.exit_code
        assert "no process has used 'Primry' yet; the store knows Primary" in done.stderr

    def test_a_history_that_cannot_be_written_does_not_stop_an_order(
        self, store: str, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The order stands, the exit code is 0, and stderr says what is missing."""
        monkeypatch.setenv("RESILIENCE_DATABASE_URL", f"sqlite:///{project}/baml_src/none/../../baml_src")
        done = run("open", "Primary")

        assert 0 == done.exit_code
        assert "the history cannot be written: the order stands" in done.stderr
        assert "forced_open" == json.loads(run("list", "--json").stdout)["circuits"][0]["state"]

    def test_what_an_order_says_cannot_steer_a_terminal(self, store: str) -> None:
        """Reason, actor and client may hold escape sequences and invisible characters. They are shown, not obeyed."""
        unsafe = "bad\x1b[31m\x07\u202e\u200b"
        ordered = run("open", unsafe, "--reason", unsafe, "--actor", unsafe)
        shown, as_json, unknown = run("list"), run("list", "--json"), run("open", "other")

        for done in (ordered, shown, as_json, unknown):
            assert 0 == done.exit_code, done.output
            assert not set(done.output) & set("\x1b\x07\u202e\u200b")
        assert 3 == shown.stdout.count("bad\\x1b[31m\\x07\\u202e\\u200b")
        assert unsafe == json.loads(as_json.stdout)["circuits"][0]["reason"]

    def test_privacy_off_keeps_no_order(self, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a history the order stands, and stderr says that it may be lost."""
        monkeypatch.setenv("RESILIENCE_PRIVACY", "off")
        done = run("open", "Primary")

        assert (0, True) == (done.exit_code, "keeps no history: the order stands" in done.stderr)

    def test_deployments_do_not_touch_each_other(self, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """RESILIENCE_NAMESPACE decides whose circuit is meant."""
        run("open", "Primary")
        monkeypatch.setenv("RESILIENCE_NAMESPACE", "other")

        assert {} == listed()


class TestWrongUsage:
    @pytest.mark.parametrize("time", ["10", "0s", "-5m", "soon", "10 m", "1y", "366d", "", "5mm", "nan"])
    def test_no_length_of_time(self, time: str) -> None:
        """A wrong --for is exit code 2, names the value and says what to write."""
        done = run("open", "Primary", f"--for={time}")

        assert 2 == done.exit_code
        assert f"{time!r} is not a duration: give one such as 90s, 10m, 2h, 1d or 1w" in words(done.stderr)

    @pytest.mark.parametrize("client", ["", "  ", "x" * 201])
    def test_no_name(self, client: str) -> None:
        """So is a client without a name, or with one no column can keep."""
        done = run("open", client)

        assert (2, True) == (done.exit_code, "is not a name" in done.stderr)

    def test_close_has_no_time(self) -> None:
        """A circuit is closed for good: --for is not taken."""
        assert 2 == run("close", "Primary", "--for", "10m").exit_code

    def test_circuits_no_other_process_sees(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With memory:// there is nothing to look at or to overrule, and the remedy is named."""
        monkeypatch.setenv("RESILIENCE_STORE_URL", "memory://")
        for words in (["list"], ["open", "Primary"]):
            done = run(*words)
            assert 2 == done.exit_code
            assert "set RESILIENCE_REDIS_URL" in done.stderr

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("90s", 90),
            ("10m", 600),
            ("2h", 7200),
            ("1d", 86400),
            ("2w", 1209600),
            ("1h30m", 5400),
            ("0.5s", 0.5),
            ("365d", 31536000),
        ],
    )
    def test_for_takes_the_durations_of_since(self, text: str, seconds: float) -> None:
        """Seconds, minutes, hours, days, weeks, and sums of them: one syntax for all options."""
        assert seconds == duration(text)
        assert timedelta(seconds=seconds) == parse_time(text)

    def test_the_message_names_option_value_and_what_is_allowed(self) -> None:
        """What Typer shows: which option, what was given, and which durations it takes."""
        text = words(run("open", "Primary", "--for", "ten minutes").stderr)

        assert "Invalid value for '--for': 'ten minutes' is not a duration" in text
        assert "give one such as 90s, 10m, 2h, 1d or 1w, at most 365d" in text


class TestList:
    def test_nothing_yet(self, project: Path) -> None:
        """A project without circuits says so, and looking makes no file."""
        done = run("list")

        assert (0, "no circuit has been used yet\n") == (done.exit_code, done.stdout)
        assert ["baml_src"] == [path.name for path in project.iterdir()]

    def test_everything_there_is_to_know(self, store: str, project: Path) -> None:
        """State, since when, until when, why, by whom, cool-down, counts and the retries that are left."""
        (project / ".resilience").mkdir(exist_ok=True)
        policy = BreakerPolicy(open_jitter=0.0)
        fleet = open_store(store, namespace="resilience")
        batch = Batch(0, ((Outcome.SUCCESS, 3), (Outcome.FAILURE, 2)), "", "timeout")
        cooling = Cooldown(seconds=60.0, max_seconds=60.0, reason="rate_limit")
        fleet.step(
            [
                StepRequest(
                    client="busy", policy=policy, batches=(batch,), cooldowns=((0, cooling),), attempts=5
                ),
                StepRequest(
                    client="down", policy=policy, batches=(Batch(0, ((Outcome.FAILURE, 5),), "", "timeout"),)
                ),
                StepRequest(
                    client="held", order=Order(operation=Operation.DISABLE, actor="ann", reason="test")
                ),
            ]
        )
        before = [
            reply.epoch
            for reply in fleet.step([StepRequest(client="down")])
            if not isinstance(reply, Exception)
        ]
        found, shown = listed(), run("list").stdout
        after = [
            reply.epoch
            for reply in fleet.step([StepRequest(client="down")])
            if not isinstance(reply, Exception)
        ]
        fleet.close()

        assert before == after
        assert ("closed", 5, 2, 2, "rate_limit", None) == tuple(
            found["busy"][name]
            for name in ("state", "calls", "failures", "consecutive_failures", "cooldown_reason", "since")
        )
        assert found["busy"]["cooldown_until"].endswith("Z")
        assert found["busy"]["retry_tokens"] > 0
        assert ("open", "timeout", "", False) == tuple(
            found["down"][name] for name in ("state", "reason", "actor", "indefinite")
        )
        assert found["down"]["since"] < found["down"]["until"]
        assert ("disabled", "ann", "test", True, None) == tuple(
            found["held"][name] for name in ("state", "actor", "reason", "indefinite", "until")
        )
        assert "2 of 5" in shown
        assert "another order" in shown

    def test_a_store_that_is_away(
        self, project: Path, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Exit code 1, one line that says so, and what the history remembers; an order is refused whole."""
        monkeypatch.setenv("RESILIENCE_REDIS_URL", valkey.url)
        with valkey.looking() as client:
            client.flushall()
        run("open", "Primary", "--actor", "ann", "--for", "10m")
        monkeypatch.setenv("RESILIENCE_REDIS_URL", "unix:///nowhere/at/all")
        shown, ordered = run("list"), run("close", "Primary")
        remembered = json.loads(run("list", "--json").stdout)

        assert [1, 1] == [shown.exit_code, ordered.exit_code]
        assert "forced_open (forgotten by the store)" in shown.stdout
        assert "the store of circuits cannot be used" in shown.stderr
        assert "nothing was changed" in ordered.stderr
        assert remembered["store_error"]
        assert [("Primary", True)] == [
            (each["client"], each["from_history"]) for each in remembered["circuits"]
        ]

    def test_a_history_that_cannot_be_read(self, store: str, project: Path) -> None:
        """The circuits are shown all the same."""
        run("open", "Primary")
        for left in (project / ".resilience").glob("resilience.db*"):
            left.unlink()
        (project / ".resilience" / "resilience.db").write_text(
            "no database, but long enough to be taken for one" * 9
        )
        done = run("list")

        assert 0 == done.exit_code
        assert "forced_open" in done.stdout
        assert "cannot be read" in done.stderr

    def test_processes_without_the_store_are_counted(self, store: str, project: Path) -> None:
        """Agents that said they cannot reach the store are told of."""
        run("open", "Primary")
        connection = sqlite3.connect(project / ".resilience" / "resilience.db")
        connection.execute("UPDATE instances SET degraded = 1")
        connection.commit()
        connection.close()

        assert "1 process(es) cannot reach the store" in run("list").stderr


async def ask_until_told(pipe: Connection) -> None:
    async def answer() -> str:
        return "answer"

    async with BAMLErrorHandler() as handler:
        while not pipe.poll():
            try:
                said = await handler.call_with_retry(answer, "Primary", "F")
            except CircuitOpenError as refusal:
                said = refusal.reason
            pipe.send(said)
            await asyncio.sleep(0.01)


def agent(project: Path, variables: dict[str, str], pipe: Connection) -> None:
    """A process of the project that calls again and again, and says what came of it, until it is told to stop."""
    os.chdir(project)
    for name in [name for name in os.environ if name.startswith("RESILIENCE_")]:
        del os.environ[name]
    os.environ.update(variables)
    asyncio.run(ask_until_told(pipe))


def test_running_processes_obey(store: str, project: Path) -> None:
    """An order reaches a process that was running before, and so does its end."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("RESILIENCE_")}
    ours, theirs = processes.Pipe()
    process = processes.Process(target=agent, args=(project, variables, theirs))
    process.start()
    try:
        until(ours, "answer")
        assert 0 == run("open", "Primary").exit_code
        until(ours, "forced_open")
        assert 0 == run("close", "Primary").exit_code
        until(ours, "answer")
    finally:
        ours.send("stop")
        process.join(_PATIENCE)

    assert process.exitcode == 0


def until(pipe: Connection, wanted: str) -> None:
    """Read what the agent says until it is *wanted*."""
    said = ""
    while said != wanted:
        assert pipe.poll(_PATIENCE), f"the agent still says {said!r}, not {wanted!r}"
        said = pipe.recv()
