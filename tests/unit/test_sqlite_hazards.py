"""What can damage a shared SQLite file is detected, and each process warns once."""

from __future__ import annotations

import logging
import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
import sqlalchemy as sa

from resilience.history import History, SyncHistory
from resilience.history.schema import migrations, sqlite_driver, sqlite_hazards, tables, urls
from resilience.history.store.database import Database
from resilience.history.store.process import Instance, WriterStats

MOUNTS = """
/dev/sda1 / ext4 rw 0 0
server:/home /mnt/home nfs4 rw 0 0
/dev/sdb1 /mnt/home/local\\040disk xfs rw 0 0
host /mnt/sshfs fuse.sshfs rw 0 0
""".lstrip()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/x.db", None),
        ("/mnt/home/me/x.db", "nfs4"),
        ("/mnt/homestead/x.db", None),
        ("/mnt/home/local disk/x.db", None),
        ("/mnt/sshfs", "fuse.sshfs"),
    ],
)
def test_a_network_file_system_is_known_by_its_mount(path: str, kind: str | None, tmp_path: Path) -> None:
    """The mount point with the longest path above a file decides."""
    (tmp_path / "mounts").write_text(MOUNTS)
    assert sqlite_hazards.remote(Path(path), tmp_path / "mounts") == kind


def test_without_a_list_of_mounts_there_is_no_warning(tmp_path: Path) -> None:
    """Systems other than Linux have no such list."""
    assert sqlite_hazards.remote(tmp_path, tmp_path / "nowhere") is None


@pytest.fixture(autouse=True)
def unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_hazards, "_warned", set())


def test_a_file_on_a_network_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A process warns at its first write, once, with the remedy."""
    monkeypatch.setattr(sqlite_hazards, "remote", lambda _: "cifs")
    for number in range(2):
        database = Database(urls.parse(f"sqlite:///{tmp_path}/{number}.db"))
        database.opened()
        database.close()

    (warning,) = caplog.records
    assert "network file system (cifs)" in warning.getMessage()
    assert "RESILIENCE_DATABASE_URL" in warning.getMessage()


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 4), False),
    ],
)
def test_versions_with_the_race_are_known(version: tuple[int, ...], affected: bool) -> None:  # noqa: FBT001 - a row of a table
    """Versions from 3.7.0 to 3.51.2 are affected, except on the two branches with a fix."""
    assert sqlite_driver.has_reset_bug(version) is affected


def test_processes_that_share_a_file_with_the_race_are_warned(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """One process is safe, and processes that ended do not count. A second live process brings one warning with the remedy."""
    monkeypatch.setattr(sqlite_driver, "has_reset_bug", lambda _: True)
    caplog.set_level(logging.WARNING, "resilience")
    url = urls.parse(f"sqlite:///{tmp_path}/x.db")
    time = [0.0]
    database = Database(url)
    database._reset_bug = sqlite_hazards.ResetBug(lambda: time[0])

    def write(instance: Instance) -> None:
        time[0] += 61.0
        database.write([], instance, WriterStats())

    mine, gone, other = (Instance(host=host) for host in ("here", "gone", "there"))
    write(gone)
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    database.do(
        lambda connection: connection.execute(sa.update(tables.instances).values(heartbeat_at=long_ago))
    )
    write(mine)
    write(mine)
    assert caplog.text == ""
    for _ in range(2):
        write(other)
    # A process of a moment, such as that of an operator's order, has no warning: its answer must not stand below one.
    monkeypatch.setattr(sqlite_hazards, "_warned", set())
    database.do(sqlite_hazards.ResetBug(lambda: time[0]).look)
    database.close()

    (warning,) = caplog.records
    assert "baml-resilience[sqlite-fixed]" in warning.getMessage()


def test_the_extra_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pysqlite3` is preferred. Without it `sqlite3` is used, and the aiosqlite dialect needs no replacement."""
    extra = ModuleType("pysqlite3.dbapi2")
    monkeypatch.setitem(sys.modules, "pysqlite3", ModuleType("pysqlite3"))
    monkeypatch.setitem(sys.modules, "pysqlite3.dbapi2", extra)
    assert sqlite_driver.chosen() is extra
    monkeypatch.setitem(sys.modules, "pysqlite3", None)
    monkeypatch.setitem(sys.modules, "pysqlite3.dbapi2", None)
    assert sqlite_driver.chosen() is sqlite3
    monkeypatch.setattr(sqlite_driver, "module", sqlite3)
    assert sqlite_driver.awaited() is None


async def test_every_connection_of_a_process_uses_the_same_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The writer, the blocking reader and the awaited reader all use the chosen module."""
    used: list[str] = []
    spy = ModuleType("spy")
    spy.__dict__.update(sqlite3.__dict__)

    def connect(path: str, **options: object) -> sqlite3.Connection:
        used.append(path)
        return sqlite3.connect(path, **options)  # type: ignore[call-overload,no-any-return]  # whatever it was given

    spy.__dict__["connect"] = connect
    monkeypatch.setattr(sqlite_driver, "module", spy)
    url = f"sqlite:///{tmp_path}/x.db"
    migrations.upgrade(url)
    written = len(used)
    assert written

    assert SyncHistory(url).errors() == []
    blocking = len(used) - written
    assert blocking
    history = History(url)
    assert await history.errors() == []
    await history.aclose()
    assert len(used) > written + blocking
