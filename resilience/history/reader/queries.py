"""The questions about single records: for each the statements, and what their rows mean. `measures.py` has those about many.

A question knows nothing of connections. `History` asks it awaited and `SyncHistory` blocking, each with the signature and the
words that stand here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

import sqlalchemy as sa

from resilience import validation
from resilience.failure import ErrorCategory
from resilience.history.schema import rows, tables
from resilience.records.records import CallOutcome, CallRecord, ErrorRecord, FallbackRecord
from resilience.times import Since, to_utc

T = TypeVar("T")
_R = TypeVar("_R", ErrorRecord, FallbackRecord, CallRecord)
Row = Mapping[str, Any]
Found = Sequence[Row]

MOST: Final = 100_000
"""The most records one question gives; more come page by page."""
_LATEST: Final = 10
_TIMELINE: Final = 1000
"""The most records of one kind a request's timeline shows."""
_ANSWERED: Final = (CallOutcome.OK, CallOutcome.RECOVERED_RETRY, CallOutcome.RECOVERED_FALLBACK)
_UNANSWERED: Final = (CallOutcome.FAILED, CallOutcome.REJECTED)


@dataclass(frozen=True, slots=True)
class Query(Generic[T]):
    """Something to ask the database.

    Attributes:
        statements: what to run, for `sqlite` or `postgresql`.
        answer: makes the answer of what each of them found; of nothing where there is no history yet.
    """

    statements: Callable[[str], Sequence[sa.Select[Any]]]
    answer: Callable[[Sequence[Found]], T]


# --- records ------------------------------------------------------------------------------------------------------------


def errors(
    *,
    since: Since = None,
    until: Since = None,
    client: str | None = None,
    function: str | None = None,
    category: ErrorCategory | str | None = None,
    status: int | None = None,
    fingerprint: str | None = None,
    request_id: str | None = None,
    limit: int = 100,
    before: ErrorRecord | None = None,
) -> Query[list[ErrorRecord]]:
    """The failed attempts and refusals that match everything given, newest first.

    Args:
        since: an aware datetime, a timedelta or seconds before now.
        until: only before this; as *since*.
        client: only of this client.
        function: only of this function.
        category: only of this kind.
        status: only with this HTTP status.
        fingerprint: only of this group.
        request_id: only of this request.
        limit: at most so many, up to 100 000.
        before: the last record of the page before this one.

    Raises:
        ValueError: a time has no timezone, *limit* is out of range, or there is no such *category*.
        HistoryError: the database cannot be read.
    """
    wanted = {
        "client": client,
        "function": function,
        "category": known("category", category, ErrorCategory),
        "status": status,
        "fingerprint": fingerprint,
        "request_id": request_id,
    }
    return _page(ErrorRecord, wanted, since=since, until=until, limit=limit, before=before)


def calls(
    *,
    since: Since = None,
    until: Since = None,
    client: str | None = None,
    function: str | None = None,
    outcome: CallOutcome | str | None = None,
    fingerprint: str | None = None,
    request_id: str | None = None,
    not_ok: bool = False,
    limit: int = 100,
    before: CallRecord | None = None,
) -> Query[list[CallRecord]]:
    """The calls that match everything given, newest first; *client* is the one that was to answer. Else as `errors`.

    Args:
        since: an aware datetime, a timedelta or seconds before now.
        until: only before this; as *since*.
        client: only of this client.
        function: only of this function.
        outcome: only those that ended so.
        fingerprint: only those whose first error was of this group.
        request_id: only of this request.
        not_ok: only calls whose outcome is not `ok`.
        limit: at most so many, up to 100 000.
        before: the last record of the page before this one.
    """
    wanted = {
        "client": client,
        "function": function,
        "outcome": known("outcome", outcome, CallOutcome),
        "fingerprint": fingerprint,
        "request_id": request_id,
    }
    clean = [tables.calls.c.outcome != CallOutcome.OK.value] if not_ok else []
    return _page(CallRecord, wanted, *clean, since=since, until=until, limit=limit, before=before)


def fallbacks(
    *,
    since: Since = None,
    until: Since = None,
    from_client: str | None = None,
    to_client: str | None = None,
    function: str | None = None,
    reason: ErrorCategory | str | None = None,
    request_id: str | None = None,
    limit: int = 100,
    before: FallbackRecord | None = None,
) -> Query[list[FallbackRecord]]:
    """The fallbacks that match everything given, newest first. Else as `errors`."""
    wanted = {
        "from_client": from_client,
        "to_client": to_client,
        "function": function,
        "reason": known("reason", reason, ErrorCategory),
        "request_id": request_id,
    }
    return _page(FallbackRecord, wanted, since=since, until=until, limit=limit, before=before)


def error(event_id: str) -> Query[ErrorRecord | None]:
    """The error of this id; None when it is not kept.

    Raises:
        HistoryError: the database cannot be read.
    """
    query = narrowed(sa.select(tables.errors), tables.errors, {"event_id": event_id})
    return one(query, lambda found: rows.record(ErrorRecord, found[0]) if found else None)


def timeline(request_id: str) -> Query[list[rows.Record]]:
    """Everything kept of one request, oldest first; its calls stand where they began.

    Raises:
        HistoryError: the database cannot be read.
    """
    parts: tuple[Query[Any], ...] = (
        calls(request_id=request_id, limit=_TIMELINE),
        errors(request_id=request_id, limit=_TIMELINE),
        fallbacks(request_id=request_id, limit=_TIMELINE),
    )
    return together(
        parts, lambda found: sorted((record for each in found for record in each), key=rows.began)
    )


