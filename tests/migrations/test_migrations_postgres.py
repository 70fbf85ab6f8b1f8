"""Upgrades of a PostgreSQL database: as on a file, but only when the operator asks for it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from support.history_records import error
from support.postgres import Postgres, asked, fresh
from test_migrations import HALF, TOP

from resilience import notices
from resilience.errors import HistoryError
from resilience.history import DURABILITIES, Recorder
from resilience.history.reader.connections import open_blocking
from resilience.history.schema import migrations, urls, version_table
from resilience.history.schema.engine import open_engine
from resilience.history.schema.tables import describe_for_postgresql, metadata


def snapshot(url: str) -> dict[str, object]:
    """Return every column, constraint and index as PostgreSQL itself describes it."""
    columns = asked(
        url,
        "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default,"
        " col_description((table_schema || '.' || table_name)::regclass, ordinal_position)"
        " FROM information_schema.columns WHERE table_schema = 'resilience' AND table_name !~ '^(v_|resilience_)'",
    )
    constraints = asked(
        url,
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = to_regnamespace('resilience') AND contype <> 'n' AND conrelid::regclass::text !~ 'resilience_'",
    )
    indexes = asked(
        url,
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'resilience' AND tablename !~ 'resilience_'",
    )
    return {
        "columns": sorted(columns, key=str),
        "constraints": sorted(constraints),
        "indexes": sorted(indexes),
    }


def in_schema(url: str) -> sa.Engine:
    """Return an engine of SQLAlchemy alone, for which the history's schema is the default one."""
    return sa.create_engine(url, connect_args={"options": "-csearch_path=resilience"})


def test_migrations_create_what_the_tables_describe(postgres: Postgres, postgres_url: str) -> None:
    """A migrated database and one created from the table objects are equal, down to CHECKs, comments and partial indexes."""
    describe_for_postgresql()
    migrations.upgrade(postgres_url)
    with fresh(postgres) as url:
        asked(url, "CREATE SCHEMA resilience")
        engine = in_schema(url)
        metadata.create_all(engine)
        engine.dispose()
        models = snapshot(url)

    migrated = snapshot(postgres_url)
    assert migrated == models
    assert "CHECK" in str(migrated["constraints"])
    assert "WHERE" in str(migrated["indexes"])


def test_alembic_sees_no_difference_either(postgres_url: str) -> None:
    """What `alembic check` compares is equal, and a second upgrade changes nothing."""
    migrations.upgrade(postgres_url)
    migrations.upgrade(postgres_url)
    engine = in_schema(postgres_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "version_table": version_table.NAME,
            },
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_every_migration_goes_down_and_up_again(postgres_url: str) -> None:
    """Down to nothing leaves no table; up again gives the same as before."""
    migrations.upgrade(postgres_url)
    before = snapshot(postgres_url)
    migrations.downgrade(postgres_url, "base")
    assert snapshot(postgres_url) == {"columns": [], "constraints": [], "indexes": []}
    assert migrations.current(postgres_url) is None
    migrations.upgrade(postgres_url)

    assert before == snapshot(postgres_url)


def test_a_newer_database_is_refused_with_the_remedy(postgres_url: str) -> None:
    """An upgrade does not touch it, and a recorder writes nothing to it."""
    migrations.upgrade(postgres_url)
    asked(postgres_url, "UPDATE resilience_version SET version_num = '9999'")
    with pytest.raises(migrations.NewerHistoryError, match="upgrade the baml-resilience package"):
        migrations.upgrade(postgres_url)
    recorder = Recorder(postgres_url)
    recorder.record(error())
    assert not recorder.flush(20)
    recorder.close(20)

    assert asked(postgres_url, "SELECT count(*) FROM errors") == [(0,)]


