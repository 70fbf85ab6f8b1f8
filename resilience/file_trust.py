"""Which files and folders are trusted: settings, keys, databases, logs and locks, on a machine with other users.

A file of another user decides where prompts and keys go, and a link of another user makes this process write where that user may not.
So each file is opened without following a link, and its owner and mode are looked at on the open descriptor: by then no user can put
another file in its place.

- A *file* must belong to this user or to root, and others must not be able to change it. Its group may, if this process is in it.
- A *folder* for data or logs may belong to any user, if it is not world-writable. One that is sticky, as `/tmp` is, may be: there each
  file is checked, and no user can replace the file of another.
- A *link* to a folder must belong to this user or to root, or to the owner of the folder that it lies in.

Consent: whatever lies in a folder that the variable `RESILIENCE_TRUST_DIRS` names is trusted, whatever its owner.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

TRUST_DIRS: Final = "RESILIENCE_TRUST_DIRS"
"""Variable of the environment: folders whose files are trusted whatever their owner and mode, separated as in `PATH`."""

_SAFE: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""For every open. A pipe in the place of a file would block an open without `O_NONBLOCK`, which regular files ignore."""
_SIDECARS: Final = ("", "-wal", "-shm", "-journal")
"""What SQLite adds to the name of a database. It takes pages from a log that it finds, so the log must be trusted like the file."""


class UntrustedFileError(PermissionError):
    """A file or folder that another user controls. `strerror` says why, and what to do."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(errno.EPERM, f"{path} {why}")

    def __str__(self) -> str:
        return str(self.strerror)


def open_file(path: Path, flags: int) -> int:
    """Open a file of ours, and return its descriptor. A new one is readable by its owner alone.

    Args:
        path: the file.
        flags: of `os.open`.

    Raises:
        UntrustedFileError: it is a link or not a regular file, or another user owns it or can change it.
        OSError: it cannot be opened.
    """
    try:
        file = os.open(path, flags | _SAFE, 0o600)
    except OSError as exc:
        # ELOOP on Linux and macOS; a device or a socket has other codes.
        if exc.errno == errno.ELOOP or path.is_symlink():
            raise UntrustedFileError(path, _LINK) from None
        raise
    try:
        status = os.fstat(file)
        if not _is_plainly_ours(status):
            _refuse(path, file_problem(status) or _extra_name(path, flags, status))
    except BaseException:
        os.close(file)
        raise
    return file


def make_folder(folder: Path) -> None:
    """Create *folder* and the folders above it that are missing, for their owner alone, and check it.

    `Path.mkdir` gives the mode to the last folder only; those above it would get that of the umask.

    Raises:
        UntrustedFileError: another user can replace files in it.
        OSError: it cannot be created.
    """
    missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
    if missing:
        check_folder(folder)  # nothing is created behind a link of another user
    for each in reversed(missing):
        with suppress(FileExistsError):
            each.mkdir(mode=0o700)
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Check that no other user can replace the files in a folder for data or logs. One that is missing is not refused.

    Raises:
        UntrustedFileError: it is world-writable without being sticky, or behind a link of another user.
    """
    link = _foreign_link(folder.absolute())
    if link is not None:
        _refuse(link, f"is a link of another user: {_remedy('replace it by a folder')}", inside=folder)
    with suppress(FileNotFoundError, NotADirectoryError):
        mode = folder.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            _refuse(folder, _world_writable(mode))


def check_own_folder(folder: Path) -> None:
    """Check a folder that this package makes inside of another one: not a link, and owned by this user or root.

    Raises:
        UntrustedFileError: it is not.
    """
    check_folder(folder)
    with suppress(FileNotFoundError):
        status = folder.lstat()
        _refuse(folder, _LINK if stat.S_ISLNK(status.st_mode) else _owner(status))


def check_database(path: Path) -> None:
    """Check the file of an SQLite database, its folder, and the files that SQLite keeps beside it. A missing one is not refused.

    SQLite opens the file by its name, so this cannot look at a descriptor. In a folder that passed the check, only its owner could put
    another file in its place between the check and the open.

    Raises:
        UntrustedFileError: one of them is not trusted.
    """
    check_folder(path.parent)
    for sidecar in _SIDECARS:
        file = Path(f"{path}{sidecar}")
        # A path through a file leads nowhere. The open that follows has the error that says so.
        with suppress(FileNotFoundError, NotADirectoryError):
            _refuse(file, file_problem(file.lstat()))


