"""What an empty list means. Healthy, mistyped and impossible look the same in SQL, and must not look the same to an operator."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from resilience.history import SyncHistory
    from resilience.history.reader.results import ResultSet

_KNOWN: Final = {
    "client": "SELECT DISTINCT client FROM rollups WHERE namespace = :namespace",
    "function": "SELECT DISTINCT function FROM rollups WHERE namespace = :namespace",
}


def explain(
    history: SyncHistory, place: str, table: str, time: str, filters: Mapping[str, str | None]
) -> str:
    """Return one line: what is wrong with a filter, or what the history has although nothing matches.

    Args:
        history: the history.
        place: where it is, for the message.
        table: the table that was listed, a name of ours.
        time: its column with the time, a name of ours.
        filters: the values of the filters `client` and `function`, if they were given.
    """
    namespace = {"namespace": history.namespace}
    for name, value in filters.items():
        if value is not None and (known := _texts(history.sql(_KNOWN[name], namespace))):
            if value in known:
                continue
            near = difflib.get_close_matches(value, known, 1)
            guess = f"did you mean {near[0]}? " if near else ""
            return f"no {name} {value!r} in the history at {place}: {guess}it has {', '.join(known)}"
    # Only times as the tables have them: in SQLite, values of other types are greater than every text.
    newest_time = f"MAX(CASE WHEN CAST({time} AS TEXT) LIKE '2%-%-% %:%' THEN {time} END)"
    query = f"SELECT COUNT(*), {newest_time} FROM {table} WHERE namespace = :namespace"  # noqa: S608 - names of ours
    ((count, newest),) = history.sql(query, namespace).rows
    if not count:
        others = _texts(history.sql(f"SELECT DISTINCT namespace FROM {table}"))  # noqa: S608 - as above
        where = (
            f" in the namespace {history.namespace!r}: it has those of {', '.join(others)}"
            if others
            else " yet"
        )
        return f"no {table} in the history at {place}{where}"
    return f"no matching rows; the history at {place} has {count} {table}, the newest at {str(newest)[:19]}Z"


def _texts(found: ResultSet) -> list[str]:
    """Return the texts in the first column, sorted. Another program may have put other values there."""
    return sorted({row[0] for row in found.rows if isinstance(row[0], str) and row[0]})
