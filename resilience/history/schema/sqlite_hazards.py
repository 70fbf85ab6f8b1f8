"""What can damage an SQLite file that several processes share, said once by each process."""

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

CURE: Final = "pip install 'baml-resilience[sqlite-fixed]'"
ALIVE: Final = timedelta(minutes=5)
"""A process that wrote within this time is taken to be there."""

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
"""File systems of other machines: the shared memory beside a write-ahead log reaches no further than one."""
_MOUNTS: Final = Path("/proc/self/mounts")
_EVERY: Final = 60.0

_log = logging.getLogger("resilience")
_said: set[tuple[str, int]] = set()


def remote(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """The kind of the network file system *path* lies on; None for a disk of this machine, or where nobody can say."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    here = path.resolve()
    best, kind = -1, ""
    for fields in (line.split() for line in lines):
        point = Path(fields[1].replace("\\040", " "))
        if (here == point or point in here.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind if kind in _REMOTE else None


def processes(connection: sa.Connection) -> int:
    """Return how many processes wrote to this history within `ALIVE`, by the database's clock."""
    alive = tables.instances.c.heartbeat_at > db_time.read(connection) - ALIVE
    these = sa.select(tables.instances.c.host, tables.instances.c.pid).where(alive).distinct().subquery()
    return int(connection.scalar(sa.select(sa.func.count()).select_from(these)) or 0)


def warn_remote(path: Path) -> None:
    """Say that *path* is no place for a file that processes share."""
    kind = remote(path)
    if kind is not None:
        _warn_once(
            "remote",
            f"the history at {path} lies on a network file system ({kind}), where SQLite cannot keep processes apart: "
            "give RESILIENCE_DATABASE_URL a path on a local disk, or a PostgreSQL database",
        )


class ResetBug:
    """Looks, now and then, whether several processes share a file with an SQLite that should not."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._due = 0.0

    def look(self, connection: sa.Connection) -> None:
        """Say so, if that is how it is."""
        version = sqlite_driver.module.sqlite_version_info
        if (
            not sqlite_driver.has_reset_bug(version)
            or ("reset", os.getpid()) in _said
            or self._now() < self._due
        ):
            return
        self._due = self._now() + _EVERY
        if processes(connection) > 1:
            _warn_once(
                "reset",
                f"several processes write one history with SQLite {sqlite_driver.module.sqlite_version}, whose write-ahead log has a "
                f"rare race that can damage the file (sqlite.org/wal.html#walresetbug): {CURE}, in all of them",
            )


def _warn_once(what: str, told: str) -> None:
    if (what, os.getpid()) not in _said:
        _said.add((what, os.getpid()))
        _log.warning("%s", told)
