"""Owners, modes and links: which files and folders of a shared machine are trusted, and what happens with the others."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.other_users import give_away

from resilience import file_trust
from resilience.breaker.messages import StepRequest
from resilience.breaker.stores.sqlite import SQLiteStore
from resilience.config.hash_key import shared_key
from resilience.errors import HistoryError
from resilience.history.schema import engine, migrations
from resilience.logs import JsonLines, LogPolicy
from resilience.logs.rotated_files import LOCK

Patch = pytest.MonkeyPatch
READ, WRITE = os.O_RDONLY, os.O_RDWR | os.O_CREAT


def refusal(act: Callable[[], object]) -> str:
    """Return why *act* is refused; an empty text if it is not."""
    try:
        file = act()
    except file_trust.UntrustedFileError as exc:
        return str(exc)
    if isinstance(file, int):
        os.close(file)
    return ""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder like `/tmp`: sticky, and every user may write."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


class TestFiles:
    @pytest.mark.parametrize(
        ("mode", "words"),
        [(0o600, ""), (0o644, ""), (0o664, ""), (0o666, "every user"), (0o602, "every user")],
    )
    def test_a_file_of_ours_is_trusted_unless_others_can_change_it(
        self, tmp_path: Path, mode: int, words: str
    ) -> None:
        """Reading by others is no reason to refuse a file, and under umask 002 our own group may write."""
        file = tmp_path / "file"
        file.touch()
        file.chmod(mode)

        why = refusal(lambda: file_trust.open_file(file, READ))

        assert bool(words) == bool(why)
        assert words in why

    def test_a_group_that_this_process_is_not_in_must_not_write(
        self, tmp_path: Path, monkeypatch: Patch
    ) -> None:
        """The message names the group and the command."""
        file = tmp_path / "file"
        file.touch()
        file.chmod(0o664)
        monkeypatch.setattr(os, "getegid", lambda: 54321)
        monkeypatch.setattr(os, "getgroups", lambda: [54322])

        why = refusal(lambda: file_trust.open_file(file, READ))

        assert f"group {file.stat().st_gid}" in why
        assert "chmod g-w" in why

    def test_a_file_of_another_user_is_refused(self, tmp_path: Path, monkeypatch: Patch) -> None:
        """Whatever its mode. The message has both users and the remedies."""
        file = tmp_path / "file"
        file.touch(0o600)
        give_away(monkeypatch, file)

        why = refusal(lambda: file_trust.open_file(file, WRITE))

        assert all(
            words in why for words in (str(file), "is owned by user", "chown", "RESILIENCE_TRUST_DIRS")
        )

    def test_root_is_trusted_and_under_sudo_its_caller(self, tmp_path: Path, monkeypatch: Patch) -> None:
        """Containers have files of root. Under `sudo` the files of the caller are those of the same person."""
        file = tmp_path / "file"
        file.touch()
        owner = file.stat().st_uid
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
        assert (owner == 0) == (refusal(lambda: file_trust.open_file(file, READ)) == "")

        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setenv("SUDO_UID", str(owner))

        assert "" == refusal(lambda: file_trust.open_file(file, READ))

    @pytest.mark.parametrize("target", ["there", "missing"])
    def test_no_link_is_followed(self, tmp_path: Path, target: str) -> None:
        """Not even one of ours: a file is written where its name says. A dangling link makes no file."""
        (tmp_path / "there").write_text("precious")
        (tmp_path / "link").symlink_to(tmp_path / target)

        why = refusal(lambda: file_trust.open_file(tmp_path / "link", WRITE | os.O_TRUNC))

        assert "is a link" in why
        assert ("precious", False) == ((tmp_path / "there").read_text(), (tmp_path / "missing").exists())

    def test_a_pipe_does_not_block(self, tmp_path: Path) -> None:
        """What is not a regular file is refused, and opening it does not wait for another process."""
        os.mkfifo(tmp_path / "pipe")

        assert "not a regular file" in refusal(lambda: file_trust.open_file(tmp_path / "pipe", READ))

    def test_a_second_name_is_refused_where_others_make_names(self, shared: Path) -> None:
        """A hard link leads to a file of ours that was not meant. In a folder of ours alone it is one of ours."""
        (shared.parent / "precious").touch(0o600)
        (shared / "errors.jsonl").hardlink_to(shared.parent / "precious")

        assert "hard link" in refusal(lambda: file_trust.open_file(shared / "errors.jsonl", WRITE))
        assert "" == refusal(lambda: file_trust.open_file(shared.parent / "precious", WRITE))

    def test_consent_is_by_folder_and_not_for_links(self, tmp_path: Path, monkeypatch: Patch) -> None:
        """`RESILIENCE_TRUST_DIRS` covers what lies in its folders, whatever the owner; a link out of them stays one."""
        named, other = tmp_path / "named", tmp_path / "named-not"
        for folder in (named, other):
            folder.mkdir()
            (folder / "file").touch()
            give_away(monkeypatch, folder / "file")
        (named / "link").symlink_to(other / "file")
        monkeypatch.setenv(file_trust.TRUST_DIRS, f"/nowhere{os.pathsep}{named}")

        refused = [
            bool(refusal(lambda path=path: file_trust.open_file(path, READ)))  # type: ignore[misc]
            for path in (named / "file", other / "file", named / ".." / "named-not" / "file", named / "link")
        ]

        assert [False, True, True, True] == refused


class TestFolders:
    def test_every_folder_that_is_made_is_private(self, tmp_path: Path) -> None:
        """Those above the last one too, whatever the umask: who may write there could replace the last one."""
        before = os.umask(0)
        try:
            file_trust.make_folder(tmp_path / "a" / "b" / "c")
        finally:
            os.umask(before)

        assert {0o700} == {(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b", "a/b/c")}

    @pytest.mark.parametrize(
        ("mode", "refused"), [(0o755, False), (0o775, False), (0o1777, False), (0o777, True)]
    )
    def test_a_folder_must_not_let_others_replace_files(
        self, tmp_path: Path, mode: int, *, refused: bool
    ) -> None:
        """A world-writable folder is refused. In a sticky one no user can replace the file of another."""
        folder = tmp_path / "logs"
        folder.mkdir()
        folder.chmod(mode)

        assert refused == ("every user" in refusal(lambda: file_trust.check_folder(folder)))

    def test_a_link_of_another_user_to_a_folder(self, shared: Path, monkeypatch: Patch) -> None:
        """In a shared folder it is refused. One of ours is followed, as is `/tmp` on macOS."""
        (shared.parent / "real").mkdir()
        for name in ("ours", "theirs"):
            (shared / name).symlink_to(shared.parent / "real")
        assert "" == refusal(lambda: file_trust.make_folder(shared / "ours" / "logs"))

        give_away(monkeypatch, shared / "theirs")

        for name in ("logs", "new"):
            assert "a link of another user" in refusal(
                partial(file_trust.make_folder, shared / "theirs" / name)
            )
        assert not (shared.parent / "real" / "new").exists()

    def test_a_folder_of_another_user_is_usable(self, tmp_path: Path, monkeypatch: Patch) -> None:
        """A log folder often belongs to the administrator of the logs. The files in it are checked one by one."""
        folder = tmp_path / "logs"
        folder.mkdir(mode=0o755)
        give_away(monkeypatch, folder)

        assert "" == refusal(lambda: file_trust.make_folder(folder))
        assert "is owned by user" in refusal(lambda: file_trust.check_own_folder(folder))


class TestUses:
    """Each place that opens a file. All planted files are in a folder that another user could have filled."""

    @pytest.mark.parametrize("name", ["errors.jsonl", LOCK])
    def test_logs(self, shared: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
        """A planted link to a file stays unread and unwritten, and is warned of."""
        target = shared.parent / "precious"
        target.write_text("precious\n")
        (shared / name).symlink_to(target)
        logs = JsonLines(shared, LogPolicy(max_bytes=10, total_bytes=100))

        with caplog.at_level(logging.WARNING):
            logs.write([("errors", {"n": 1})])
            logs.write([("errors", {"n": 2})])

        assert "precious\n" == target.read_text()
        assert "is a link" in caplog.text

    def test_compression(self, tmp_path: Path) -> None:
        """A planted `.part` file is removed, not truncated: its name is known to the owner of the rotated file."""
        target = tmp_path / "precious"
        target.write_text("precious")
        folder = tmp_path / "logs"
        folder.mkdir()
        (folder / "errors.jsonl.1").write_text("{}\n")
        (folder / "errors.jsonl.2").write_text("{}\n" * 10)
        part = folder / f".errors.jsonl.{(folder / 'errors.jsonl.2').stat().st_ino}.part"
        part.symlink_to(target)
        logs = JsonLines(folder)

        for _ in range(3):
            logs.write([("errors", {})])

        assert ("precious", True) == (target.read_text(), (folder / "errors.jsonl.2.gz").exists())

    def test_the_hash_key(self, tmp_path: Path, monkeypatch: Patch, caplog: pytest.LogCaptureFixture) -> None:
        """A key that another user has planted is known to that user. The process takes one of its own, and warns."""
        key = tmp_path / "hash.key"
        key.write_text("ab" * 32 + "\n")
        assert bytes.fromhex("ab" * 32) == shared_key(key)
        give_away(monkeypatch, key)

        assert bytes.fromhex("ab" * 32) != shared_key(key)
        assert "is owned by user" in caplog.text

    @pytest.mark.parametrize("sidecar", ["", "-wal"])
    def test_circuits(self, tmp_path: Path, monkeypatch: Patch, sidecar: str) -> None:
        """A planted database, or a planted write-ahead log of ours, is a store that is away."""
        file = tmp_path / "circuits.db"
        with closing(SQLiteStore(file)) as store:
            store.step([StepRequest(client="Primary")])
        planted = Path(f"{file}{sidecar}")
        planted.touch()
        give_away(monkeypatch, planted)

        with pytest.raises(file_trust.UntrustedFileError, match="is owned by user"):
            SQLiteStore(file).step([StepRequest(client="Primary")])

    def test_the_history(self, tmp_path: Path, monkeypatch: Patch) -> None:
        """A planted database gets no row: opening it for writing is an error with the remedy."""
        file = tmp_path / "resilience.db"
        sqlite3.connect(file).close()
        file.touch()
        give_away(monkeypatch, file)

        with pytest.raises(HistoryError, match=r"is owned by user.*RESILIENCE_TRUST_DIRS"):
            engine.open_engine(sa.make_url(f"sqlite:///{file}"), wait=1.0)
        with pytest.raises(HistoryError, match="is owned by user"):
            migrations.upgrade(f"sqlite:///{file}")
