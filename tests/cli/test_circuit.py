"""`resilience circuit`: orders, the list of circuits, wrong usage, and that running processes obey."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.history_records import error
from support.transition_workers import processes
from support.valkey_servers import Valkey
from typer.testing import CliRunner, Result

from resilience import BAMLErrorHandler, CircuitOpenError
from resilience.breaker import Operation, Outcome, open_store
from resilience.breaker.messages import Batch, Cooldown, Order, StepRequest
from resilience.breaker.policy import BreakerPolicy
from resilience.cli import app
from resilience.cli.circuit import duration
from resilience.history import Recorder
from resilience.times import parse_time

_TIMEOUT = 120.0
circuit_command = importlib.import_module("resilience.cli.circuit")


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with Valkey() as running:
        yield running


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project as the working directory, without settings in the environment."""
    (tmp_path / "baml_src").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("RESILIENCE_"):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture(params=["sqlite", "valkey"])
def store(request: pytest.FixtureRequest, project: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the store: the project's file, or Valkey, which the environment names."""
    if request.param == "sqlite":
        return f"sqlite:///{project}/.resilience/circuits.db"
    running: Valkey = request.getfixturevalue("valkey")
    with running.looking() as client:
        client.flushall()
    monkeypatch.setenv("RESILIENCE_REDIS_URL", running.url)
    return running.url


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["circuit", *arguments])


def give(*arguments: str) -> Result:
    """Give an order, also for a client that is new and a store that does not exist yet."""
    return run(*arguments, "--new", "--create")


def unframed(message: str) -> str:
    """Return a message of Typer without its frame and line breaks."""
    return " ".join(message.replace("│", " ").split())


def listed() -> dict[str, Any]:
    """Return the circuits of `list --json`, by client."""
    done = run("list", "--json")
    assert done.exit_code == 0, done.stderr
    return {circuit["client"]: circuit for circuit in json.loads(done.stdout)["circuits"]}


def events(project: Path) -> list[tuple[Any, ...]]:
    """Return the transitions in the history, oldest first."""
    connection = sqlite3.connect(project / ".resilience" / "resilience.db")
    query = (
        "SELECT client, to_state, rule, actor, reason, wait, indefinite FROM breaker_events ORDER BY epoch"
    )
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def keep_call(project: Path, client: str) -> None:
    """Add a roll-up of *client* to the history, as the writer does after its first call."""
    connection = sqlite3.connect(project / ".resilience" / "resilience.db")
    columns = [
        row[1] for row in connection.execute("PRAGMA table_info(rollups)") if row[3] and row[4] is None
    ]
    texts = {"client": client, "bucket_at": "2026-01-01", "grain": 60}
    values = {name: texts.get(name, 1) for name in columns}
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO rollups ({', '.join(values)}) VALUES ({marks})", list(values.values()))  # noqa: S608 - names of columns
    connection.commit()
    connection.close()