def open_settings(path: Path) -> int:
    """Open a settings file to read it. A link is followed if it is ours or root's: configuration is often mounted as links.

    Raises:
        UntrustedFileError: another user could have written it.
        OSError: it cannot be opened.
    """
    status = path.lstat()
    if not stat.S_ISLNK(status.st_mode):
        return open_file(path, os.O_RDONLY)
    _refuse(path, _owner(status))
    try:
        return open_file(path.resolve(strict=True), os.O_RDONLY)
    except UntrustedFileError:
        if not is_consented(path):
            raise
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def file_problem(status: os.stat_result) -> str:
    """Return why a file with this status, as `lstat` returns it, is not trusted; an empty text if it is."""
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        return _LINK
    if not stat.S_ISREG(mode):
        return "is not a regular file: move it away"
    return _owner(status) or _writers(status)


def tree_problem(folder: Path) -> str:
    """Return why settings are not looked for in *folder*, which lies above the one where this process runs; empty if they are."""
    try:
        status = folder.stat()
    except OSError:
        return ""
    problem = _owner(status) or _writers(status)
    return "" if problem and is_consented(folder) else problem


def is_consented(path: Path) -> bool:
    """Return whether *path* is one of the folders of `RESILIENCE_TRUST_DIRS`, or inside of one."""
    folders = os.environ.get(TRUST_DIRS, "").split(os.pathsep)
    # Resolved: `..` or a link must not lead out of a folder that was named.
    here = path.resolve()
    return any(
        here.is_relative_to(Path(folder).expanduser().resolve()) for folder in folders if folder.strip()
    )


# --- inside -----------------------------------------------------------------------------------------------------------


def _is_plainly_ours(status: os.stat_result) -> bool:
    """Return whether a file has nothing that must be looked into: regular, one name, of this user, to be changed by no other."""
    mode = status.st_mode
    others = stat.S_IWGRP | stat.S_IWOTH
    return stat.S_ISREG(mode) and not mode & others and status.st_nlink == 1 and status.st_uid == os.geteuid()


def _remedy(act: str) -> str:
    return f"{act}, or name its folder in {TRUST_DIRS}"


_LINK: Final = "is a link, which is not followed: put the file itself there, or name the place it points to"


def _refuse(path: Path, problem: str, inside: Path | None = None) -> None:
    # Consent comes last: few files have a problem, and the variable is read for those alone. It is no consent to follow a link.
    if problem and (problem is _LINK or not is_consented(inside or path)):
        raise UntrustedFileError(path, problem)


def _owner(status: os.stat_result) -> str:
    if status.st_uid in _trusted_users():
        return ""
    return (
        f"is owned by user {status.st_uid}, and this process runs as user {os.geteuid()}: "
        f"{_remedy('chown it, or run as that user')}"
    )


def _trusted_users() -> tuple[int, ...]:
    """Return this user and root; for `sudo` also the user who called it."""
    user = os.geteuid()
    caller = os.environ.get("SUDO_UID", "") if user == 0 else ""
    return (user, 0, int(caller)) if caller.isdigit() else (user, 0)


def _writers(status: os.stat_result) -> str:
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IWOTH:
        return _world_writable(mode)
    if mode & stat.S_IWGRP and status.st_gid not in (os.getegid(), *os.getgroups()):
        return f"can be changed by group {status.st_gid} (mode {mode:04o}), in which this process is not: {_remedy('chmod g-w')}"
    return ""


def _world_writable(mode: int) -> str:
    return f"can be changed by every user (mode {stat.S_IMODE(mode):04o}): {_remedy('chmod o-w')}"


def _extra_name(path: Path, flags: int, status: os.stat_result) -> str:
    """Return the problem of a file to be written that has a second name, in a folder where another user may make names.

    The kernel does not treat a hard link as a link: the file is ours, but not the one that was meant.
    """
    if status.st_nlink < 2 or not flags & (os.O_WRONLY | os.O_RDWR):  # noqa: PLR2004 - a second name
        return ""
    folder = path.parent.stat()
    if not (_owner(folder) or _writers(folder)):
        return ""
    return f"is a hard link to another file, in a folder that other users can change: {_remedy('remove it')}"


def _foreign_link(path: Path) -> Path | None:
    """Return the first link on the way to *path* that neither this user, nor root, nor the owner of its folder has made."""
    for part in reversed((path, *path.parents)):
        try:
            status = part.lstat()
        except OSError:
            return None
        if stat.S_ISLNK(status.st_mode) and status.st_uid not in _trusted_users():
            folder = part.parent.stat()
            if folder.st_uid != status.st_uid or folder.st_mode & stat.S_IWOTH:
                return part
    return None
