"""Upgrades of an SQLite file: from every start, by any number of processes, and through crashes."""

from __future__ import annotations

import io
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from resilience.errors import ConfigurationError, HistoryError
from resilience.history.schema import migrations, version_table
from resilience.history.schema.tables import metadata

TOP = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "resilience.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


def asked(path: Path, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def snapshot(path: Path) -> dict[str, str]:
    """Every table and index with its whole definition: CHECKs and partial indexes too, which Alembic does not compare."""
    found = asked(
        path,
        "SELECT name, sql FROM sqlite_master WHERE type <> 'view' AND sql IS NOT NULL AND name <> 'resilience_version'",
    )
    return {str(name): " ".join(str(sql).split()) for name, sql in found}


def definitions(path: Path) -> dict[str, str]:
    """Every table, index and view with its whole definition."""
    found = asked(path, "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {str(name): " ".join(str(sql).split()) for name, sql in found}


def alembic(url: str = "") -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations.script_location()))
    config.set_main_option("sqlalchemy.url", url)
    return config


def script() -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic())


@pytest.fixture
def migrated(url: str) -> str:
    """The URL of a database that all migrations made, one after the other."""
    command.upgrade(alembic(url), "head")
    return url


def test_the_head_by_file_name_is_the_head_by_alembic() -> None:
    """`migrations.head()` reads file names and Alembic reads files: both name one head, and revisions are numbered in order."""
    revisions = [revision.revision for revision in script().walk_revisions()]

    assert script().get_heads() == [migrations.head()]
    assert revisions == sorted(revisions, reverse=True)
    assert all(len(revision) == 4 and revision.isdigit() for revision in revisions)


def test_a_new_database_is_created_at_the_newest_revision(url: str, path: Path) -> None:
    """`upgrade` creates folder and file for the owner alone, with WAL and incremental vacuum, at the newest revision."""
    assert migrations.current(url) is None
    assert not path.exists()
    migrations.upgrade(url)

    assert migrations.current(url) == migrations.head()
    assert path.stat().st_mode & 0o777 == 0o600
    assert asked(path, "PRAGMA journal_mode") == [("wal",)]
    assert asked(path, "PRAGMA page_size") == [(2048,)]
    assert asked(path, "PRAGMA auto_vacuum") == [(2,)]


def test_a_new_file_equals_one_that_all_migrations_made(migrated: str, path: Path, tmp_path: Path) -> None:
    """Both are equal in everything that SQLite keeps: tables, CHECKs, partial indexes, views, revision, order of columns."""
    new = tmp_path / "new.db"
    migrations.upgrade(f"sqlite:///{new}")

    assert definitions(path) == definitions(new)
    for (table,) in asked(new, "SELECT name FROM sqlite_master WHERE type = 'table'"):
        assert asked(path, f"PRAGMA table_xinfo({table})") == asked(new, f"PRAGMA table_xinfo({table})")
    assert asked(path, "SELECT * FROM resilience_version") == asked(new, "SELECT * FROM resilience_version")
    assert "CHECK" in definitions(new)["calls"]
    assert "WHERE" in definitions(new)["ix_calls_not_ok"]


def test_alembic_sees_no_difference_either(migrated: str) -> None:
    """What `alembic check` compares is equal: types, lengths, nullability, indexes."""
    engine = sa.create_engine(migrated)
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


def test_every_migration_goes_down_and_up_again(url: str, path: Path) -> None:
    """Down to nothing leaves no table; up again gives the same as before."""
    migrations.upgrade(url)
    before = snapshot(path)
    migrations.downgrade(url, "base")
    assert snapshot(path) == {}
    assert migrations.current(url) is None
    migrations.upgrade(url)

    assert before == snapshot(path)


def test_an_upgraded_database_is_left_alone_without_any_lock(url: str, path: Path) -> None:
    """With the newest revision `upgrade` needs no write lock: it returns while another process holds it."""
    migrations.upgrade(url)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    migrations.upgrade(url)
    holder.close()

    assert migrations.current(url) == migrations.head()


