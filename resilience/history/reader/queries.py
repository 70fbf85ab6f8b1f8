"""Queries for single records, and the parts that all queries are made of; `aggregates.py` has the queries over many records.

A query knows no connection. Each function here has the signature and the documentation of a method of `History`, which
awaits the query, and of `SyncHistory`, which blocks.
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
from resilience.history.reader.summaries import LATEST, rate, summarize_errors, summarize_fallbacks
from resilience.history.schema import rows, tables
from resilience.records.records import CallOutcome, CallRecord, ErrorRecord, FallbackRecord, Record
from resilience.times import Since, to_utc

T = TypeVar("T")
_R = TypeVar("_R", ErrorRecord, FallbackRecord, CallRecord)
Rows = Sequence[Mapping[str, Any]]
"""The rows that one statement found, as mappings by column name."""

MAX_LIMIT: Final = 100_000
"""The largest *limit* of a query; `before` reads further pages."""
_TIMELINE_LIMIT: Final = 1000
"""The largest number of records of one kind in a timeline."""
_ANSWERED: Final = (CallOutcome.OK, CallOutcome.RECOVERED_RETRY, CallOutcome.RECOVERED_FALLBACK)
# Cancelled calls are in neither tuple: whether a client would have answered is not known.
_UNANSWERED: Final = (CallOutcome.FAILED, CallOutcome.REJECTED)


@dataclass(frozen=True, slots=True)
class Query(Generic[T]):
    """The statements of a query, and the conversion of their rows.

    Attributes:
        build: returns the statements for a dialect, `sqlite` or `postgresql`.
        convert: makes the result from the rows of each statement. An empty history is a list of empty rows.
    """

    build: Callable[[str], Sequence[sa.Select[Any]]]
    convert: Callable[[Sequence[Rows]], T]


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
    namespace: str | None = None,
    limit: int = 100,
    before: ErrorRecord | None = None,
) -> Query[list[ErrorRecord]]:
    """Return the failed attempts and refusals that match every filter, newest first.

    Args:
        since: start of the window, inclusive: an aware datetime, or a timedelta or seconds before now.
        until: end of the window, exclusive; like *since*.
        client: name of the client.
        function: name of the BAML function.
        category: error category.
        status: HTTP status.
        fingerprint: error group.
        request_id: request of the application.
        namespace: namespace of the deployment; that of the history by default, None for all.
        limit: maximum number of records, up to 100 000.
        before: last record of the previous page.

    Raises:
        ValueError: a time has no timezone, *limit* is out of range, or *category* is unknown.
        HistoryError: the database cannot be read.
    """
    filters = {
        "client": client,
        "function": function,
        "category": checked_word("category", category, ErrorCategory),
        "status": status,
        "fingerprint": fingerprint,
        "request_id": request_id,
        "namespace": namespace,
    }
    return _page(ErrorRecord, filters, since=since, until=until, limit=limit, before=before)


def calls(
    *,
    since: Since = None,
    until: Since = None,
    client: str | None = None,
    answered_by: str | None = None,
    function: str | None = None,
    outcome: CallOutcome | str | None = None,
    fingerprint: str | None = None,
    request_id: str | None = None,
    tenant: str | None = None,
    namespace: str | None = None,
    not_ok: bool = False,
    limit: int = 100,
    before: CallRecord | None = None,
) -> Query[list[CallRecord]]:
    """Return the calls that match every filter, newest first. With *request_id*, also the probes that ran beside them.

    Args:
        since: start of the window, inclusive: an aware datetime, or a timedelta or seconds before now.
        until: end of the window, exclusive; like *since*.
        client: the client that the call was for; a fallback may have answered.
        answered_by: the client whose answer the caller got.
        function: name of the BAML function.
        outcome: how the call ended.
        fingerprint: error group of the call's first error.
        request_id: request of the application.
        tenant: for whom the application made the call.
        namespace: namespace of the deployment; that of the history by default, None for all.
        not_ok: only calls whose outcome is not `ok`.
        limit: maximum number of records, up to 100 000.
        before: last record of the previous page.

    Raises:
        ValueError: a time has no timezone, *limit* is out of range, or *outcome* is unknown.
        HistoryError: the database cannot be read.
    """
    filters = {
        "client": client,
        "function": function,
        "outcome": checked_word("outcome", outcome, CallOutcome),
        "fingerprint": fingerprint,
        "request_id": request_id,
        "tenant": tenant,
        "namespace": namespace,
    }
    conditions = [tables.calls.c.outcome != CallOutcome.OK.value] if not_ok else []
    if answered_by is not None:
        # `client_final` of a failed call is the client that was tried last.
        conditions += [tables.calls.c.client_final == answered_by, tables.calls.c.outcome.in_(_ANSWERED)]
    if request_id is None:
        # A probe beside a call belongs to the story of its request, and to no list of calls.
        conditions.append(sa.not_(tables.calls.c.probe))
    return _page(CallRecord, filters, *conditions, since=since, until=until, limit=limit, before=before)


def fallbacks(
    *,
    since: Since = None,
    until: Since = None,
    from_client: str | None = None,
    to_client: str | None = None,
    function: str | None = None,
    reason: ErrorCategory | str | None = None,
    request_id: str | None = None,
    namespace: str | None = None,
    limit: int = 100,
    before: FallbackRecord | None = None,
) -> Query[list[FallbackRecord]]:
    """Return the fallbacks that match every filter, newest first.

    Args:
        since: start of the window, inclusive: an aware datetime, or a timedelta or seconds before now.
        until: end of the window, exclusive; like *since*.
        from_client: the client that failed.
        to_client: the client that was asked next.
        function: name of the BAML function.
        reason: error category for which the client was left.
        request_id: request of the application.
        namespace: namespace of the deployment; that of the history by default, None for all.
        limit: maximum number of records, up to 100 000.
        before: last record of the previous page.

    Raises:
        ValueError: a time has no timezone, *limit* is out of range, or *reason* is unknown.
        HistoryError: the database cannot be read.
    """
    filters = {
        "from_client": from_client,
        "to_client": to_client,
        "function": function,
        "reason": checked_word("reason", reason, ErrorCategory),
        "request_id": request_id,
        "namespace": namespace,
    }
    return _page(FallbackRecord, filters, since=since, until=until, limit=limit, before=before)


def error(event_id: str, *, namespace: str | None = None) -> Query[ErrorRecord | None]:
    """Return the error with this id; None if the history does not have it.

    Args:
        event_id: id of the error.
        namespace: namespace of the deployment; that of the history by default, None for all.

    Raises:
        HistoryError: the database cannot be read.
    """
    query = filtered(sa.select(tables.errors), tables.errors, {"event_id": event_id, "namespace": namespace})
    return single(query, lambda found: rows.record(ErrorRecord, found[0]) if found else None)


def timeline(request_id: str, *, namespace: str | None = None) -> Query[list[Record]]:
    """Return all calls, errors and fallbacks of one request, oldest first; a call stands at its start.

    Args:
        request_id: request of the application.
        namespace: namespace of the deployment; that of the history by default, None for all.

    Raises:
        HistoryError: the database cannot be read.
    """
    parts: tuple[Query[Any], ...] = (
        calls(request_id=request_id, namespace=namespace, limit=_TIMELINE_LIMIT),
        errors(request_id=request_id, namespace=namespace, limit=_TIMELINE_LIMIT),
        fallbacks(request_id=request_id, namespace=namespace, limit=_TIMELINE_LIMIT),
    )
    # sorted() is stable: of records of the same instant, the call comes first, because it is the first of the parts.
    return combined(
        parts, lambda results: sorted((record for result in results for record in result), key=rows.timestamp)
    )


def summary(since: Since = None, *, namespace: str | None = None) -> Query[dict[str, Any]]:
    """Count what the whole fleet recorded.

    Returns the keys of `Recent.error_summary` and `Recent.fallback_summary` (with `fallbacks_by_client`, since `by_client`
    counts errors), and `total_calls, by_outcome, call_success_rate`. The last is the share of answered calls, from 0.0 to
    1.0, without cancelled calls; 0.0 if there are none.

    Args:
        since: start of the window, inclusive: an aware datetime, or a timedelta or seconds before now.
        namespace: namespace of the deployment; that of the history by default, None for all.

    Raises:
        ValueError: *since* has no timezone.
        HistoryError: the database cannot be read.
    """
    # Computed once: a relative time would mean another instant in each of the parts.
    start = utc("since", since)
    parts: dict[str, Query[Any]] = {
        "by_category": _counts(tables.errors.c.category, start, namespace),
        "by_client": _counts(tables.errors.c.client, start, namespace),
        "by_function": _counts(tables.errors.c.function, start, namespace),
        "recent_errors": errors(since=start, limit=LATEST, namespace=namespace),
        "by_success": _counts(tables.fallbacks.c.succeeded, start, namespace),
        "fallbacks_by_client": _counts(tables.fallbacks.c.to_client, start, namespace),
        "recent_fallbacks": fallbacks(since=start, limit=LATEST, namespace=namespace),
        "by_outcome": _counts(tables.calls.c.outcome, start, namespace, sa.not_(tables.calls.c.probe)),
    }
    return combined(tuple(parts.values()), lambda results: _summarize(dict(zip(parts, results, strict=True))))


def _summarize(part: dict[str, Any]) -> dict[str, Any]:
    by_outcome: dict[str, int] = part["by_outcome"]
    answered, unanswered = (
        sum(by_outcome.get(outcome, 0) for outcome in outcomes) for outcomes in (_ANSWERED, _UNANSWERED)
    )
    return {
        **summarize_errors(
            part["by_category"], part["by_client"], part["by_function"], part["recent_errors"]
        ),
        **summarize_fallbacks(part["by_success"], part["recent_fallbacks"]),
        "fallbacks_by_client": part["fallbacks_by_client"],
        "total_calls": sum(by_outcome.values()),
        "by_outcome": by_outcome,
        "call_success_rate": rate(answered, unanswered),
    }


# --- the parts of queries -----------------------------------------------------------------------------------------------


def single(statement: sa.Select[Any], convert: Callable[[Rows], T]) -> Query[T]:
    """Return a query of one statement, the same for both dialects."""
    return Query(lambda _: [statement], lambda results: convert(results[0]))


def combined(parts: Sequence[Query[Any]], combine: Callable[[list[Any]], T]) -> Query[T]:
    """Return a query that runs *parts*, of one statement each, and combines their results."""
    return Query(
        lambda dialect: [statement for part in parts for statement in part.build(dialect)],
        lambda results: combine([part.convert([found]) for part, found in zip(parts, results, strict=True)]),
    )


def utc(field: str, time: Since) -> datetime | None:
    """Return the UTC time that *time* means now.

    Raises:
        ValueError: *time* is not a time, or has no timezone. The message names *field*.
    """
    return to_utc(field, time, datetime.now(UTC))


def filtered(
    query: sa.Select[Any],
    table: sa.FromClause,
    filters: Mapping[str, Any],
    since: datetime | None = None,
    until: datetime | None = None,
) -> sa.Select[Any]:
    """Return *query* with a condition for each filter that is not None, and for the window.

    A text is compared as the writer stores it: cut to the width of its column, without characters that databases refuse.
    Otherwise a long name would never match its own row.
    """
    for name, value in filters.items():
        if value is not None:
            query = query.where(table.c[name] == _as_stored(name, value))
    if since is not None:
        query = query.where(time_column(table) >= since)
    return query if until is None else query.where(time_column(table) < until)


def _as_stored(name: str, value: Any) -> Any:
    # Views have no widths; but a name means the same column in every table and view, so any table that has it will do.
    table = next(table for table in tables.metadata.sorted_tables if name in table.c)
    return rows.fitted(table, {name: value})[name]


def time_column(table: sa.FromClause) -> sa.ColumnElement[datetime]:
    """Return the column with the time of a row."""
    column: sa.ColumnElement[datetime] = next(
        table.c[name] for name in ("occurred_at", "started_at", "bucket_at") if name in table.c
    )
    return column


def limited(query: sa.Select[Any], limit: int) -> sa.Select[Any]:
    """Return *query* with at most *limit* rows.

    Raises:
        ValueError: *limit* is out of range.
    """
    validation.integer("History", "limit", limit, high=MAX_LIMIT)
    return query.limit(limit)


def checked_word(field: str, value: object, words: type[StrEnum]) -> str | None:
    """Return *value*, which must be one of *words* or None.

    Raises:
        ValueError: it is neither. The message names *field* and all words.
    """
    if value is None or value in words._value2member_map_:
        return None if value is None else str(value)
    msg = f"{field}={value!r}: give one of {', '.join(words)}"
    raise ValueError(msg)


def _page(
    kind: type[_R],
    filters: Mapping[str, Any],
    *conditions: sa.ColumnElement[bool],
    since: Since,
    until: Since,
    limit: int,
    before: _R | None,
) -> Query[list[_R]]:
    table = rows.TABLES[kind]
    key, time = table.primary_key.columns[0], time_column(table)
    # The id breaks ties. Without it a page could end between rows of one microsecond, and the next page
    # lose the rest. The comparison with `before` below must name the same columns in the same order.
    query = sa.select(table).where(*conditions).order_by(time.desc(), key.desc())
    query = filtered(limited(query, limit), table, filters, utc("since", since), utc("until", until))
    if before is not None:
        # Keyset pagination: rows that are added or pruned between two pages move nothing, as an OFFSET would.
        last = sa.tuple_(sa.literal(rows.timestamp(before), time.type), getattr(before, key.name))
        query = query.where(sa.tuple_(time, key) < last)
    return single(query, lambda found: [rows.record(kind, row) for row in found])


def _counts(
    column: sa.Column[Any], start: datetime | None, namespace: str | None, *conditions: sa.ColumnElement[bool]
) -> Query[dict[Any, int]]:
    """Return a query for the number of rows by value of *column*, most frequent first."""
    count = sa.func.count().label("count")
    query = (
        sa.select(column.label("name"), count)
        .where(*conditions)
        .group_by(column)
        .order_by(count.desc(), column)
    )
    query = filtered(query, column.table, {"namespace": namespace}, start)
    return single(query, lambda found: {row["name"]: row["count"] for row in found})
