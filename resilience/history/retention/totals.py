"""What retention removes stays counted. A counter that went back would look like a restart to Prometheus, which adds it again.

Tables of counters have a row of grain 0 for each series, to which the rows that are deleted are added. Rows of `fallbacks` and
`breaker_events` are themselves what metrics count, and are added to `pruned_events`. Both happen in the transaction of the deletion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from resilience.history.schema import rows, tables, upserts
from resilience.history.schema.columns import MAX_COUNT
from resilience.history.store import counter_rows
from resilience.records.transitions import COOL_DOWN

COUNTERS: Final = (tables.rollups, tables.error_rollups, tables.latencies, tables.tenant_rollups)
"""The tables of counters."""

_Row = Mapping[str, Any]


def columns(table: sa.Table) -> Sequence[sa.Column[Any]]:
    """Return the columns of deleted rows that `keep` needs; none for a table of which nothing stays counted."""
    if table in COUNTERS:
        return tuple(table.columns)
    return [table.c[name] for name in _COUNTED[table][0]] if table in _COUNTED else ()


def keep(connection: sa.Connection, table: sa.Table, removed: Sequence[_Row]) -> None:
    """Add rows that are being deleted to the totals of their series.

    Args:
        connection: the transaction that deletes them.
        table: their table.
        removed: their `columns`.
    """
    dialect = connection.dialect.name
    if table in COUNTERS:
        totals = _totals(table, removed)
        adding = counter_rows.adding(dialect, table)
    else:
        totals = _events(table, removed)
        adding = _adding_events(dialect)
    if totals:
        connection.execute(adding, totals)


def _totals(table: sa.Table, removed: Iterable[_Row]) -> list[dict[str, Any]]:
    shape = counter_rows.shape(table)
    totals: dict[tuple[Any, ...], dict[str, Any]] = {}
    # Added up here first: a piece has up to a thousand rows of a few series, and each upsert costs as much as a row.
    for row in removed:
        if not all(isinstance(row[name], table.c[name].type.python_type) for name in shape.labels):
            continue  # another program wrote it: there is no series to count it for
        key = (tables.TOTAL_AT, counter_rows.TOTAL, *(row[name] for name in shape.labels))
        total = totals.setdefault(key, {**dict(zip(shape.key, key, strict=True)), **shape.zeros})
        for name in shape.sums:
            total[name] += _sound(row[name])
        for name in shape.maxima:
            total[name] = max(total[name], _sound(row[name]))
    return [totals[key] for key in sorted(totals)]


def _sound(number: Any) -> float:
    """Return a count or a sum of seconds; 0 for what is none, which another program wrote."""
    return number if isinstance(number, int | float) and 0 <= number <= MAX_COUNT else 0


def _events(table: sa.Table, removed: Iterable[_Row]) -> list[dict[str, Any]]:
    series = _COUNTED[table][1]
    keys = (key for row in removed if (key := series(row)) is not None)
    counts = Counter(key for key in keys if all(isinstance(part, str) for part in key))
    return [
        rows.fitted(tables.pruned_events, dict(zip(_SERIES, (*key, count), strict=True)))
        for key, count in sorted(counts.items())
    ]


def _of_fallback(row: _Row) -> tuple[str, ...]:
    result = "" if row["succeeded"] is None else str(row["succeeded"]).lower()
    return row["namespace"], "fallback", row["from_client"], row["to_client"], row["reason"], result


def _of_transition(row: _Row) -> tuple[str, ...] | None:
    # Cool-downs are no transitions, and the metric does not count them.
    if row["rule"] == COOL_DOWN:
        return None
    # The words of an operator are no series: there would be one for each order.
    reason, result = ("", "operator") if row["actor"] else (row["reason"], "")
    return row["namespace"], "transition", row["client"], row["to_state"], reason, result


_SERIES: Final = ("namespace", "kind", "client", "target", "reason", "result", "count")
_COUNTED: Final[Mapping[sa.Table, tuple[Sequence[str], Callable[[_Row], tuple[str, ...] | None]]]] = {
    tables.fallbacks: (("namespace", "from_client", "to_client", "reason", "succeeded"), _of_fallback),
    tables.breaker_events: (("namespace", "client", "to_state", "rule", "reason", "actor"), _of_transition),
}


@cache
def _adding_events(dialect: str) -> sa.Executable:
    statement = upserts.insert(dialect, tables.pruned_events)
    return upserts.upsert(statement, upserts.adding(statement, ("count",)))
