"""What a process says about itself: who it is, and the state of its writer. `instances.py` writes it to the table of that name."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from resilience.records.ids import new_id
from resilience.records.records import NAMESPACE
from resilience.version import package_version

if TYPE_CHECKING:
    from resilience.history.store.counters import Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The settings that a process runs with, as `policies` has them.

    Attributes:
        policy_id: a digest of the settings.
        settings: the settings, without secrets.
    """

    policy_id: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterStats:
    """The state of the writer, as it is stored in `instances`.

    Attributes:
        dropped: records of this process that were dropped.
        sampled: records of this process that were sampled out.
        depth: records that wait in the queue.
        degraded: whether this process cannot reach the store of the circuits.
        leaving: whether this process ends. A later heartbeat takes that back.
        damage: how often it met each kind of `resilience.damage_counts`.
        policy: the settings of this process; None if they are not known.
        pending_counts: counts of records without rows, to be added in the transaction of this batch.
        rows_counted_through: number of the last record of this batch, among those of this process that get a row.
        rows_are_counted: whether the records of this batch are in the counters already, see `Database.count`.
        counted_before: number of the last record that was counted before this batch, among those without rows.
        rows_counted_before: the same among those that get a row.
    """

    dropped: int = 0
    sampled: int = 0
    depth: int = 0
    degraded: bool = False
    leaving: bool = False
    damage: Mapping[str, int] = field(default_factory=dict)
    policy: Policy | None = None
    pending_counts: Counts | None = None
    rows_counted_through: int = 0
    rows_are_counted: bool = False
    counted_before: int = 0
    rows_counted_before: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """This process, as `instances` and every log line name it.

    Attributes:
        service: what the process is for, as its operator calls it.
        namespace: the namespace of its first handler.
        instance_id: its id; a forked child gets another one.
        host: name of the machine.
        pid: process id.
        started_at: when recording started in this process.
    """

    service: str = ""
    namespace: str = NAMESPACE
    instance_id: str = field(default_factory=new_id)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def identity(self) -> dict[str, Any]:
        """Return the part of its row in `instances` that never changes."""
        return {
            "instance_id": self.instance_id,
            "service": self.service,
            "namespace": self.namespace,
            "host": self.host,
            "pid": self.pid,
            "version": package_version(),
            "started_at": self.started_at,
        }
