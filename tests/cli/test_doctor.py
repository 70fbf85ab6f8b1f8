"""`resilience doctor`: every trouble it knows, made for real, is seen and comes with its remedy."""

from __future__ import annotations

import json
import os
import sqlite3
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.valkey_servers import Valkey
from typer.testing import CliRunner

from resilience.cli import app
from resilience.config import settings
from resilience.config.settings import Settings
from resilience.doctor import Finding, Verdict, circuits, clients, examine, history, logs
from resilience.doctor.finding import compare_clocks, write_error
from resilience.errors import ResilienceWarning
from resilience.history.schema import migrations, sqlite_driver, sqlite_hazards
from resilience.testing import ScriptedBAML


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with nothing written down, which is the working directory."""
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


def troubles(findings: Iterator[Finding]) -> list[Finding]:
    """What is not well; each trouble has its remedy and nothing else has one."""
    found = list(findings)
    assert [each.verdict is not Verdict.OK for each in found] == [bool(each.remedy) for each in found]
    return [each for each in found if each.verdict is not Verdict.OK]


def the_trouble(findings: Iterator[Finding]) -> Finding:
    (found,) = troubles(findings)
    return found


class TestWhole:
    def test_a_healthy_project_passes(self, project: Path) -> None:
        """With nothing set up but a project, nothing fails, and nothing is left behind but the store of circuits."""
        ended = CliRunner().invoke(app, ["doctor", "--json"])

        found = json.loads(ended.stdout)
        assert (0, set()) == (
            ended.exit_code,
            {each["subject"] for each in found if each["verdict"] == "fail"},
        )
        assert {"settings", "circuits", "history", "logs", "baml", "forks"} <= {
            each["subject"] for each in found
        }
        assert not (project / ".resilience" / "resilience.db").exists()

    def test_what_does_not_work_is_exit_code_1_and_one_line_with_its_remedy(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The table names subject, what was seen and how to mend it."""
        monkeypatch.setenv("RESILIENCE_REDIS_URL", "redis://127.0.0.1:1/0")

        ended = CliRunner().invoke(app, ["doctor"])

        lines = ended.stdout.splitlines()
        (at,) = [place for place, line in enumerate(lines) if line.startswith("fail ")]
        assert 1 == ended.exit_code
        assert lines[at].startswith("fail circuits  redis://127.0.0.1:1/0 cannot be used: ")
        assert "-> start it, and check host, port" in lines[at + 1]

    def test_settings_that_cannot_be_read_end_the_examination(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """There is nothing to examine with; the message says where the wrong value stands."""
        monkeypatch.setenv("RESILIENCE_PRIVACY", "loud")

        found = the_trouble(examine())

        assert (Verdict.FAIL, "settings") == (found.verdict, found.subject)
        assert "the variable RESILIENCE_PRIVACY of the environment" in found.message

    @pytest.mark.parametrize("word", ["RETRY__DEADLINE", "LOG__BACKUPS", "RETENTION__ERRORS"])
    def test_policies_that_cannot_be_read_end_it_too(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, word: str
    ) -> None:
        """No handler could be made; that is seen without a BAML client, too."""
        monkeypatch.setenv(f"RESILIENCE_{word}", "-5")

        found = the_trouble(examine())

        assert (Verdict.FAIL, "settings") == (found.verdict, found.subject)
        assert f"the variable RESILIENCE_{word} of the environment" in found.message

    def test_no_finding_shows_a_password(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wherever in an URL it stands; and the remedy is that of the trouble, not of a word in the URL."""
        url = "postgresql://127.0.0.1:1/none?user=ann&password=hunter2pw"
        monkeypatch.setenv("RESILIENCE_DATABASE_URL", url)

        ended = CliRunner().invoke(app, ["doctor"])

        assert "password=[secret]" in ended.stdout
        assert "start the server it names" in ended.stdout
        assert "hunter2" not in ended.output

    def test_a_mistyped_variable_is_pointed_at(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable with our prefix that nobody reads is a typing error, or somebody else's."""
        monkeypatch.setenv("RESILIENCE_LOG_DI", "/x")
        monkeypatch.setenv("RESILIENCE_ZZ", "/x")

        found = {each.message: each.remedy for each in examine() if each.subject == "settings"}

        assert "did you mean RESILIENCE_LOG_DIR?" == found["no setting reads RESILIENCE_LOG_DI"]
        assert "`resilience config show` lists all settings" == found["no setting reads RESILIENCE_ZZ"]


class TestCircuits:
    def test_a_server_that_is_well(self, server: Valkey) -> None:
        """Reached, written and on a clock that agrees: nothing to mend."""
        found = list(circuits.examine(Settings(redis_url=server.url)))

        assert [] == troubles(iter(found))
        assert {"circuits", "clock"} == {each.subject for each in found}

    def test_a_user_without_rights_is_told_which_are_needed(self, server: Valkey) -> None:
        """NOPERM points at the list of rights."""
        with server.looking() as client:
            execute: Any = client.execute_command
            execute("ACL", "SETUSER", "weak", "reset", "on", ">h7Ys93kd02Lq", "~resilience:*", "+time")

        found = the_trouble(
            circuits.examine(Settings(redis_url=f"{server.url}?username=weak&password=h7Ys93kd02Lq"))
        )

        assert (Verdict.FAIL, True) == (found.verdict, "ACL SETUSER" in found.remedy)
        assert "h7Ys93kd02Lq" not in found.message

    def test_a_wrong_password_is_never_shown(self, server: Valkey) -> None:
        """The URL is shown without it, and the remedy names user and password."""
        found = the_trouble(
            circuits.examine(Settings(redis_url=f"{server.url}?username=nobody&password=h7Ys93kd02Lq"))
        )

        assert (Verdict.FAIL, True) == (found.verdict, "user and password" in found.remedy)
        assert "h7Ys93kd02Lq" not in found.message + found.remedy

    def test_a_replica_answers_and_cannot_be_written(self) -> None:
        """What a peek does not show: the server would refuse every result."""
        with Valkey("--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "yes") as replica:
            found = troubles(circuits.examine(Settings(redis_url=replica.url)))

        assert [True] == ["the primary" in each.remedy for each in found if each.verdict is Verdict.FAIL]

    def test_a_server_that_evicts_may_close_circuits(self) -> None:
        """An evicted hash is a closed circuit."""
        with Valkey("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as evicting:
            found = the_trouble(circuits.examine(Settings(redis_url=evicting.url)))

        assert (Verdict.WARN, True) == (found.verdict, "noeviction" in found.remedy)

    def test_memory_is_shared_with_nobody(self) -> None:
        """It works, and every process learns of an outage anew."""
        found = the_trouble(circuits.examine(Settings(store_url="memory://")))

        assert (Verdict.WARN, True) == (found.verdict, "RESILIENCE_REDIS_URL" in found.remedy)

    def test_a_url_of_another_kind_is_refused(self) -> None:
        """The message lists what there is."""
        found = the_trouble(circuits.examine(Settings(store_url="etcd://x")))

        assert (Verdict.FAIL, True) == (found.verdict, "sqlite:///" in found.message)

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        """The embedded store's trouble has a remedy of its own."""
        (tmp_path / "circuits.db").write_text(
            "no database at all, but long enough to look like a page " * 100
        )

        found = the_trouble(circuits.examine(Settings(store_url=f"sqlite:///{tmp_path}/circuits.db")))

        assert (Verdict.FAIL, True) == (found.verdict, "writable SQLite file" in found.remedy)

    @pytest.mark.parametrize(
        ("skew", "verdict"), [(4.0, Verdict.OK), (-61.0, Verdict.WARN), (61.0, Verdict.WARN)]
    )
    def test_clocks_apart_are_told(self, skew: float, verdict: Verdict) -> None:
        """Circuits do not mind, people who compare stamps do."""
        assert verdict is compare_clocks("clock", "it", skew).verdict

    def test_an_old_server_is_named(self) -> None:
        """Redis before 6.2 lacks what the script needs."""

        class Old:
            def info(self) -> dict[str, object]:
                return {"redis_version": "5.0.14", "maxmemory": 0}

        found = the_trouble(circuits._check_configuration(Old()))

        assert (Verdict.FAIL, "Redis 5.0.14") == (found.verdict, found.message)


class TestHistory:
    @pytest.fixture(autouse=True)
    def sound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever SQLite this Python was built with."""
        monkeypatch.setattr(sqlite_driver, "has_reset_bug", lambda _: False)

    def test_an_sqlite_with_the_reset_bug_is_named_with_its_cure(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Several processes on one file could damage it, very rarely; an extra brings a build without."""
        monkeypatch.setattr(sqlite_driver, "has_reset_bug", lambda _: True)

        found = the_trouble(history.examine(Settings(database_url=f"sqlite:///{tmp_path}/h.db")))

        assert (Verdict.WARN, True) == (found.verdict, "baml-resilience[sqlite-fixed]" in found.remedy)

    def test_a_file_on_another_machine_is_no_place_for_processes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """SQLite keeps processes apart through shared memory, which no network file system has."""
        monkeypatch.setattr(sqlite_hazards, "remote", lambda _: "nfs4")

        found = the_trouble(history.examine(Settings(database_url=f"sqlite:///{tmp_path}/h.db")))

        assert (Verdict.FAIL, True) == (found.verdict, "local disk" in found.remedy)

    def test_a_new_project_has_none_yet(self, tmp_path: Path) -> None:
        """The first write makes it; the doctor does not."""
        assert [] == troubles(history.examine(Settings(database_url=f"sqlite:///{tmp_path}/a/b.db")))
        assert not (tmp_path / "a").exists()

    def test_one_that_is_well(self, tmp_path: Path) -> None:
        """Upgraded and writable."""
        url = f"sqlite:///{tmp_path}/h.db"
        migrations.upgrade(url)

        assert [] == troubles(history.examine(Settings(database_url=url)))

    def test_none_is_wanted(self) -> None:
        """With privacy off there is nothing to look at."""
        assert [] == troubles(history.examine(Settings(privacy="off")))

    def test_a_newer_one_is_not_touched(self, tmp_path: Path) -> None:
        """The remedy is newer code, or another database."""
        url = f"sqlite:///{tmp_path}/h.db"
        migrations.upgrade(url)
        with sqlite3.connect(tmp_path / "h.db") as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.close()

        found = troubles(history.examine(Settings(database_url=url)))

        assert [Verdict.FAIL] == [each.verdict for each in found]
        assert "upgrade the baml-resilience package" in found[0].remedy

    def test_a_folder_that_cannot_be_made(self) -> None:
        """Seen before the first record is lost for want of a file."""
        found = the_trouble(history.examine(Settings(database_url="sqlite:////proc/none/h.db")))

        assert (Verdict.FAIL, True) == (found.verdict, "make its folder" in found.remedy)

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        """Move it away."""
        (tmp_path / "h.db").write_text("no database at all, but long enough to look like a page " * 100)

        found = the_trouble(history.examine(Settings(database_url=f"sqlite:///{tmp_path}/h.db")))

        assert (Verdict.FAIL, "move that file away") == (found.verdict, found.remedy)

    def test_another_process_holds_the_lock(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The remedy is to find it."""
        monkeypatch.setattr(history, "_LOCK_TIMEOUT", 0.05)
        url = f"sqlite:///{tmp_path}/h.db"
        migrations.upgrade(url)
        holder = sqlite3.connect(tmp_path / "h.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        try:
            found = the_trouble(history.examine(Settings(database_url=url)))
        finally:
            holder.close()

        assert (Verdict.FAIL, True) == (found.verdict, "holds the lock" in found.remedy)

    def test_postgresql_wants_its_tables_made(self, postgres_url: str) -> None:
        """A server's database is upgraded by its operator; the command is named, and after it all is well."""
        settings = Settings(database_url=postgres_url)
        assert "run `resilience db upgrade`" == the_trouble(history.examine(settings)).remedy

        migrations.upgrade(postgres_url)

        found = list(history.examine(settings))
        assert [] == troubles(iter(found))
        assert "clock" in {each.subject for each in found}

    def test_a_database_that_does_not_exist(self, postgres_url: str) -> None:
        """The remedy is to create it."""
        missing = sa.make_url(postgres_url).set(database="nowhere").render_as_string(hide_password=False)

        found = the_trouble(history.examine(Settings(database_url=missing)))

        assert (Verdict.FAIL, True) == (found.verdict, "create the database" in found.remedy)

    def test_a_server_clock_apart_is_told(self) -> None:
        """The database's stamps and ours would not compare."""

        class Connection:
            dialect = type("dialect", (), {"name": "postgresql"})

            def scalar(self, _: object) -> datetime:
                return datetime.now(UTC) + timedelta(hours=1)

        found = the_trouble(history._check_clock(Connection(), datetime.now(UTC)))

        assert (Verdict.WARN, True) == (found.verdict, "NTP" in found.remedy)


class TestLogs:
    def test_a_folder_that_can_be_written(self, tmp_path: Path) -> None:
        """It need not exist yet."""
        assert [] == troubles(logs.examine(Settings(log_dir=tmp_path / "later")))

    def test_a_folder_that_cannot(self) -> None:
        """Lines would be lost."""
        found = the_trouble(logs.examine(Settings(log_dir="/proc/none")))

        assert (Verdict.FAIL, True) == (found.verdict, "RESILIENCE_LOG_DIR" in found.remedy)

    def test_files_that_others_may_read(self, tmp_path: Path) -> None:
        """Ours are 0600; what made these was something else."""
        (tmp_path / "errors.jsonl").touch(0o644)
        os.chmod(tmp_path / "errors.jsonl", 0o644)  # noqa: PTH101 - whatever the umask is

        found = the_trouble(logs.examine(Settings(log_dir=tmp_path)))

        assert ("others may read errors.jsonl", Verdict.WARN) == (found.message, found.verdict)

    def test_a_disk_that_is_nearly_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Said before lines are lost."""
        monkeypatch.setattr(logs, "_LOW_SPACE", 2**62)

        assert (
            "free space on its disk; lines are lost when it is full"
            == the_trouble(logs.examine(Settings(log_dir=tmp_path))).remedy
        )

    def test_a_proof_leaves_nothing(self, tmp_path: Path) -> None:
        """Trying to write leaves no file."""
        assert "" == write_error(tmp_path / "a" / "b")
        assert [] == list(tmp_path.iterdir())


class TestClients:
    @pytest.mark.parametrize(
        ("installed", "verdict"), [("0.208.5", Verdict.FAIL), ("0.209.0", Verdict.OK), ("1.0.0", Verdict.OK)]
    )
    def test_the_version_of_baml(self, installed: str, verdict: Verdict) -> None:
        """Older than 0.209.0 is not promised to work."""
        (found,) = clients.version(installed)
        assert verdict is found.verdict

    def test_without_a_generated_client_the_rest_is_examined(self, project: Path) -> None:
        """A program may give its own client; so it is no failure."""
        assert Verdict.FAIL not in {each.verdict for each in clients.examine(Settings())}

    def test_a_name_no_client_has(self, b: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A policy that names a client nobody declared fails at start; the doctor says so before."""
        monkeypatch.setenv("RESILIENCE_FALLBACK", "Secundary")

        found = troubles(clients._check_client(b, Settings(store_url="memory://")))

        assert [(Verdict.FAIL, "clients")] == [(each.verdict, each.subject) for each in found]
        assert "Secondary" in found[0].message

    def test_the_clients_are_listed(self, b: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """With the environment they need, nothing is wrong with them."""
        for client in ("PRIMARY", "SECONDARY"):
            for word in ("BASE_URL", "API_KEY", "MODEL"):
                monkeypatch.setenv(f"{client}_{word}", "x")

        found = list(clients._check_client(b, Settings(store_url="memory://")))

        assert [] == troubles(iter(found))
        assert "Primary" in found[-1].message

    def test_a_warning_of_protect_is_a_finding(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What protect() warns of is told with its remedy, and not printed."""

        def warned(*_: object) -> None:
            warnings.warn("attempts multiply: X; take retry_policy off", ResilienceWarning, stacklevel=1)

        monkeypatch.setattr(clients, "protect", warned)

        found = the_trouble(clients._check_client(ScriptedBAML(), Settings(store_url="memory://")))

        assert ("attempts multiply: X", "take retry_policy off") == (found.message, found.remedy)


class TestForks:
    def test_gunicorn_preload_is_seen(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both on its command line and in its file."""
        monkeypatch.setenv("GUNICORN_CMD_ARGS", "--preload -w 4")
        (project / "gunicorn.conf.py").write_text("workers = 4\npreload_app = True\n")

        told = [each.message for each in troubles(clients.forks(Settings()))]

        assert "GUNICORN_CMD_ARGS has --preload" in told
        assert f"{project}/gunicorn.conf.py sets preload_app" in told

    def test_a_start_method_that_forks_is_seen(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The default of multiprocessing decides; spawn and forkserver are safe."""
        monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn", "fork"])
        assert [] == troubles(clients.forks(Settings()))

        monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["fork", "spawn"])
        assert ["multiprocessing forks by default on this Python"] == [
            each.message for each in troubles(clients.forks(Settings()))
        ]
