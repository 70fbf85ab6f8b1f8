"""Warnings about what can damage an SQLite file that several processes share. Each process warns once.

Two things can: a network file system, on which SQLite cannot lock, and an SQLite library with the WAL-reset race, see
`sqlite_driver.py`. Neither shows until the file is damaged, so both are looked for while it is still whole.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from resilience.history.schema import db_time, sqlite_driver, tables

REMEDY: Final = "pip install 'baml-resilience[sqlite-fixed]'"
ALIVE: Final = timedelta(minutes=5)
"""A process whose last heartbeat is younger than this counts as alive."""

_REMOTE: Final = frozenset(
    {
        *(
            "nfs",
            "nfs4",
            "cifs",
            "smb2",
            "smb3",
            "smbfs",
            "9p",
            "afs",
            "ceph",
            "lustre",
            "glusterfs",
            "beegfs",
            "gpfs",
        ),
        *(
            "fuse.sshfs",
            "fuse.glusterfs",
            "fuse.ceph-fuse",
            "fuse.s3fs",
            "fuse.gcsfuse",
            "fuse.rclone",
            "virtiofs",
        ),
    }
)
"""Network file systems. In WAL mode processes share memory beside the file, and that exists on one machine only."""
_MOUNTS: Final = Path("/proc/self/mounts")
_CHECK_INTERVAL: Final = 60.0
"""Seconds between two looks for other processes."""

_log = logging.getLogger("resilience")
_warned: set[tuple[str, int]] = set()


def remote(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the kind of the network file system that *path* is on; None for a local one, or if the system does not say.

    Args:
        path: the database file.
        mounts: the list of mounts, as in `/proc/self/mounts`.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    # The mount point with the longest path that contains the file is the one that counts, the last of equals.
    here = path.resolve()
    best, kind = -1, ""
    for fields in (line.split() for line in lines):
        point = Path(fields[1].replace("\\040", " "))  # the kernel writes a space as \040
        if (here == point or point in here.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind if kind in _REMOTE else None


def processes(connection: sa.Connection) -> int:
    """Return how many processes wrote to this history within `ALIVE`, by the database's clock, and have not left."""
    columns = tables.instances.c
    alive = columns.ended_at.is_(None) & (columns.heartbeat_at > db_time.read(connection) - ALIVE)
    # By host and process id: several recorders of one process are several rows, and one user of the file.
    these = sa.select(columns.host, columns.pid).where(alive).distinct().subquery()
    return int(connection.scalar(sa.select(sa.func.count()).select_from(these)) or 0)


def warn_remote(path: Path) -> None:
    """Warn if *path* is on a network file system."""
    kind = remote(path)
    if kind is not None:
        _warn_once(
            "remote",
            f"the history at {path} is on a network file system ({kind}), where SQLite cannot lock: "
            "give RESILIENCE_DATABASE_URL a path on a local disk, or a PostgreSQL database",
        )


class ResetBug:
    """The watch for several processes that share a file although their SQLite has the WAL-reset race.

    Args:
        now: the monotonic clock, seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        # Not at the start: an order of an operator takes a second, and its answer must not stand below this warning.
        self._due = now() + _CHECK_INTERVAL

    def look(self, connection: sa.Connection) -> None:
        """Warn if other processes are alive, at most once a process and with one query a minute at most."""
        # The process id is part of the key: a forked child inherits the set, and its log may be another one.
        version = sqlite_driver.module.sqlite_version_info
        if (
            not sqlite_driver.has_reset_bug(version)
            or ("reset", os.getpid()) in _warned
            or self._now() < self._due
        ):
            return
        self._due = self._now() + _CHECK_INTERVAL
        if processes(connection) > 1:
            _warn_once(
                "reset",
                f"several processes write one history with SQLite {sqlite_driver.module.sqlite_version}, whose write-ahead log has a "
                f"rare race that can damage the file (sqlite.org/wal.html#walresetbug): {REMEDY}, in all of them",
            )


def _warn_once(hazard: str, message: str) -> None:
    if (hazard, os.getpid()) not in _warned:
        _warned.add((hazard, os.getpid()))
        _log.warning("%s", message)