def test_a_server_is_not_upgraded_by_a_recorder(
    postgres_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records wait, the log names the command without the password, and after the upgrade all records are written.

    It is a notice: a program that configures no logging has it on standard error.
    """
    warn, notified = notices.warn, list[str]()

    def warn_and_keep(logger: logging.Logger, kind: str, message: str) -> None:
        notified.append(message)
        warn(logger, kind, message)

    monkeypatch.setattr(notices, "warn", warn_and_keep)
    secret = postgres_url.replace("postgres:@", "postgres:hunter2@")
    recorder = Recorder(secret)
    recorder.record(error())
    assert not recorder.flush(20)
    assert asked(
        postgres_url, "SELECT count(*) FROM pg_tables WHERE schemaname IN ('public', 'resilience')"
    ) == [(0,)]
    assert "has no tables yet: run `resilience db upgrade`" in caplog.text
    assert "has no tables yet: run `resilience db upgrade`" in notified[0]
    assert "hunter2" not in caplog.text
    # The recorder tries again by itself, so the schema is never whole meanwhile.
    asked(postgres_url, "CREATE SCHEMA resilience CREATE TABLE resilience_version (version_num varchar(32))")
    asked(postgres_url, "INSERT INTO resilience_version VALUES ('0001')")
    assert not recorder.flush(20)
    asked(postgres_url, "DROP SCHEMA resilience CASCADE")
    migrations.upgrade(postgres_url)
    assert recorder.flush(20)
    recorder.close(20)

    assert asked(postgres_url, "SELECT count(*) FROM errors") == [(1,)]


def test_the_session_is_as_the_history_needs_it(postgres_url: str) -> None:
    """UTC, bounded waits, an application name, and commits that wait for the disk only with durability `full`."""
    migrations.upgrade(postgres_url)
    shown = {}
    for durability in DURABILITIES:
        engine = open_engine(urls.parse(postgres_url), wait=1.0, durability=durability)
        with engine.begin() as connection:
            shown[durability] = {
                name: connection.exec_driver_sql(f"SHOW {name}").scalar()
                for name in (
                    "timezone",
                    "statement_timeout",
                    "lock_timeout",
                    "application_name",
                    "synchronous_commit",
                )
            }
        engine.dispose()

    usual = {
        "timezone": "UTC",
        "statement_timeout": "30s",
        "lock_timeout": "5s",
        "application_name": "resilience",
    }
    assert shown == {
        "normal": {**usual, "synchronous_commit": "off"},
        "full": {**usual, "synchronous_commit": "on"},
    }


fork: Any = multiprocessing.get_context("fork")  # typeshed knows no Process of a context
forking = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@forking
def test_a_vanished_server_is_detected_within_seconds(postgres_url: str) -> None:
    """Writers and readers set TCP keepalives, and options in the URL take precedence."""
    wanted = {"keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "2"}
    url = sa.make_url(postgres_url)
    own = url.update_query_dict({"tcp_user_timeout": "7000"})
    for opened, timeout in (
        (open_engine(url, wait=1.0), "20000"),
        (open_engine(own, wait=1.0), "7000"),
        (open_blocking(url), "20000"),
    ):
        with opened.connect() as connection:
            raw: Any = connection.connection.driver_connection
            found = raw.info.get_parameters()
        opened.dispose()
        assert {**wanted, "tcp_user_timeout": timeout}.items() <= found.items()


def test_eight_upgrades_at_once_are_one(postgres_url: str) -> None:
    """All of them succeed, on a database that is migrated exactly once."""
    start = fork.Barrier(8)

    def upgrade() -> None:
        start.wait(240)
        migrations.upgrade(postgres_url)

    processes = [fork.Process(target=upgrade) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)

    assert [process.exitcode for process in processes] == [0] * 8
    assert asked(postgres_url, "SELECT version_num FROM resilience_version") == [(migrations.head(),)]


@forking
def test_a_process_killed_in_a_migration_leaves_nothing_behind(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After SIGKILL half way the database is as it was, and the next upgrade goes through."""
    migrations.upgrade(postgres_url)
    before = snapshot(postgres_url)
    copied = tmp_path / "migrations"
    (copied / "versions").mkdir(parents=True)
    for file in (TOP / "migrations").rglob("*.py"):
        (copied / file.relative_to(TOP / "migrations")).write_text(file.read_text())
    (copied / "versions" / "9999_half.py").write_text(HALF.replace("HEAD", repr(migrations.head())))

    def migrated() -> int | None:
        with monkeypatch.context() as newer:
            newer.setattr(migrations, "script_location", lambda: copied)
            process = fork.Process(target=migrations.upgrade, args=(postgres_url,))
            process.start()
            process.join(240)
        code: int | None = process.exitcode
        return code

    assert migrated() == -signal.SIGKILL
    assert before == snapshot(postgres_url)
    assert migrations.current(postgres_url) == migrations.head()

    monkeypatch.setenv("GO_ON", "1")
    assert migrated() == 0
    assert migrations.current(postgres_url) == "9999"


def test_the_command_line_upgrades_a_server(postgres_url: str) -> None:
    """`alembic upgrade head` in a checkout does what `resilience db upgrade` does."""
    subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        check=True,
        cwd=TOP,
        env=os.environ | {"RESILIENCE_DATABASE_URL": postgres_url},
        timeout=250,
        capture_output=True,
    )

    assert migrations.current(postgres_url) == migrations.head()


def test_a_server_that_cannot_be_reached_is_a_history_error(postgres: Postgres, postgres_url: str) -> None:
    """The errors of reading its revision and of upgrading it name the place and the reason."""
    postgres.shut(postgres_url)
    for step, message in ((migrations.current, "cannot be read"), (migrations.upgrade, "cannot be upgraded")):
        with pytest.raises(HistoryError, match=message):
            step(postgres_url)
    postgres.open(postgres_url)