@pytest.mark.parametrize(
    "step", [migrations.upgrade, lambda url: migrations.downgrade(url, "base")], ids=["upgrade", "downgrade"]
)
def test_a_newer_database_is_refused_with_the_remedy(step: object, url: str, path: Path) -> None:
    """A database of a later version is not touched; the error says what to do."""
    migrations.upgrade(url)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE resilience_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    assert callable(step)

    with pytest.raises(
        HistoryError, match=r"9999, newer than .*: upgrade the baml-resilience package"
    ) as caught:
        step(url)
    assert isinstance(caught.value, migrations.NewerHistoryError)
    assert migrations.current(url) == "9999"


def test_a_file_that_is_not_a_database_is_a_history_error(url: str, path: Path) -> None:
    """The errors of reading its revision and of upgrading it name the file and the reason."""
    path.parent.mkdir()
    path.write_text("certainly no database, but long enough to be taken for one" * 20)

    with pytest.raises(HistoryError, match=r"resilience\.db cannot be read: file is not a database"):
        migrations.current(url)
    with pytest.raises(HistoryError, match=r"resilience\.db cannot be upgraded: file is not a database"):
        migrations.upgrade(url)


@pytest.mark.parametrize("below", ["resilience.db", "folder/resilience.db"])
def test_a_folder_that_cannot_be_created_is_a_history_error(tmp_path: Path, below: str) -> None:
    """A file where the folder should be, or a folder above it."""
    (tmp_path / "file").write_text("")

    with pytest.raises(HistoryError, match="cannot be upgraded"):
        migrations.upgrade(f"sqlite:///{tmp_path}/file/{below}")


def test_a_wrong_url_is_a_configuration_error() -> None:
    """The history lives in SQLite or PostgreSQL."""
    with pytest.raises(ConfigurationError, match="mysql"):
        migrations.upgrade("mysql://host/x")


def test_a_file_that_stays_locked_is_an_error_after_a_while(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The switch to WAL is retried while another process blocks it, then given up."""
    monkeypatch.setattr(migrations, "_WAIT", 0.1)
    migrations.create_file(path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")

    with pytest.raises(HistoryError, match="database is locked"):
        migrations.upgrade(url)
    holder.execute("COMMIT")
    holder.close()
    migrations.upgrade(url)


def test_missing_migrations_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error for a wheel without migrations says how to repair the installation."""
    monkeypatch.setattr(
        "resilience.history.schema.migrations.resources.files", lambda _: tmp_path / "resilience"
    )

    with pytest.raises(HistoryError, match="install the baml-resilience package again"):
        migrations.script_location()


def test_installed_migrations_come_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The migrations inside an installed package are used, whatever is beside it."""
    (tmp_path / "resilience" / "_migrations").mkdir(parents=True)
    (tmp_path / "resilience" / "_migrations" / "env.py").write_text("")
    monkeypatch.setattr(
        "resilience.history.schema.migrations.resources.files", lambda _: tmp_path / "resilience"
    )

    assert migrations.script_location() == tmp_path / "resilience" / "_migrations"


RACE = """
import sys
from resilience.history.schema import migrations
print("ready", flush=True)
sys.stdin.readline()
migrations.upgrade(sys.argv[1])
"""


def test_eight_processes_may_start_at_once(url: str, path: Path) -> None:
    """All of them start, on a database that is migrated exactly once."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    # Each imports first, and waits on its pipe: a process that polls takes the CPU that the others need for their imports.
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=240)[1] for process in processes]

    assert [process.returncode for process in processes] == [0] * 8, ends
    assert asked(path, "SELECT version_num FROM resilience_version") == [(migrations.head(),)]
    assert asked(path, "PRAGMA auto_vacuum") == [(2,)]
    assert asked(path, "PRAGMA integrity_check") == [("ok",)]


KILLED = """
import sys
from pathlib import Path
from resilience.history.schema import migrations, version_table
migrations.script_location = lambda: Path(sys.argv[2])
migrations.upgrade(sys.argv[1])
"""