def summary(since: Since = None) -> Query[dict[str, Any]]:
    """Count what the whole fleet recorded.

    The keys of `Recent.error_summary` and `Recent.fallback_summary`, and `total_calls, by_outcome, call_success_rate`:
    the rate of calls that got an answer, 0.0 to 1.0 of those not cancelled, and 0.0 when there are none.

    Raises:
        ValueError: *since* has no timezone.
        HistoryError: the database cannot be read.
    """
    start = moment_of("since", since)
    parts: dict[str, Query[Any]] = {
        "by_category": _counted(tables.errors.c.category, start),
        "by_client": _counted(tables.errors.c.client, start),
        "by_function": _counted(tables.errors.c.function, start),
        "recent_errors": errors(since=start, limit=_LATEST),
        "by_success": _counted(tables.fallbacks.c.succeeded, start),
        "fallbacks_by_client": _counted(tables.fallbacks.c.to_client, start),
        "recent_fallbacks": fallbacks(since=start, limit=_LATEST),
        "by_outcome": _counted(tables.calls.c.outcome, start),
    }
    return together(tuple(parts.values()), lambda found: _summed(dict(zip(parts, found, strict=True))))


def _summed(found: dict[str, Any]) -> dict[str, Any]:
    by_success, by_outcome = found.pop("by_success"), found["by_outcome"]
    answered, unanswered = (sum(by_outcome.get(one, 0) for one in ends) for ends in (_ANSWERED, _UNANSWERED))
    return {
        "total_errors": sum(found["by_category"].values()),
        **found,
        "total_fallbacks": sum(by_success.values()),
        "successful_fallbacks": by_success.get(True, 0),
        "success_rate": _rate(by_success.get(True, 0), by_success.get(False, 0)),
        "total_calls": sum(by_outcome.values()),
        "call_success_rate": _rate(answered, unanswered),
    }


# --- how questions are made ---------------------------------------------------------------------------------------------


def one(query: sa.Select[Any], answer: Callable[[Found], T]) -> Query[T]:
    """The question one statement answers."""
    return Query(lambda _: [query], lambda found: answer(found[0]))


def together(parts: Sequence[Query[Any]], answer: Callable[[list[Any]], T]) -> Query[T]:
    """The question that the answers of *parts*, which have one statement each, answer together."""
    return Query(
        lambda dialect: [statement for part in parts for statement in part.statements(dialect)],
        lambda found: answer([part.answer([rows]) for part, rows in zip(parts, found, strict=True)]),
    )


def moment_of(field: str, given: Since) -> datetime | None:
    """The UTC moment of *given*, reckoned from now.

    Raises:
        ValueError: it is no time, or has no timezone.
    """
    return to_utc(field, given, datetime.now(UTC))


def narrowed(
    query: sa.Select[Any],
    table: sa.FromClause,
    wanted: Mapping[str, Any],
    since: datetime | None = None,
    until: datetime | None = None,
) -> sa.Select[Any]:
    """*query* with a condition for each value of *wanted* that is not None, and between the two moments.

    Texts are asked for as they would have been kept: cut to their column, without what no database keeps.
    """
    for name, value in wanted.items():
        if value is not None:
            query = query.where(table.c[name] == _as_kept(name, value))
    if since is not None:
        query = query.where(time_of(table) >= since)
    return query if until is None else query.where(time_of(table) < until)


def _as_kept(name: str, value: Any) -> Any:
    """*value* as the column *name* would have kept it: the same name is the same column in every table and view."""
    table = next(table for table in tables.metadata.sorted_tables if name in table.c)
    return rows.fitted(table, {name: value})[name]


def time_of(table: sa.FromClause) -> sa.ColumnElement[datetime]:
    """The column that says when a row of *table* happened."""
    column: sa.ColumnElement[datetime] = next(
        table.c[name] for name in ("occurred_at", "started_at", "bucket_at") if name in table.c
    )
    return column


def limited(query: sa.Select[Any], limit: int) -> sa.Select[Any]:
    """*query* with at most *limit* rows.

    Raises:
        ValueError: *limit* is out of range.
    """
    validation.integer("History", "limit", limit, high=MOST)
    return query.limit(limit)


def _page(
    kind: type[_R],
    wanted: Mapping[str, Any],
    *more: sa.ColumnElement[bool],
    since: Since,
    until: Since,
    limit: int,
    before: _R | None,
) -> Query[list[_R]]:
    table = rows.TABLES[kind]
    key, time = table.primary_key.columns[0], time_of(table)
    query = sa.select(table).where(*more).order_by(time.desc(), key.desc())
    query = narrowed(
        limited(query, limit), table, wanted, moment_of("since", since), moment_of("until", until)
    )
    if before is not None:
        last = sa.tuple_(sa.literal(rows.began(before), time.type), getattr(before, key.name))
        query = query.where(sa.tuple_(time, key) < last)
    return one(query, lambda found: [rows.record(kind, row) for row in found])


def _counted(column: sa.Column[Any], start: datetime | None) -> Query[dict[Any, int]]:
    count = sa.func.count().label("count")
    query = sa.select(column.label("name"), count).group_by(column).order_by(count.desc(), column)
    query = narrowed(query, column.table, {}, start)
    return one(query, lambda found: {row["name"]: row["count"] for row in found})


def known(field: str, value: object, kind: type[StrEnum]) -> str | None:
    """*value* as a word of *kind*.

    Raises:
        ValueError: it is none of them.
    """
    if value is None or value in kind._value2member_map_:
        return None if value is None else str(value)
    msg = f"{field}={value!r}: give one of {', '.join(kind)}"
    raise ValueError(msg)


def _rate(good: int, bad: int) -> float:
    return good / (good + bad) if good + bad else 0.0
