"""What the writer says of its process in `instances`: what it could not store, whether it leaves, and its settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

from resilience import damage_counts
from resilience.history.store.process import Policy, WriterStats
from resilience.history.writer.drops import DropCounter
from resilience.records.json_text import to_json


class SelfReport:
    """What one process says of itself with each transaction. Used by the writer thread, but for `describe`.

    Args:
        drops: the records that have no row.
        degraded: returns whether the store of circuits is away.

    Attributes:
        describe: returns the settings in effect, without secrets; None where they are not known. Any thread may set it.
        has_left: whether the database knows that this process ends.
    """

    def __init__(self, drops: DropCounter, degraded: Callable[[], bool] | None) -> None:
        self.describe: Callable[[], Mapping[str, Any]] | None = None
        self.has_left = False
        self._drops = drops
        self._degraded = degraded
        self._leaving = False
        self._read: Callable[[], Mapping[str, Any]] | None = None
        self._policy: Policy | None = None

    def stats(self, *, depth: int, before: int, through: int, is_counted: bool, leaving: bool) -> WriterStats:
        """Return the state of the writer, to be written with a batch.

        Args:
            depth: records that wait after the batch.
            before: number of the last record that was counted before the batch.
            through: number of the last record of the batch.
            is_counted: whether the counters have the records of the batch already.
            leaving: whether the process ends.
        """
        # What is said is believed only after the commit, see `written`: a batch that failed has told the database nothing.
        self._leaving = leaving
        return WriterStats(
            # A process that ends may be gone before the next batch: until then its other records count as dropped.
            dropped=self._drops.dropped + (depth if leaving else 0),
            sampled=self._drops.sampled,
            depth=depth,
            degraded=self._degraded is not None and self._degraded(),
            leaving=leaving,
            damage=dict(damage_counts.counts),
            policy=self._settings(),
            pending_counts=self._drops.counters.next(),
            rows_counted_through=through,
            rows_are_counted=is_counted,
            counted_before=self._drops.counters.before,
            rows_counted_before=before,
        )

    def written(self) -> None:
        """Note that the database has what `stats` returned last."""
        self._drops.counters.confirm()
        self.has_left = self._leaving

    def _settings(self) -> Policy | None:
        describe = self.describe
        if describe is not self._read:  # the first time, and after a further handler was opened
            self._read = describe
            self._policy = _policy(describe) or self._policy
        return self._policy


def _policy(describe: Callable[[], Mapping[str, Any]] | None) -> Policy | None:
    if describe is None:
        return None
    try:
        # Sorted, so that equal settings have one digest in every process.
        settings = json.loads(to_json(describe()))
        text = json.dumps(settings, sort_keys=True)
    except Exception:  # noqa: BLE001 - the rows of calls must not be lost for the settings
        return None
    return Policy(policy_id=blake2b(text.encode(), digest_size=16).hexdigest(), settings=settings)