HALF = '''
"""A migration that kills its process half way, unless GO_ON is set."""
import os, signal
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "9999", HEAD, None, None

def upgrade():
    op.create_table("half", sa.Column("x", sa.Integer()))
    with op.batch_alter_table("calls") as batch:
        batch.add_column(sa.Column("y", sa.Integer()))
    if "GO_ON" not in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)

def downgrade():
    pass
'''


def test_a_process_killed_in_a_migration_leaves_nothing_behind(url: str, path: Path, tmp_path: Path) -> None:
    """After SIGKILL half way the database is as it was, and the next start migrates it."""
    migrations.upgrade(url)
    before = snapshot(path)
    copied = tmp_path / "migrations"
    (copied / "versions").mkdir(parents=True)
    for file in (TOP / "migrations").rglob("*.py"):
        (copied / file.relative_to(TOP / "migrations")).write_text(file.read_text())
    (copied / "versions" / "9999_half.py").write_text(HALF.replace("HEAD", repr(migrations.head())))
    start = [sys.executable, "-c", KILLED, url, str(copied)]

    assert subprocess.run(start, check=False, timeout=250).returncode == -signal.SIGKILL
    assert before == snapshot(path)
    assert migrations.current(url) == migrations.head()

    assert subprocess.run(start, check=False, timeout=250, env=os.environ | {"GO_ON": "1"}).returncode == 0
    assert migrations.current(url) == "9999"
    assert {"half"} == set(snapshot(path)) - set(before)


def test_the_command_line_upgrades_the_database_it_is_given(url: str, path: Path) -> None:
    """`alembic -x url=... upgrade head` in a checkout does what `migrations.upgrade` does, and `check` finds no difference."""
    alembic = [sys.executable, "-m", "alembic", "-x", f"url={url}"]
    subprocess.run([*alembic, "upgrade", "head"], check=True, cwd=TOP, timeout=250, capture_output=True)
    checked = subprocess.run(
        [*alembic, "check"], check=True, cwd=TOP, timeout=250, capture_output=True, text=True
    )

    assert "No new upgrade operations detected" in checked.stdout + checked.stderr
    assert migrations.current(url) == migrations.head()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_command_line_reads_the_environment(url: str) -> None:
    """Without `-x` the database is that of `RESILIENCE_DATABASE_URL`."""
    environment = os.environ | {"RESILIENCE_DATABASE_URL": url}
    subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        check=True,
        cwd=TOP,
        env=environment,
        timeout=250,
        capture_output=True,
    )

    assert migrations.current(url) == migrations.head()


def test_another_program_may_run_these_migrations(url: str, path: Path) -> None:
    """A program with a configuration of its own gets the same file, lock and transaction."""
    config = Config()
    config.set_main_option("script_location", str(migrations.script_location()))
    config.set_main_option("sqlalchemy.url", url)
    command.upgrade(config, "head")

    assert migrations.current(url) == migrations.head()
    assert asked(path, "PRAGMA journal_mode") == [("wal",)]


def test_migrations_render_for_postgresql() -> None:
    """Their SQL for PostgreSQL has times with timezones, 64-bit floats, comments, and no types of its own."""
    output = io.StringIO()
    config = Config(TOP / "alembic.ini", output_buffer=output)
    config.set_main_option("sqlalchemy.url", "postgresql+psycopg://host/x")
    config.config_file_name = None
    command.upgrade(config, "head", sql=True)
    sql = output.getvalue()

    assert "started_at TIMESTAMP WITH TIME ZONE NOT NULL" in sql
    assert "duration DOUBLE PRECISION NOT NULL" in sql
    assert "COMMENT ON COLUMN errors.backoff IS 'seconds'" in sql
    assert "WHERE outcome != 'ok'" in sql
    assert "CREATE TYPE" not in sql


def test_a_percent_sign_in_the_path_is_not_a_placeholder(tmp_path: Path) -> None:
    """Alembic interpolates its configuration, and a folder named `50%` must not break that."""
    url = f"sqlite:///{tmp_path}/50%25 done/x.db"
    migrations.upgrade(url)

    assert migrations.current(url) == migrations.head()
