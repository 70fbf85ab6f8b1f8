"""`resilience doctor`: every problem that it checks for is made for real, and found with its remedy."""

from __future__ import annotations

import json
import shlex
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.history_table_rows import keep
from support.other_users import give_away
from support.valkey_servers import Valkey
from typer.testing import CliRunner

from resilience import baml
from resilience.cli import app
from resilience.config import settings
from resilience.config.settings import Settings
from resilience.doctor import (
    CheckVerdict,
    Finding,
    circuits,
    clients,
    examine,
    files,
    forks,
    history,
    imports,
    logs,
)
from resilience.doctor.finding import compare_clocks, write_error
from resilience.errors import MissingClientError, ResilienceWarning
from resilience.history.schema import migrations, sqlite_driver, sqlite_hazards
from resilience.testing import ScriptedBAML

CLIENT = "from baml_client.sync_client import b"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without settings, as the working directory."""
    for name in settings.all_settings():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with Valkey() as running:
        yield running


def problems(findings: Iterator[Finding]) -> list[Finding]:
    """Return the findings that are not ok. Each must have a remedy, and no other finding may."""
    everything = list(findings)
    assert [finding.verdict is not CheckVerdict.OK for finding in everything] == [
        bool(finding.remedy) for finding in everything
    ]
    return [finding for finding in everything if finding.verdict is not CheckVerdict.OK]


def no_client() -> None:
    msg = "no BAML client can be imported"
    raise MissingClientError(msg)


def only_problem(findings: Iterator[Finding]) -> Finding:
    (finding,) = problems(findings)
    return finding


class TestWhole:
    def test_a_healthy_project_passes(self, project: Path) -> None:
        """In a project without settings nothing fails, and the doctor creates no file but the store of circuits."""
        ended = CliRunner().invoke(app, ["doctor", "--json"])

        findings = json.loads(ended.stdout)
        assert (0, set()) == (
            ended.exit_code,
            {finding["subject"] for finding in findings if finding["verdict"] == "fail"},
        )
        assert {"settings", "circuits", "history", "logs", "baml", "forks"} <= {
            finding["subject"] for finding in findings
        }
        assert not (project / ".resilience" / "resilience.db").exists()

    def test_a_failed_check_is_exit_code_1_and_a_line_with_its_remedy(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The line has verdict, subject and message; the next line has the remedy."""
        monkeypatch.setenv("RESILIENCE_REDIS_URL", "redis://127.0.0.1:1/0")

        ended = CliRunner().invoke(app, ["doctor"])

        lines = ended.stdout.splitlines()
        (index,) = [index for index, line in enumerate(lines) if line.startswith("fail ")]
        assert 1 == ended.exit_code
        assert lines[index].startswith("fail circuits  redis://127.0.0.1:1/0 cannot be used: ")
        assert "-> start it, and check host, port" in lines[index + 1]

    def test_settings_that_are_not_valid_end_the_checks(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing else can be checked. The message names the source of the value."""
        monkeypatch.setenv("RESILIENCE_PRIVACY", "loud")

        finding = only_problem(examine())

        assert (CheckVerdict.FAIL, "settings") == (finding.verdict, finding.subject)
        assert "the variable RESILIENCE_PRIVACY of the environment" in finding.message

    @pytest.mark.parametrize("word", ["RETRY__DEADLINE", "LOG__BACKUPS", "RETENTION__ERRORS"])
    def test_policies_that_are_not_valid_end_the_checks_too(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, word: str
    ) -> None:
        """No handler could be made with them. This is found without a BAML client, too."""
        monkeypatch.setenv(f"RESILIENCE_{word}", "-5")

        finding = only_problem(examine())

        assert (CheckVerdict.FAIL, "settings") == (finding.verdict, finding.subject)
        assert f"the variable RESILIENCE_{word} of the environment" in finding.message

    def test_no_finding_shows_a_password(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A password is masked anywhere in a URL. The remedy fits the problem, and not a word of the URL."""
        url = "postgresql://127.0.0.1:1/none?user=ann&password=hunter2pw"
        monkeypatch.setenv("RESILIENCE_DATABASE_URL", url)

        ended = CliRunner().invoke(app, ["doctor"])

        assert "password=[secret]" in ended.stdout
        assert "start the server it names" in ended.stdout
        assert "hunter2" not in ended.output

    def test_an_unknown_variable_is_a_warning(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable with our prefix that no setting reads is a warning, with a similar name if there is one."""
        monkeypatch.setenv("RESILIENCE_LOG_DI", "/x")
        monkeypatch.setenv("RESILIENCE_ZZ", "/x")

        remedies = {finding.message: finding.remedy for finding in examine() if finding.subject == "settings"}

        assert "did you mean RESILIENCE_LOG_DIR?" == remedies["no setting reads RESILIENCE_LOG_DI"]
        assert "`resilience config show` lists all settings" == remedies["no setting reads RESILIENCE_ZZ"]


class TestCircuits:
    def test_a_healthy_server(self, server: Valkey) -> None:
        """A server that answers, can be written and has the right time is no problem."""
        findings = list(circuits.examine(Settings(redis_url=server.url)))

        assert [] == problems(iter(findings))
        assert {"circuits", "clock"} == {finding.subject for finding in findings}

    def test_a_store_that_does_not_exist_is_not_made(self, tmp_path: Path) -> None:
        """Looking creates no file: the next order from a wrong folder would find a store that no agent reads."""
        (finding,) = circuits.examine(Settings(store_url=f"sqlite:///{tmp_path}/circuits.db"))

        assert "does not exist yet" in finding.message
        assert [] == list(tmp_path.iterdir())

    def test_a_user_without_rights(self, server: Valkey) -> None:
        """The remedy for NOPERM names the page with the rights."""
        with server.looking() as client:
            execute: Any = client.execute_command
            execute("ACL", "SETUSER", "weak", "reset", "on", ">h7Ys93kd02Lq", "~resilience:*", "+time")

        finding = only_problem(
            circuits.examine(Settings(redis_url=f"{server.url}?username=weak&password=h7Ys93kd02Lq"))
        )

        assert (CheckVerdict.FAIL, True) == (finding.verdict, "ACL SETUSER" in finding.remedy)
        assert "h7Ys93kd02Lq" not in finding.message

    def test_a_wrong_password_is_never_shown(self, server: Valkey) -> None:
        """The URL is shown without its password, and the remedy names user and password."""
        finding = only_problem(
            circuits.examine(Settings(redis_url=f"{server.url}?username=nobody&password=h7Ys93kd02Lq"))
        )

        assert (CheckVerdict.FAIL, True) == (finding.verdict, "user and password" in finding.remedy)
        assert "h7Ys93kd02Lq" not in finding.message + finding.remedy

    def test_a_replica_cannot_be_written(self) -> None:
        """A replica answers reads and refuses every result, so the remedy names the primary."""
        with Valkey("--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "yes") as replica:
            failures = [
                finding
                for finding in problems(circuits.examine(Settings(redis_url=replica.url)))
                if finding.verdict is CheckVerdict.FAIL
            ]

        assert [True] == ["the primary" in finding.remedy for finding in failures]

    def test_a_server_that_evicts_may_close_circuits(self) -> None:
        """A circuit is a hash. A server that evicts it closes the circuit."""
        with Valkey("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as evicting:
            finding = only_problem(circuits.examine(Settings(redis_url=evicting.url)))

        assert (CheckVerdict.WARN, True) == (finding.verdict, "noeviction" in finding.remedy)

    def test_a_memory_store_is_a_warning(self) -> None:
        """It works, but no process learns of an outage from another."""
        finding = only_problem(circuits.examine(Settings(store_url="memory://")))

        assert (CheckVerdict.WARN, True) == (finding.verdict, "RESILIENCE_REDIS_URL" in finding.remedy)

    def test_a_url_that_is_not_supported_is_refused(self) -> None:
        """The message lists the supported URLs."""
        finding = only_problem(circuits.examine(Settings(store_url="etcd://x")))

        assert (CheckVerdict.FAIL, True) == (finding.verdict, "sqlite:///" in finding.message)

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        """A problem of the SQLite store has another remedy than one of a server."""
        (tmp_path / "circuits.db").write_text(
            "no database at all, but long enough to look like a page " * 100
        )

        finding = only_problem(circuits.examine(Settings(store_url=f"sqlite:///{tmp_path}/circuits.db")))

        assert (CheckVerdict.FAIL, True) == (finding.verdict, "writable SQLite file" in finding.remedy)

    @pytest.mark.parametrize(
        ("skew", "verdict"), [(4.0, CheckVerdict.OK), (-61.0, CheckVerdict.WARN), (61.0, CheckVerdict.WARN)]
    )
    def test_clocks_that_disagree_are_a_warning(self, skew: float, verdict: CheckVerdict) -> None:
        """A difference of a few seconds is ok, a minute in either direction is a warning."""
        assert verdict is compare_clocks("clock", "it", skew).verdict

    def test_an_old_server(self) -> None:
        """Redis before 6.2 fails: step.lua needs a newer one."""

        class Old:
            def info(self) -> dict[str, object]:
                return {"redis_version": "5.0.14", "maxmemory": 0}

        finding = only_problem(circuits._check_configuration(Old()))

        assert (CheckVerdict.FAIL, "Redis 5.0.14") == (finding.verdict, finding.message)


class TestHistory:
    @pytest.fixture(autouse=True)
    def sqlite_without_the_bug(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Hide the bug of this Python's SQLite, if it has it."""
        monkeypatch.setattr(sqlite_driver, "has_reset_bug", lambda _: False)

    def test_an_sqlite_with_the_reset_bug_is_a_warning(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Several processes could damage one file, very rarely. The remedy is an extra with another build of SQLite."""
        monkeypatch.setattr(sqlite_driver, "has_reset_bug", lambda _: True)

        finding = only_problem(history.examine(Settings(database_url=f"sqlite:///{tmp_path}/h.db")))

        assert (CheckVerdict.WARN, True) == (
            finding.verdict,
            "baml-resilience[sqlite-fixed]" in finding.remedy,
        )

    def test_a_network_file_system_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Processes of one SQLite file need shared memory, which a network file system does not give them."""
        monkeypatch.setattr(sqlite_hazards, "remote", lambda _: "nfs4")

        finding = only_problem(history.examine(Settings(database_url=f"sqlite:///{tmp_path}/h.db")))

        assert (CheckVerdict.FAIL, True) == (finding.verdict, "local disk" in finding.remedy)

    def test_a_new_project_has_no_history_yet(self, tmp_path: Path) -> None:
        """A missing file is ok, because the first write creates it. The doctor does not."""
        assert [] == problems(history.examine(Settings(database_url=f"sqlite:///{tmp_path}/a/b.db")))
        assert not (tmp_path / "a").exists()

    def test_a_healthy_history(self, tmp_path: Path) -> None:
        """A database with the schema of this version that can be written is no problem."""
        url = f"sqlite:///{tmp_path}/h.db"
        migrations.upgrade(url)

        assert [] == problems(history.examine(Settings(database_url=url)))

    def test_damaged_values_are_counted(self, tmp_path: Path) -> None:
        """Every value that no version wrote is counted, by table and column. Values of agents, such as negative buckets, are none."""
        url = f"sqlite:///{tmp_path}/h.db"
        migrations.upgrade(url)
        values = {
            "duration": ("soon", b"x", float("inf"), -1.0, 2**62, 1.5),
            "attempts": (b"1", "many", -1, 10**16, 3),
            "streamed": (2, "yes", 1),
            "tags": ("[]", "no json", b"{}", "1", '{"a": 1}', '{"wait": -Infinity, "b": [NaN]}'),
            "started_at": (
                "2026-02-31 00:00:00.000000",
                "now",
                1.0,
                "2026-01-01T00:00:00Z",
                "2026-01-01 23:59:59.999999",
            ),
            "client": (b"A", "B"),
        }
        rows = [{name: value} for name, several in values.items() for value in several]
        keep(url, "calls", *({"call_id": f"{number:032x}"} for number in range(len(rows))))
        keep(url, "latencies", {"bucket": -40, "seconds": 0.5})
        with closing(sqlite3.connect(tmp_path / "h.db")) as connection, connection:
            for number, row in enumerate(rows):
                ((name, value),) = row.items()
                change = f"UPDATE calls SET {name} = ? WHERE call_id = ?"  # noqa: S608 - the names above
                connection.execute(change, (value, f"{number:032x}"))

        finding = only_problem(history.examine(Settings(database_url=url)))

        assert CheckVerdict.WARN is finding.verdict
        assert "20 damaged values" in finding.message
        assert "calls 20 (started_at, duration, client, attempts, tags, streamed)" in finding.message

    def test_privacy_off_has_no_history(self) -> None:
        """With privacy off there is nothing to check."""
        assert [] == problems(history.examine(Settings(privacy="off")))

    def test_a_newer_schema_fails(self, tmp_path: Path) -> None:
        """The remedy is a newer package or another database."""
        url = f"sqlite:///{tmp_path}/h.db"
        migrations.upgrade(url)
        with sqlite3.connect(tmp_path / "h.db") as connection:
            connection.execute("UPDATE resilience_version SET version_num = '9999'")
        connection.close()

        finding = only_problem(history.examine(Settings(database_url=url)))

        assert CheckVerdict.FAIL is finding.verdict
        assert "upgrade the baml-resilience package" in finding.remedy

    def test_a_folder_that_cannot_be_created(self) -> None:
        """The doctor finds it before the first record cannot be written."""
        finding = only_problem(history.examine(Settings(database_url="sqlite:////proc/none/h.db")))

        assert (CheckVerdict.FAIL, True) == (finding.verdict, "make its folder" in finding.remedy)

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        """The remedy is to move the file away."""
        (tmp_path / "h.db").write_text("no database at all, but long enough to look like a page " * 100)

        finding = only_problem(history.examine(Settings(database_url=f"sqlite:///{tmp_path}/h.db")))

        assert (CheckVerdict.FAIL, "move that file away") == (finding.verdict, finding.remedy)

    def test_another_process_holds_the_lock(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The remedy is to find the process."""
        monkeypatch.setattr(history, "_LOCK_TIMEOUT", 0.05)
        url = f"sqlite:///{tmp_path}/h.db"
        migrations.upgrade(url)
        holder = sqlite3.connect(tmp_path / "h.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        try:
            finding = only_problem(history.examine(Settings(database_url=url)))
        finally:
            holder.close()

        assert (CheckVerdict.FAIL, True) == (finding.verdict, "holds the lock" in finding.remedy)

    def test_postgresql_needs_an_upgrade(self, postgres_url: str) -> None:
        """The operator creates the tables of a server. The remedy is the command, and after it there is no problem."""
        settings = Settings(database_url=postgres_url)
        assert "run `resilience db upgrade`" == only_problem(history.examine(settings)).remedy

        migrations.upgrade(postgres_url)

        findings = list(history.examine(settings))
        assert [] == problems(iter(findings))
        assert "clock" in {finding.subject for finding in findings}

    def test_a_database_that_does_not_exist(self, postgres_url: str) -> None:
        """The remedy is to create the database."""
        missing = sa.make_url(postgres_url).set(database="nowhere").render_as_string(hide_password=False)

        finding = only_problem(history.examine(Settings(database_url=missing)))

        assert (CheckVerdict.FAIL, True) == (finding.verdict, "create the database" in finding.remedy)

    def test_a_server_with_another_time_is_a_warning(self) -> None:
        """Time stamps of the database and of agents could not be compared."""

        class Connection:
            dialect = type("dialect", (), {"name": "postgresql"})

            def scalar(self, _: object) -> datetime:
                return datetime.now(UTC) + timedelta(hours=1)

        finding = only_problem(history._check_clock(Connection(), datetime.now(UTC)))

        assert (CheckVerdict.WARN, True) == (finding.verdict, "NTP" in finding.remedy)


class TestLogs:
    def test_a_folder_that_can_be_written(self, tmp_path: Path) -> None:
        """The folder may be missing: the first line creates it."""
        assert [] == problems(logs.examine(Settings(log_dir=tmp_path / "later")))

    def test_a_folder_that_cannot(self) -> None:
        """A folder that cannot be written fails: all log lines would be lost."""
        finding = only_problem(logs.examine(Settings(log_dir="/proc/none")))

        assert (CheckVerdict.FAIL, True) == (finding.verdict, "RESILIENCE_LOG_DIR" in finding.remedy)

    def test_a_disk_that_is_nearly_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Little free space is a warning, before lines are lost."""
        monkeypatch.setattr(logs, "_LOW_SPACE", 2**62)

        assert (
            "free space on its disk; lines are lost when it is full"
            == only_problem(logs.examine(Settings(log_dir=tmp_path))).remedy
        )

    def test_trying_to_write_leaves_nothing(self, tmp_path: Path) -> None:
        """The check of a missing folder writes above it, and removes what it wrote."""
        assert "" == write_error(tmp_path / "a" / "b")
        assert [] == list(tmp_path.iterdir())


class TestClients:
    @pytest.mark.parametrize(
        ("installed", "verdict"),
        [("0.208.5", CheckVerdict.FAIL), ("0.209.0", CheckVerdict.OK), ("1.0.0", CheckVerdict.OK)],
    )
    def test_the_version_of_baml(self, installed: str, verdict: CheckVerdict) -> None:
        """A version before 0.209.0 fails."""
        (finding,) = clients.version(installed)
        assert verdict is finding.verdict

    def test_a_missing_generated_client_is_no_failure(self, project: Path) -> None:
        """A program may pass another client to protect()."""
        assert CheckVerdict.FAIL not in {finding.verdict for finding in clients.examine(Settings())}

    @pytest.mark.parametrize(
        ("package", "root"),
        [
            ("baml_client", "."),
            ("src/baml_client", "src"),
            ("baml_client/baml_client", "."),
            ("src/app/baml_client", "src/app"),
        ],
    )
    def test_a_client_in_the_project_is_found_and_not_imported(
        self, package: str, root: str, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The command imports no code from the folder that it is called in. The remedy is the command that does, and not generating."""
        monkeypatch.setattr(clients, "find_spec", lambda _: None)
        monkeypatch.setattr(baml, "installed_client", no_client)
        for name in ("__init__.py", "async_client.py"):
            path = project / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("raise SystemExit('imported')")
        (project / package).parent.joinpath("__init__.py").touch()

        finding = only_problem(clients.examine(Settings()))

        assert f"PYTHONPATH={shlex.quote(str(project / root))} resilience doctor" == finding.remedy
        assert str(project / root) in finding.message

    def test_a_policy_with_an_unknown_client(self, b: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A client that is not declared would stop an agent at its start. The message has a similar name."""
        monkeypatch.setenv("RESILIENCE_FALLBACK", "Secundary")

        finding = only_problem(clients._check_client(b, Settings(store_url="memory://")))

        assert (CheckVerdict.FAIL, "clients") == (finding.verdict, finding.subject)
        assert "Secondary" in finding.message

    def test_the_clients_are_listed(self, b: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """With a backup, a time limit and the variables that its clients need, a generated client is no problem."""
        monkeypatch.setenv("RESILIENCE_FALLBACK", "Secondary")
        monkeypatch.setenv("RESILIENCE_RETRY__ATTEMPT_TIMEOUT", "30")
        for client in ("PRIMARY", "SECONDARY"):
            for word in ("BASE_URL", "API_KEY", "MODEL"):
                monkeypatch.setenv(f"{client}_{word}", "x")

        findings = list(clients._check_client(b, Settings(store_url="memory://")))

        assert [] == problems(iter(findings))
        assert "Primary" in findings[-1].message

    def test_a_project_without_backups(self, b: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nothing names another client, the warning says how to name one."""
        monkeypatch.setenv("RESILIENCE_RETRY__ATTEMPT_TIMEOUT", "30")
        for word in ("BASE_URL", "API_KEY", "MODEL"):
            monkeypatch.setenv(f"PRIMARY_{word}", "x")

        finding = only_problem(clients._check_client(b, Settings(store_url="memory://")))

        assert "nothing can fall back" in finding.message
        assert "FallbackPolicy(clients=...)" in finding.remedy

    def test_a_policy_without_a_time_limit(self, b: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where no attempt_timeout is set, the warning says what BAML does then and how to set one."""
        monkeypatch.setenv("RESILIENCE_FALLBACK", "Secondary")
        for client in ("PRIMARY", "SECONDARY"):
            for word in ("BASE_URL", "API_KEY", "MODEL"):
                monkeypatch.setenv(f"{client}_{word}", "x")

        finding = only_problem(clients._check_client(b, Settings(store_url="memory://")))

        assert "BAML waits 300 s" in finding.message
        assert "RetryPolicy(attempt_timeout=30.0)" in finding.remedy

    def test_a_warning_of_protect_is_a_finding(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A warning of protect() becomes a finding with its remedy, and is not printed."""
        monkeypatch.setenv("RESILIENCE_RETRY__ATTEMPT_TIMEOUT", "30")

        def warned(*_: object) -> None:
            warnings.warn("attempts multiply: X; take retry_policy off", ResilienceWarning, stacklevel=1)

        monkeypatch.setattr(clients, "protect", warned)

        finding = only_problem(clients._check_client(ScriptedBAML(), Settings(store_url="memory://")))

        assert ("attempts multiply: X", "take retry_policy off") == (finding.message, finding.remedy)


class TestForks:
    def test_gunicorn_preload_is_seen(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The option on the command line and the line in its file are warnings."""
        monkeypatch.setenv("GUNICORN_CMD_ARGS", "--preload -w 4")
        (project / "gunicorn.conf.py").write_text("workers = 4\npreload_app = True\n")

        messages = [finding.message for finding in problems(forks.examine(Settings()))]

        assert "GUNICORN_CMD_ARGS has --preload" in messages
        assert f"{project}/gunicorn.conf.py sets preload_app" in messages

    def test_a_start_method_that_forks_is_seen(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only the default start method counts; spawn and forkserver are safe."""
        monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn", "fork"])
        assert [] == problems(forks.examine(Settings()))

        monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["fork", "spawn"])
        assert ["multiprocessing forks by default on this Python"] == [
            finding.message for finding in problems(forks.examine(Settings()))
        ]

    @pytest.mark.parametrize(
        ("files", "through"),
        [
            ({"tasks.py": "from baml_client.sync_client import b"}, ""),
            (
                {"tasks.py": "import app.llm", "app/llm.py": "from . import client", "app/client.py": CLIENT},
                "app/client.py",
            ),
            (
                {
                    "tasks.py": "from llm import ask",
                    "src/llm.py": f"try:\n    {CLIENT}\nexcept ImportError: pass",
                },
                "src/llm.py",
            ),
        ],
    )
    def test_celery_tasks_beside_an_import_of_the_client_are_seen(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], through: str
    ) -> None:
        """The module of the tasks imports the blocking client as it loads, itself or through others."""
        monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
        write_modules(project, files)

        finding = only_problem(forks.examine(Settings()))

        assert finding.message.startswith("tasks.py imports Celery, and baml_client as it loads")
        assert through in finding.message
        assert "worker_process_init" in finding.remedy

    @pytest.mark.parametrize(
        "text",
        [
            "def task():\n    from baml_client.sync_client import b",
            "from baml_client.async_client import b",
            "from baml_client.types import Resume",
            "if TYPE_CHECKING:\n    from baml_client.sync_client import b",
            "app = Celery(worker_pool = 'threads')\nfrom baml_client.sync_client import b",
            "from baml_client.sync_client import b this is no Python",
        ],
    )
    def test_other_celery_tasks_are_not_warned_of(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        """Imports inside of tasks, of the async client, of types, for type checkers; and a pool that does not fork."""
        monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
        write_modules(project, {"tasks.py": text, "other.py": CLIENT})

        assert [] == problems(forks.examine(Settings()))

    def test_the_example_for_celery_is_right(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is found in the folder of the examples, whose worker imports its client after the fork."""
        monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
        (examples,) = (Path(__file__).parents[2] / "examples").glob("celery_app.py")

        assert [] == list(forks._celery(examples.parent))
        assert [examples] == list(imports.ProjectSources(examples.parent).importing("celery"))

    @pytest.mark.parametrize(("module", "found"), [("sync_client", 1), ("async_client", 0)])
    def test_the_clients_default_decides_what_b_is(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, module: str, found: int
    ) -> None:
        """`baml_client.b` blocks if `default_client_mode` of the generator says so."""
        monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
        write_modules(
            project,
            {"tasks.py": "from baml_client import b", "baml_client/__init__.py": f"from .{module} import b"},
        )

        assert found == len(problems(forks.examine(Settings())))


def write_modules(project: Path, files: dict[str, str]) -> None:
    """Write modules of a project; `tasks.py` imports Celery."""
    for name, text in files.items():
        path = project / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"from celery import Celery\n{text}\n" if name == "tasks.py" else f"{text}\n")


class TestFiles:
    def test_files_that_others_may_read(self, project: Path) -> None:
        """History, circuits, key, logs and `.env` of another mode than 0600 are warnings with the command that mends it."""
        folder = project / ".resilience"
        folder.mkdir()
        paths = [project / ".env", folder / "circuits.db", folder / "resilience.db", folder / "hash.key"]
        for path in (*paths, project / "errors.jsonl"):
            path.touch()
            path.chmod(0o644)

        found = problems(files.examine(Settings(log_dir=project).complete()))

        assert {CheckVerdict.WARN} == {finding.verdict for finding in found}
        remedies = " ".join(finding.remedy for finding in found)
        assert all(f"{path}" in remedies for path in (*paths, project / "errors.jsonl"))
        assert "chmod 600" in remedies

    def test_files_that_agents_refuse(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What another user could have planted is a failure: of settings, key, databases, logs and their folders."""
        folder, logs_folder = project / ".resilience", project / "logs"
        folder.mkdir()
        logs_folder.mkdir()
        (project / ".env").write_text("RESILIENCE_NAMESPACE=evil\n")
        paths = [project / ".env", folder / "circuits.db", folder / "resilience.db", folder / "hash.key"]
        paths.append(logs_folder / "errors.jsonl")
        for path in paths:
            path.touch(0o600)
        logs_folder.chmod(0o777)
        give_away(monkeypatch, *paths)

        found = problems(files.examine(Settings(log_dir=logs_folder).complete()))

        failed = [finding for finding in found if finding.verdict is CheckVerdict.FAIL]
        assert all(any(str(path) in finding.message for finding in failed) for path in (*paths, logs_folder))
        assert all("RESILIENCE_TRUST_DIRS" in finding.remedy for finding in failed)

    def test_urls_that_nothing_supports_name_no_file(self, project: Path) -> None:
        """Other checks report them; this one goes on with the rest."""
        complete = Settings(store_url="evil://x", database_url="evil://x").complete()

        assert [] == problems(files.examine(complete))
