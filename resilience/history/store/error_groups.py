"""Counts by kind of error: how often each occurred, and when first and last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from resilience.history.schema import rows, upserts
from resilience.history.schema.statements import execute
from resilience.history.schema.tables import error_groups
from resilience.records.fingerprint import normalised
from resilience.records.records import ErrorRecord, Record

OTHERS: Final = "0" * 32
"""The fingerprint that counts errors of further kinds once ten thousand are in memory. The sum stays exact."""

_MOST: Final = 10_000


class Groups:
    """Counts that are to be added to `error_groups`.

    Args:
        most: number of kinds to hold in memory; errors of further kinds are counted together.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}
        self._most = most

    def __bool__(self) -> bool:
        return bool(self._rows)

    def add(self, record: Record) -> None:
        """Count *record* if it is an error with a fingerprint."""
        if not isinstance(record, ErrorRecord) or not record.fingerprint:
            return
        row = self._rows.get((record.namespace, record.fingerprint)) or self._new(record)
        row["count"] += 1
        row["first_seen_at"] = min(row["first_seen_at"], record.occurred_at)
        row["last_seen_at"] = max(row["last_seen_at"], record.occurred_at)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows to add, sorted by key to avoid deadlocks, as those of `Rollups`."""
        return [self._rows[key] for key in sorted(self._rows)]

    def _new(self, record: ErrorRecord) -> dict[str, Any]:
        full = len(self._rows) >= self._most
        fingerprint = OTHERS if full else record.fingerprint
        row: dict[str, Any] = {
            "namespace": record.namespace,
            "fingerprint": fingerprint,
            "fp_version": record.fp_version,
            "category": record.category,
            "exception_type": "" if full else record.exception_type,
            # The title is the normalised message, without the numbers and ids of one error.
            "title": OTHERS_TITLE if full else normalised(record.message) or record.exception_type,
            "first_seen_at": record.occurred_at,
            "last_seen_at": record.occurred_at,
            "count": 0,
        }
        return self._rows.setdefault((record.namespace, fingerprint), rows.fitted(error_groups, row))


OTHERS_TITLE: Final = "(too many kinds of errors at once)"


def write(connection: sa.Connection, added: Sequence[dict[str, Any]]) -> None:
    """Add counts to the stored rows. Their title, status and note do not change."""
    if added:
        execute(connection, adding(connection.dialect.name), added)


@cache
def adding(dialect: str) -> sa.Executable:
    """Return the upsert that adds a row to the one of the same namespace and fingerprint."""
    statement = upserts.insert(dialect, error_groups)
    old, new = error_groups.c, statement.excluded
    # A batch may be older than what is stored, for example one from an import.
    period = {
        "first_seen_at": upserts.least(dialect, old.first_seen_at, new.first_seen_at),
        "last_seen_at": upserts.greatest(dialect, old.last_seen_at, new.last_seen_at),
    }
    return upserts.upsert(statement, upserts.adding(statement, ("count",)) | period)