class TestOrders:
    def test_open_close_disable_reset(self, store: str, project: Path) -> None:
        """Each order takes effect and prints a line. When the command ends, the history has it, with actor, reason and time."""
        by = ("--actor", "ann", "--reason", "unpaid bill")
        orders = [
            give("open", "Primary", "--for", "10m", *by),
            give("disable", "Primary", *by),
            give("close", "Primary", *by),
            give("open", "Primary", *by),
            give("reset", "Primary", *by),
        ]

        assert [0] * 5 == [done.exit_code for done in orders]
        assert orders[0].stdout.startswith("Primary: forced_open until ")
        assert orders[0].stdout.splitlines()[0].endswith("Z, by ann, unpaid bill")
        assert (
            "Primary: disabled until another order, by ann, unpaid bill" == orders[1].stdout.splitlines()[0]
        )
        assert "Primary: closed" == orders[2].stdout.splitlines()[0]
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

    def test_the_actor_is_the_current_user(self, store: str, project: Path) -> None:
        """Without --actor the order has the user and the host of the shell."""
        give("open", "Primary")

        assert events(project)[0][3].count("@") == 1

    def test_an_order_as_json(self, store: str) -> None:
        """`--json` prints the circuit, whether the order changed it, and whether the history has the order."""
        give("close", "Primary")
        done = json.loads(give("open", "Primary", "--json").stdout)
        again = json.loads(give("close", "Primary", "--json").stdout)
        idle = json.loads(give("close", "Primary", "--json").stdout)

        assert ("forced_open", True, True, None) == tuple(
            done[name] for name in ("state", "indefinite", "changed", "until")
        )
        assert [True, True, True] == [order["recorded"] for order in (done, again, idle)]
        assert [True, False] == [again["changed"], idle["changed"]]

    def test_an_order_that_changes_nothing_says_so(self, store: str) -> None:
        """Closing a closed circuit succeeds, and the line says `as before`."""
        give("close", "Primary")

        assert "Primary: closed as before" == give("close", "Primary").stdout.splitlines()[0]

    def test_a_phantom_is_forgotten(self, store: str, project: Path) -> None:
        """`forget` takes a slip in a name out of the list for good: the store has no circuit, the history nothing to restore."""
        give("open", "Primary")
        give("open", "Primry")
        forgotten, unknown = run("forget", "Primry", "--actor", "ann"), run("forget", "Prmry")

        assert "Primry: forgotten" == forgotten.stdout.splitlines()[0]
        assert ["Primary"] == list(listed())
        assert ("Primry", "closed", "ann") == tuple(events(project)[-1][column] for column in (0, 1, 3))
        assert (2, True) == (unknown.exit_code, "did you mean Pr" in unknown.stderr)

    def test_an_unknown_client_is_refused(self, store: str) -> None:
        """A slip in the name is exit code 2, names what is known and the nearest name, and leaves no circuit behind."""
        give("open", "Primary")
        refused, insisted = run("open", "Primry"), run("open", "Primry", "--new")

        assert 2 == refused.exit_code
        assert "no client 'Primry': did you mean Primary? namespace 'resilience' at " in refused.stderr
        assert "has Primary; --new gives the order all the same" in refused.stderr
        assert 0 == insisted.exit_code

    def test_a_client_of_the_history_is_known(self, store: str, project: Path) -> None:
        """A store that was emptied knows no client; the history does, and its clients can be ordered."""
        give("open", "Primary")
        keep_call(project, "Secondary")

        assert 0 == run("open", "Secondary").exit_code

    def test_an_order_to_a_server_begins_no_history(
        self, valkey: Valkey, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Agents elsewhere obey it; the folder that it was given in stays as it was, and standard error says what that means."""
        monkeypatch.setenv("RESILIENCE_REDIS_URL", valkey.url)
        monkeypatch.setenv("RESILIENCE_NAMESPACE", "no-history")
        done = run("open", "Primary", "--for", "1m", "--new")

        assert 0 == done.exit_code, done.stderr
        assert f"there is no history at {project}/.resilience/resilience.db: the order stands" in done.stderr
        assert ["baml_src"] == [path.name for path in project.iterdir()]

    def test_a_wrong_namespace_is_refused(self, project: Path) -> None:
        """An order for a namespace without the client names those that the store has."""
        give("open", "Primary")
        done = CliRunner().invoke(app, ["circuit", "open", "Primary", "--namespace", "prod"])

        assert (2, True) == (done.exit_code, "others are in resilience: see --namespace" in done.stderr)

    def test_a_store_that_does_not_exist_is_refused(self, project: Path) -> None:
        """An order from the wrong folder is exit code 2 and creates nothing: no agent would read it."""
        done = run("open", "Primary", "--for", "10m")

        assert (2, "") == (done.exit_code, done.stdout)
        assert "there is no store of circuits at " in done.stderr
        assert ["baml_src"] == [path.name for path in project.iterdir()]

    def test_an_order_says_where_it_is_and_who_obeys(self, store: str, project: Path) -> None:
        """The second line names the namespace, the store and the number of running processes."""
        first = give("open", "Primary").stdout.splitlines()[1]
        # The command before has left and obeys nothing any more. An agent that runs is one that writes its history here.
        agent = Recorder(f"sqlite:///{project}/.resilience/resilience.db")
        agent.record(error())
        assert agent.flush(60)
        again = run("close", "Primary")
        agent.close(60)

        assert first.startswith("in namespace 'resilience' at ")
        assert first.endswith("; no process runs at present, later ones obey")
        assert again.stdout.splitlines()[1].endswith("; 1 process will obey")
        assert json.loads(run("close", "Primary", "--json").stdout)["namespace"] == "resilience"

    def test_a_history_that_cannot_be_written_does_not_stop_an_order(
        self, store: str, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The order takes effect, the exit code is 0, and standard error says that it was not recorded."""
        monkeypatch.setenv("RESILIENCE_DATABASE_URL", f"sqlite:///{project}/baml_src/none/../../baml_src")
        done = give("open", "Primary")

        assert 0 == done.exit_code
        assert "the history cannot be written: the order stands" in done.stderr
        assert "forced_open" == json.loads(run("list", "--json").stdout)["circuits"][0]["state"]

    def test_what_an_order_says_cannot_steer_a_terminal(self, store: str) -> None:
        """Reason, actor and client may hold escape sequences and invisible characters. They are shown, not obeyed."""
        unsafe = "bad\x1b[31m\x07\u202e\u200b"
        ordered = give("open", unsafe, "--reason", unsafe, "--actor", unsafe)
        shown, as_json, unknown = run("list"), run("list", "--json"), give("open", "other")

        for done in (ordered, shown, as_json, unknown):
            assert 0 == done.exit_code, done.output
            assert not set(done.output) & set("\x1b\x07\u202e\u200b")
        assert 3 == shown.stdout.count("bad\\x1b[31m\\x07\\u202e\\u200b")
        assert unsafe == json.loads(as_json.stdout)["circuits"][0]["reason"]

    def test_privacy_off_records_no_order(self, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a history the order takes effect, and standard error says that it may be lost."""
        monkeypatch.setenv("RESILIENCE_PRIVACY", "off")
        done = give("open", "Primary")

        assert (0, True) == (done.exit_code, "keeps no history: the order stands" in done.stderr)

    def test_deployments_do_not_touch_each_other(self, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """An order changes only circuits of RESILIENCE_NAMESPACE."""
        give("open", "Primary")
        monkeypatch.setenv("RESILIENCE_NAMESPACE", "other")

        assert {} == listed()
        assert "the store has circuits in other namespaces: resilience; see --namespace" in run("list").stderr

    def test_an_order_without_an_end_asks_a_person(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On a terminal `open` and `disable` without --for ask first; no is exit code 1. With --for, --yes or a pipe they do not."""
        screen = SimpleNamespace(isatty=lambda: True)
        monkeypatch.setattr(circuit_command, "sys", SimpleNamespace(stdin=screen, stdout=screen))
        words = ("Primary", "--new", "--create")
        refused = [
            CliRunner().invoke(app, ["circuit", order, *words], input="n\n") for order in ("open", "disable")
        ]

        assert [1, 1] == [done.exit_code for done in refused]
        assert ["baml_src"] == [path.name for path in project.iterdir()]
        assert "until another order is given (--for sets an end)?" in refused[0].output
        assert [0, 0] == [
            give("open", "Primary", "--for", "5m").exit_code,
            give("disable", "Primary", "--yes").exit_code,
        ]

    def test_a_command_leaves_no_process_behind(self, project: Path) -> None:
        """The row of a process that ended in order has its end, and no trouble with the store that it closed."""
        give("open", "Primary")
        with closing(sqlite3.connect(project / ".resilience" / "resilience.db")) as connection:
            rows = connection.execute(
                "SELECT degraded, degraded_seconds, ended_at IS NOT NULL FROM instances"
            ).fetchall()

        assert [(0, 0, 1)] == rows


class TestWrongUsage:
    @pytest.mark.parametrize("time", ["10", "0s", "-5m", "soon", "10 m", "1y", "366d", "", "5mm", "nan"])
    def test_a_text_that_is_no_duration_is_refused(self, time: str) -> None:
        """The exit code is 2, and the message has the value and examples."""
        done = give("open", "Primary", f"--for={time}")

        assert 2 == done.exit_code
        assert f"{time!r} is not a duration: give one such as 90s, 10m, 2h, 1d or 1w" in unframed(done.stderr)

    @pytest.mark.parametrize("client", ["", "  ", "x" * 201])
    def test_a_text_that_is_no_name_is_refused(self, client: str) -> None:
        """An empty name and one that is longer than the column are exit code 2."""
        done = run("open", client)

        assert (2, True) == (done.exit_code, "is not a name" in done.stderr)

    def test_close_has_no_time(self) -> None:
        """--for is refused with the reason, and no other option is suggested: a closed circuit has no end."""
        for order in ("close", "reset"):
            done = give(order, "Primary", "--for", "10m")
            assert 2 == done.exit_code
            assert "leave --for out" in unframed(done.stderr)

    def test_a_memory_store_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No other process can see a memory store, so the exit code is 2, and the message names the remedy."""
        monkeypatch.setenv("RESILIENCE_STORE_URL", "memory://")
        for arguments in (["list"], ["open", "Primary"]):
            done = run(*arguments)
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
        """Seconds, minutes, hours, days, weeks and their sums have one syntax for all options."""
        assert seconds == duration(text)
        assert timedelta(seconds=seconds) == parse_time(text)

    def test_the_message_names_option_value_and_what_is_allowed(self) -> None:
        """The message has the option, the value, the syntax and the limit."""
        text = unframed(give("open", "Primary", "--for", "ten minutes").stderr)

        assert "Invalid value for '--for': 'ten minutes' is not a duration" in text
        assert "give one such as 90s, 10m, 2h, 1d or 1w, at most 365d" in text


class TestList:
    def test_every_format_of_lists(self, project: Path) -> None:
        """`-o jsonl` has one circuit a line, `-o csv` and `-o wide` every field, `-o json` what --json has."""
        give("open", "Primary")
        give("close", "Secondary")
        jsonl, csv, wide, whole = (
            run("list", "-o", form).stdout for form in ("jsonl", "csv", "wide", "json")
        )

        assert ["Primary", "Secondary"] == [json.loads(line)["client"] for line in jsonl.splitlines()]
        assert csv.startswith("client,state,since,")
        assert "consecutive_failures" in wide
        assert whole == run("list", "--json").stdout

    def test_nothing_yet(self, project: Path) -> None:
        """A project without circuits says so, and reading creates no file."""
        done = run("list")

        assert 0 == done.exit_code
        assert done.stdout.startswith("no circuit has been used yet in namespace 'resilience' at sqlite:///")
        assert ["baml_src"] == [path.name for path in project.iterdir()]

    def test_every_field_of_a_circuit_is_shown(self, store: str, project: Path) -> None:
        """State, since, until, reason, actor, cool-down, counts and remaining retries. Reading changes nothing."""
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
        by_client, shown = listed(), run("list").stdout
        after = [
            reply.epoch
            for reply in fleet.step([StepRequest(client="down")])
            if not isinstance(reply, Exception)
        ]
        fleet.close()

        assert before == after
        assert ("closed", 5, 2, 2, "rate_limit", None) == tuple(
            by_client["busy"][name]
            for name in ("state", "calls", "failures", "consecutive_failures", "cooldown_reason", "since")
        )
        assert by_client["busy"]["cooldown_until"].endswith("Z")
        assert by_client["busy"]["retry_tokens"] > 0
        assert ("open", "timeout", "", False) == tuple(
            by_client["down"][name] for name in ("state", "reason", "actor", "indefinite")
        )
        assert by_client["down"]["since"] < by_client["down"]["until"]
        assert ("disabled", "ann", "test", True, None) == tuple(
            by_client["held"][name] for name in ("state", "actor", "reason", "indefinite", "until")
        )
        assert "2 of 5" in shown
        assert "another order" in shown

    def test_a_store_that_cannot_be_reached(
        self, project: Path, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The exit code is 1, a line says so, and the list is from the history. An order changes nothing."""
        monkeypatch.setenv("RESILIENCE_REDIS_URL", valkey.url)
        with valkey.looking() as client:
            client.flushall()
        give("open", "Primary", "--actor", "ann", "--for", "10m")
        monkeypatch.setenv("RESILIENCE_REDIS_URL", f"{valkey.url}?username=nobody&password=h7Ys93kd02Lq")
        refused = run("list")
        monkeypatch.setenv("RESILIENCE_REDIS_URL", "unix:///nowhere/at/all")
        shown, ordered = run("list"), give("close", "Primary")
        report = json.loads(run("list", "--json").stdout)

        assert [1, 1, 1] == [shown.exit_code, ordered.exit_code, refused.exit_code]
        assert "give the user and password of the server in the URL" in refused.stderr
        assert "check host, port, TLS and firewall" in shown.stderr
        assert "forced_open (forgotten by the store)" in shown.stdout
        assert "the store of circuits cannot be used" in shown.stderr
        assert "nothing was changed" in ordered.stderr
        assert report["store_error"]
        assert [("Primary", True)] == [
            (circuit["client"], circuit["from_history"]) for circuit in report["circuits"]
        ]

    def test_a_history_that_cannot_be_read(self, store: str, project: Path) -> None:
        """The circuits of the store are listed, and standard error says that the history cannot be read."""
        give("open", "Primary")
        for file in (project / ".resilience").glob("resilience.db*"):
            file.unlink()
        (project / ".resilience" / "resilience.db").write_text(
            "no database, but long enough to be taken for one" * 9
        )
        done = run("list")

        assert 0 == done.exit_code
        assert "forced_open" in done.stdout
        assert "cannot be read" in done.stderr

    def test_processes_without_the_store_are_counted(self, store: str, project: Path) -> None:
        """Standard error has the number of agents that reported that they cannot reach the store."""
        give("open", "Primary")
        connection = sqlite3.connect(project / ".resilience" / "resilience.db")
        connection.execute("UPDATE instances SET degraded = 1, ended_at = NULL")
        connection.commit()
        connection.close()

        assert "1 process(es) cannot reach the store" in run("list").stderr


async def call_until_stopped(pipe: Connection) -> None:
    async def answer() -> str:
        return "answer"

    async with BAMLErrorHandler() as handler:
        while not pipe.poll():
            try:
                result = await handler.call_with_retry(answer, "Primary", "F")
            except CircuitOpenError as refusal:
                result = refusal.reason
            pipe.send(result)
            await asyncio.sleep(0.01)


def agent(project: Path, variables: dict[str, str], pipe: Connection) -> None:
    """An agent process of the project. It calls repeatedly and sends each answer or refusal, until it receives anything."""
    os.chdir(project)
    for name in [name for name in os.environ if name.startswith("RESILIENCE_")]:
        del os.environ[name]
    os.environ.update(variables)
    asyncio.run(call_until_stopped(pipe))


def test_running_processes_obey(store: str, project: Path) -> None:
    """An order reaches a process that was running before it, and so does the order that ends it."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("RESILIENCE_")}
    ours, theirs = processes.Pipe()
    process = processes.Process(target=agent, args=(project, variables, theirs))
    process.start()
    try:
        wait_for(ours, "answer")
        assert 0 == give("open", "Primary").exit_code
        wait_for(ours, "forced_open")
        assert 0 == give("close", "Primary").exit_code
        wait_for(ours, "answer")
    finally:
        ours.send("stop")
        process.join(_TIMEOUT)

    assert process.exitcode == 0


def wait_for(pipe: Connection, expected: str) -> None:
    """Read the agent's results until one is *expected*."""
    result = ""
    while result != expected:
        assert pipe.poll(_TIMEOUT), f"the agent's result is still {result!r}, not {expected!r}"
        result = pipe.recv()
