"""Queries over many records: rates, error groups, outages, and how often retries and fallbacks succeed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from resilience.failure import ErrorCategory
from resilience.history.reader.queries import Query, checked_word, filtered, limited, single, utc
from resilience.history.reader.results import (
    ErrorGroup,
    FallbackSuccess,
    Latency,
    MttrStats,
    Outage,
    Rate,
    Recovery,
    RetrySuccess,
    TenantUsage,
)
from resilience.history.schema import rows, view_ddl
from resilience.history.schema.columns import sound_sum
from resilience.history.schema.tables import UtcDateTime, error_groups, errors, rollups
from resilience.history.schema.views import VIEWS
from resilience.times import Since

_V = TypeVar("_V", FallbackSuccess, Latency, Outage, Recovery, MttrStats, RetrySuccess, TenantUsage)
_KEYS: Final = ("hour", "client", "function")
_DAY: Final = timedelta(days=1)
_VIEWS: Final = {view.name: view for view in VIEWS}


def rates(
    by: str | Sequence[str] = "client",
    *,
    since: Since = _DAY,
    until: Since = None,
    client: str | None = None,
    function: str | None = None,
    namespace: str | None = None,
) -> Query[list[Rate]]:
    """Return exact counts and rates: in order of time if grouped by `hour`, else most errors first.

    Args:
        by: group by one or several of `client`, `function`, `hour`.
        since: start of the window, inclusive: an aware datetime, or a timedelta or seconds before now. Counts are kept by
            the minute, old ones by the hour.
        until: end of the window, exclusive; like *since*.
        client: name of the client.
        function: name of the BAML function.
        namespace: namespace of the deployment; that of the history by default, None for all.

    Raises:
        ValueError: a time has no timezone, or *by* has an unknown or repeated name.
        HistoryError: the database cannot be read.
    """
    names = _group_keys(by)
    start, end = utc("since", since), utc("until", until)

    def build(dialect: str) -> list[sa.Select[Any]]:
        hour = sa.literal_column(view_ddl.hour(dialect, "bucket_at"), UtcDateTime()).label("hour")
        keys = [hour if name == "hour" else rollups.c[name] for name in names]
        query = sa.select(*keys, *_sums()).group_by(*keys)
        query = query.order_by(*([hour] if "hour" in names else []), sa.desc("errors"), *keys)
        if "hour" in names:  # what retention took has no hour
            query = query.where(rollups.c.grain > 0)
        filters = {"client": client, "function": function, "namespace": namespace}
        return [filtered(query, rollups, filters, start, end)]

    return Query(build, lambda results: [Rate(**row) for row in results[0]])


def _group_keys(by: str | Sequence[str]) -> tuple[str, ...]:
    names = (by,) if isinstance(by, str) else tuple(by)
    if names and len(set(names)) == len(names) and set(names) <= set(_KEYS):
        return names
    msg = f"by={by!r}: give one or several of {', '.join(_KEYS)}, each once"
    raise ValueError(msg)


def _sums() -> list[sa.ColumnElement[Any]]:
    columns = "calls failed_calls rejected_calls cancelled_calls attempts errors answered_calls input_tokens output_tokens"
    # PostgreSQL adds integers up to NUMERIC, which arrives as Decimal.
    total = {name: sa.cast(sound_sum(rollups.c[name]), sa.BigInteger()) for name in columns.split()}
    finished = total["calls"] - total["cancelled_calls"]
    return [
        *(column.label(name) for name, column in total.items()),
        _share(total["errors"], total["attempts"]).label("error_rate"),
        _share(total["failed_calls"], finished).label("failed_rate"),
        (sound_sum(rollups.c.duration_sum) / sa.func.nullif(total["answered_calls"], 0)).label(
            "mean_seconds"
        ),
        sa.func.max(rollups.c.duration_max).label("longest_seconds"),
    ]


def _share(part: sa.ColumnElement[int], whole: sa.ColumnElement[int]) -> sa.ColumnElement[Any]:
    # The cast is needed: both databases divide integers without a fraction. NULLIF makes 0 of 0 NULL, not an error.
    return sa.cast(part, sa.Double()) / sa.func.nullif(whole, 0)


def groups(
    *,
    since: Since = _DAY,
    until: Since = None,
    client: str | None = None,
    function: str | None = None,
    category: ErrorCategory | str | None = None,
    namespace: str | None = None,
    misread: bool = False,
    limit: int = 20,
) -> Query[list[ErrorGroup]]:
    """Return the error groups of a window, most frequent first.

    With no filter except *category* and *namespace*, the counts are the exact ones of all time, including errors whose rows were pruned.

    Args:
        since: start of the window, inclusive: an aware datetime, or a timedelta or seconds before now; None for all time.
        until: end of the window, exclusive; like *since*.
        client: name of the client.
        function: name of the BAML function.
        category: error category.
        namespace: namespace of the deployment; that of the history by default, None for all.
        misread: only errors that no rule understood, and those whose category behaviour corrected: the client refused every request.
        limit: maximum number of groups, up to 100 000.

    Raises:
        ValueError: a time has no timezone, *limit* is out of range, or *category* is unknown.
        HistoryError: the database cannot be read.
    """
    checked = checked_word("category", category, ErrorCategory)
    if not misread and all(value is None for value in (since, until, client, function)):
        return single(
            _groups_of_all_time(checked, namespace, limit), lambda found: [ErrorGroup(**row) for row in found]
        )
    filters = {"client": client, "function": function, "category": checked, "namespace": namespace}
    # A row that was kept at a sample rate of 0.1 stands for ten errors.
    count = sa.func.sum(1 / sa.func.nullif(errors.c.sample_rate, 0))
    # Grouped by the bare column, SQLite would skip-scan the index on (fingerprint, occurred_at): one search for each group
    # of all time. Inside a function the column hides that index, and the planner reads the window by the index on time.
    fingerprint: Any = sa.func.coalesce(errors.c.fingerprint, errors.c.fingerprint)
    per_group = sa.select(
        errors.c.namespace,
        fingerprint.label("fingerprint"),
        sa.func.max(errors.c.category).label("category"),
        sa.cast(sa.func.round(sa.func.coalesce(count, 0)), sa.BigInteger()).label("errors"),
        sa.func.count(errors.c.client.distinct()).label("clients"),
        sa.func.min(errors.c.occurred_at).label("first"),
        sa.func.max(errors.c.occurred_at).label("last"),
    ).group_by(fingerprint, errors.c.namespace)
    per_group = filtered(per_group, errors, filters, utc("since", since), utc("until", until))
    per_group = per_group.where(rows.MISREAD) if misread else per_group
    top = limited(
        per_group.order_by(sa.desc("errors"), sa.desc("last"), fingerprint, errors.c.namespace), limit
    ).subquery()
    return single(_with_details(top), lambda found: [ErrorGroup(**row) for row in found])


def _groups_of_all_time(category: str | None, namespace: str | None, limit: int) -> sa.Select[Any]:
    group = error_groups.c
    query = sa.select(
        group.namespace,
        group.fingerprint,
        group.category,
        group.exception_type,
        group.title,
        group["count"].label("errors"),
        sa.null().label("clients"),
        group.first_seen_at,
        group.last_seen_at,
        group["count"].label("total"),
        group.status,
        group.note,
    ).order_by(group["count"].desc(), group.last_seen_at.desc(), group.fingerprint, group.namespace)
    return filtered(limited(query, limit), error_groups, {"category": category, "namespace": namespace})


def _with_details(top: sa.Subquery) -> sa.Select[Any]:
    """Return the groups of *top* joined with `error_groups`.

    The writer adds to `error_groups` later than to `errors`. A group without a row there takes its details from any of its
    errors, and its total from the window.
    """
    window, group = top.c, error_groups.c
    same = (group.fingerprint == window.fingerprint) & (group.namespace == window.namespace)

    def first_of(column: sa.ColumnElement[Any], default: sa.ColumnElement[Any], name: str) -> sa.Label[Any]:
        return sa.func.coalesce(column, default, type_=default.type).label(name)

    def any_error(column: sa.Column[Any]) -> sa.ScalarSelect[Any]:
        these = (errors.c.fingerprint == window.fingerprint) & (errors.c.namespace == window.namespace)
        return sa.select(column).where(these).limit(1).scalar_subquery()

    return (
        sa.select(
            window.namespace,
            window.fingerprint,
            window.category,
            first_of(group.exception_type, any_error(errors.c.exception_type), "exception_type"),
            first_of(group.title, any_error(errors.c.message), "title"),
            window.errors,
            window.clients,
            first_of(group.first_seen_at, window["first"], "first_seen_at"),
            window["last"].label("last_seen_at"),
            first_of(group["count"], window.errors, "total"),
            first_of(group.status, sa.literal("open"), "status"),
            group.note,
        )
        .select_from(top.outerjoin(error_groups, same))
        .order_by(window.errors.desc(), window["last"].desc(), window.fingerprint, window.namespace)
    )


def outages(
    *,
    since: Since = None,
    until: Since = None,
    client: str | None = None,
    namespace: str | None = None,
    scope: str | None = None,
    running: bool = False,
    limit: int = 100,
) -> Query[list[Outage]]:
    """Return the periods in which circuits were not closed, newest first: the rows of `v_breaker_outages`.

    Args:
        since: earliest start, inclusive: an aware datetime, or a timedelta or seconds before now.
        until: latest start, exclusive; like *since*.
        client: name of the client.
        namespace: namespace of the deployment; that of the history by default, None for all.
        scope: `shared` for circuits in a shared store, or the instance_id of a process.
        running: only outages that have not ended.
        limit: maximum number of outages, up to 100 000.

    Raises:
        ValueError: a time has no timezone, or *limit* is out of range.
        HistoryError: the database cannot be read.
    """
    view = _view("v_breaker_outages")
    filters = {"client": client, "namespace": namespace, "scope": scope}
    query = limited(sa.select(view).order_by(view.c.started_at.desc(), view.c.client), limit)
    query = filtered(query, view, filters, utc("since", since), utc("until", until))
    if running:
        query = query.where(view.c.ended_at.is_(None))
    return single(query, lambda found: [rows.value(Outage, row) for row in found])


def mttr(
    *, client: str | None = None, namespace: str | None = None, scope: str | None = None
) -> Query[list[MttrStats]]:
    """Return the mean time to recovery of each client, and whether an outage is running: the rows of `v_mttr`.

    Args:
        client: name of the client.
        namespace: namespace of the deployment; that of the history by default, None for all.
        scope: `shared` for circuits in a shared store, or the instance_id of a process.

    Raises:
        HistoryError: the database cannot be read.
    """
    view = _view("v_mttr")
    query = sa.select(view).order_by(view.c.outages.desc(), view.c.client, view.c.namespace, view.c.scope)
    return single(
        filtered(query, view, {"client": client, "namespace": namespace, "scope": scope}),
        lambda found: [rows.value(MttrStats, row) for row in found],
    )


def retry_success(
    *, since: Since = _DAY, client: str | None = None, namespace: str | None = None
) -> Query[list[RetrySuccess]]:
    """Return how often a retry on the same client succeeded: `v_retry_success` with a window of the caller's choice.

    Args:
        since: start of the window, inclusive: an aware datetime, or a timedelta or seconds before now.
        client: name of the client.
        namespace: namespace of the deployment; that of the history by default, None for all.

    Raises:
        ValueError: *since* has no timezone.
        HistoryError: the database cannot be read.
    """
    return _windowed(RetrySuccess, "v_retry_success", since, {"client": client, "namespace": namespace})


def fallback_success(
    *, since: Since = _DAY, from_client: str | None = None, namespace: str | None = None
) -> Query[list[FallbackSuccess]]:
    """Return how often a fallback succeeded: `v_fallback_success` with a window of the caller's choice.

    Args:
        since: start of the window, inclusive: an aware datetime, or a timedelta or seconds before now.
        from_client: the client that failed.
        namespace: namespace of the deployment; that of the history by default, None for all.

    Raises:
        ValueError: *since* has no timezone.
        HistoryError: the database cannot be read.
    """
    return _windowed(
        FallbackSuccess, "v_fallback_success", since, {"from_client": from_client, "namespace": namespace}
    )


def recovery(
    *, since: Since = _DAY, client: str | None = None, namespace: str | None = None
) -> Query[list[Recovery]]:
    """Return how calls with a failure ended: `v_recovery` with a window of the caller's choice.

    Args:
        since: start of the window, inclusive: an aware datetime, or a timedelta or seconds before now.
        client: name of the client.
        namespace: namespace of the deployment; that of the history by default, None for all.

    Raises:
        ValueError: *since* has no timezone.
        HistoryError: the database cannot be read.
    """
    return _windowed(Recovery, "v_recovery", since, {"client": client, "namespace": namespace})


def latency(
    *, since: Since = _DAY, client: str | None = None, kind: str | None = None, namespace: str | None = None
) -> Query[list[Latency]]:
    """Return percentiles of durations by client: `v_latency_24h` with a window of the caller's choice.

    Args:
        since: start of the window, inclusive: an aware datetime, or a timedelta or seconds before now. Counts are kept by the
            minute for a day, and by the hour after that.
        client: name of the client.
        kind: `attempt_ok`, `attempt_failed`, `call` or `first_token`.
        namespace: namespace of the deployment; that of the history by default, None for all.

    Raises:
        ValueError: *since* has no timezone.
        HistoryError: the database cannot be read.
    """
    filters = {"client": client, "kind": kind, "namespace": namespace}
    return _windowed(Latency, "v_latency_24h", since, filters)


def tenants(
    *,
    since: Since = _DAY,
    tenant: str | None = None,
    client: str | None = None,
    namespace: str | None = None,
) -> Query[list[TenantUsage]]:
    """Return what tenants asked and used, most calls first: `v_tenants_24h` with a window of the caller's choice.

    Args:
        since: start of the window, inclusive: an aware datetime, or a timedelta or seconds before now. Counts are by the hour.
        tenant: the tenant.
        client: the client that answered.
        namespace: namespace of the deployment; that of the history by default, None for all.

    Raises:
        ValueError: *since* has no timezone.
        HistoryError: the database cannot be read.
    """
    filters = {"tenant": tenant, "client": client, "namespace": namespace}
    return _windowed(TenantUsage, "v_tenants_24h", since, filters)


def _windowed(kind: type[_V], name: str, since: Since, filters: Mapping[str, str | None]) -> Query[list[_V]]:
    """Return a query with the SQL of the view *name*, but another window: API and view cannot give different answers."""
    # The views have a fixed window; None, all time, is the beginning of the calendar.
    start = utc("since", since) or datetime.min.replace(tzinfo=UTC)

    def build(dialect: str) -> list[sa.Select[Any]]:
        # sa.text takes every colon for a parameter: the view's own colons (casts, times) are escaped before ours is added.
        text = view_ddl.query(_VIEWS[name], dialect, since="<since>").replace(":", r"\:")
        bound = sa.text(text.replace("<since>", ":since")).bindparams(
            sa.bindparam("since", start, UtcDateTime())
        )
        steps = bound.columns(*(sa.column(field.name) for field in dataclasses.fields(kind))).subquery()
        return [filtered(sa.select(steps), steps, filters)]

    return Query(build, lambda results: [rows.value(kind, row) for row in results[0]])


def _view(name: str) -> sa.TableClause:
    columns = _VIEWS[name].columns
    # SQLite keeps times as text: the name tells which columns are to be converted.
    return sa.table(
        name, *(sa.column(column, UtcDateTime() if column.endswith("_at") else None) for column in columns)
    )
