"""The questions about many records: rates, groups, outages, and what helped."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from resilience.failure import ErrorCategory
from resilience.history.reader.queries import Query, known, limited, moment_of, narrowed, one
from resilience.history.reader.results import (
    ErrorGroup,
    FallbackSuccess,
    MttrStats,
    Outage,
    Rate,
    Recovery,
    RetrySuccess,
)
from resilience.history.schema import view_ddl
from resilience.history.schema.tables import UtcDateTime, error_groups, errors, rollups
from resilience.history.schema.views import VIEWS
from resilience.times import Since

_A = TypeVar("_A", FallbackSuccess, Outage, Recovery, MttrStats, RetrySuccess)
_BY: Final = ("hour", "client", "function")
_DAY: Final = timedelta(days=1)
_VIEWS: Final = {view.name: view for view in VIEWS}


def rates(
    by: str | Sequence[str] = "client",
    *,
    since: Since = _DAY,
    until: Since = None,
    client: str | None = None,
    function: str | None = None,
) -> Query[list[Rate]]:
    """Exact counts and rates by `client`, `function`, `hour` or several of these: by hour in order, else most errors first.

    Args:
        by: one or several of `client`, `function`, `hour`.
        since: an aware datetime, a timedelta or seconds before now; counts are kept by the minute, old ones by the hour.
        until: only before this; as *since*.
        client: only of this client.
        function: only of this function.

    Raises:
        ValueError: a time has no timezone, or *by* is something else.
        HistoryError: the database cannot be read.
    """
    names = _by(by)
    start, end = moment_of("since", since), moment_of("until", until)

    def statements(dialect: str) -> list[sa.Select[Any]]:
        hour = sa.literal_column(view_ddl.hour(dialect, "bucket_at"), UtcDateTime()).label("hour")
        keys = [hour if name == "hour" else rollups.c[name] for name in names]
        query = sa.select(*keys, *_sums()).group_by(*keys)
        query = query.order_by(*([hour] if "hour" in names else []), sa.desc("errors"), *keys)
        return [narrowed(query, rollups, {"client": client, "function": function}, start, end)]

    return Query(statements, lambda found: [Rate(**row) for row in found[0]])


def _by(by: str | Sequence[str]) -> tuple[str, ...]:
    names = (by,) if isinstance(by, str) else tuple(by)
    if names and len(set(names)) == len(names) and set(names) <= set(_BY):
        return names
    msg = f"by={by!r}: give one or several of {', '.join(_BY)}, each once"
    raise ValueError(msg)


def _sums() -> list[sa.ColumnElement[Any]]:
    counted = (
        "calls",
        "failed_calls",
        "rejected_calls",
        "cancelled_calls",
        "attempts",
        "errors",
        "input_tokens",
        "output_tokens",
    )
    total = {name: sa.cast(sa.func.sum(rollups.c[name]), sa.BigInteger()) for name in counted}
    settled = total["calls"] - total["cancelled_calls"]
    return [
        *(column.label(name) for name, column in total.items()),
        _share(total["errors"], total["attempts"]).label("error_rate"),
        _share(total["failed_calls"], settled).label("failed_rate"),
        (sa.func.sum(rollups.c.duration_sum) / sa.func.nullif(total["calls"], 0)).label("mean_seconds"),
        sa.func.max(rollups.c.duration_max).label("longest_seconds"),
    ]


def _share(part: sa.ColumnElement[int], whole: sa.ColumnElement[int]) -> sa.ColumnElement[Any]:
    return sa.cast(part, sa.Double()) / sa.func.nullif(whole, 0)


def groups(
    *,
    since: Since = _DAY,
    until: Since = None,
    client: str | None = None,
    function: str | None = None,
    category: ErrorCategory | str | None = None,
    limit: int = 20,
) -> Query[list[ErrorGroup]]:
    """The kinds of errors that happened most, the most frequent first.

    Args:
        since: an aware datetime, a timedelta or seconds before now; None and no other filter than *category* asks for the
            exact counts of all time, also of errors that are not kept any more.
        until: only before this; as *since*.
        client: only errors of this client.
        function: only errors of this function.
        category: only errors of this kind.
        limit: at most so many, up to 100 000.

    Raises:
        ValueError: a time has no timezone, *limit* is out of range, or there is no such *category*.
        HistoryError: the database cannot be read.
    """
    wanted = {"client": client, "function": function, "category": known("category", category, ErrorCategory)}
    if all(given is None for given in (since, until, client, function)):
        return one(_of_all_time(wanted, limit), lambda found: [ErrorGroup(**row) for row in found])
    count = sa.func.sum(1 / sa.func.nullif(errors.c.sample_rate, 0))
    # Hidden in a function from SQLite's planner, which would look through every kind of error there ever was.
    fingerprint: Any = sa.func.coalesce(errors.c.fingerprint, errors.c.fingerprint)
    seen = sa.select(
        fingerprint.label("fingerprint"),
        sa.func.max(errors.c.category).label("category"),
        sa.cast(sa.func.round(sa.func.coalesce(count, 0)), sa.BigInteger()).label("errors"),
        sa.func.count(errors.c.client.distinct()).label("clients"),
        sa.func.min(errors.c.occurred_at).label("first"),
        sa.func.max(errors.c.occurred_at).label("last"),
    ).group_by(fingerprint)
    seen = narrowed(seen, errors, wanted, moment_of("since", since), moment_of("until", until))
    top = limited(seen.order_by(sa.desc("errors"), sa.desc("last"), fingerprint), limit).subquery()
    return one(_named(top), lambda found: [ErrorGroup(**row) for row in found])


def _of_all_time(wanted: Mapping[str, Any], limit: int) -> sa.Select[Any]:
    group = error_groups.c
    query = sa.select(
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
    ).order_by(group["count"].desc(), group.last_seen_at.desc(), group.fingerprint)
    return narrowed(limited(query, limit), error_groups, {"category": wanted["category"]})


def _named(top: sa.Subquery) -> sa.Select[Any]:
    """The groups of *top* with what `error_groups` knows of them; a group that is not written yet is as *top* says."""
    known, group = top.c, error_groups.c

    def either(first: sa.ColumnElement[Any], second: sa.ColumnElement[Any], name: str) -> sa.Label[Any]:
        return sa.func.coalesce(first, second, type_=second.type).label(name)

    def one_of_them(column: sa.Column[Any]) -> sa.ScalarSelect[Any]:
        return sa.select(column).where(errors.c.fingerprint == known.fingerprint).limit(1).scalar_subquery()

    return (
        sa.select(
            known.fingerprint,
            known.category,
            either(group.exception_type, one_of_them(errors.c.exception_type), "exception_type"),
            either(group.title, one_of_them(errors.c.message), "title"),
            known.errors,
            known.clients,
            either(group.first_seen_at, known["first"], "first_seen_at"),
            known["last"].label("last_seen_at"),
            either(group["count"], known.errors, "total"),
            either(group.status, sa.literal("open"), "status"),
            group.note,
        )
        .select_from(top.outerjoin(error_groups, group.fingerprint == known.fingerprint))
        .order_by(known.errors.desc(), known["last"].desc(), known.fingerprint)
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
    """The times circuits were not closed, newest first; see `v_breaker_outages`.

    Args:
        since: only those that began at or after this: an aware datetime, a timedelta or seconds before now.
        until: only those that began before this; as *since*.
        client: only of this client.
        namespace: only of this deployment.
        scope: `shared` for the fleet's circuits, or an instance_id.
        running: only those that are not over.
        limit: at most so many, up to 100 000.

    Raises:
        ValueError: a time has no timezone, or *limit* is out of range.
        HistoryError: the database cannot be read.
    """
    view = _view("v_breaker_outages")
    wanted = {"client": client, "namespace": namespace, "scope": scope}
    query = limited(sa.select(view).order_by(view.c.started_at.desc(), view.c.client), limit)
    query = narrowed(query, view, wanted, moment_of("since", since), moment_of("until", until))
    if running:
        query = query.where(view.c.ended_at.is_(None))
    return one(query, lambda found: [Outage(**row) for row in found])


def mttr(*, client: str | None = None, scope: str | None = None) -> Query[list[MttrStats]]:
    """How long the outages of each client last, and whether one is running; see `v_mttr`.

    Args:
        client: only of this client.
        scope: `shared` for the fleet's circuits, or an instance_id.

    Raises:
        HistoryError: the database cannot be read.
    """
    view = _view("v_mttr")
    query = sa.select(view).order_by(view.c.outages.desc(), view.c.client, view.c.namespace, view.c.scope)
    return one(
        narrowed(query, view, {"client": client, "scope": scope}),
        lambda found: [MttrStats(**row) for row in found],
    )


def retry_success(*, since: Since = _DAY, client: str | None = None) -> Query[list[RetrySuccess]]:
    """How often asking the same client again helped; `v_retry_success` with a window of one's own.

    Args:
        since: an aware datetime, a timedelta or seconds before now.
        client: only of this client.

    Raises:
        ValueError: *since* has no timezone.
        HistoryError: the database cannot be read.
    """
    return _windowed(RetrySuccess, "v_retry_success", since, "client", client)


def fallback_success(*, since: Since = _DAY, from_client: str | None = None) -> Query[list[FallbackSuccess]]:
    """How often another client helped; `v_fallback_success` with a window of one's own.

    Args:
        since: an aware datetime, a timedelta or seconds before now.
        from_client: only steps away from this client.

    Raises:
        ValueError: *since* has no timezone.
        HistoryError: the database cannot be read.
    """
    return _windowed(FallbackSuccess, "v_fallback_success", since, "from_client", from_client)


def recovery(*, since: Since = _DAY, client: str | None = None) -> Query[list[Recovery]]:
    """What became of calls that met a failure; `v_recovery` with a window of one's own.

    Args:
        since: an aware datetime, a timedelta or seconds before now.
        client: only of this client.

    Raises:
        ValueError: *since* has no timezone.
        HistoryError: the database cannot be read.
    """
    return _windowed(Recovery, "v_recovery", since, "client", client)


def _windowed(kind: type[_A], name: str, since: Since, column: str, wanted: str | None) -> Query[list[_A]]:
    """A view's own query with another window: the same SQL, so both answer alike."""
    start = moment_of("since", since) or datetime.min.replace(tzinfo=UTC)

    def statements(dialect: str) -> list[sa.Select[Any]]:
        text = view_ddl.query(_VIEWS[name], dialect, since="<since>").replace(":", r"\:")
        bound = sa.text(text.replace("<since>", ":since")).bindparams(
            sa.bindparam("since", start, UtcDateTime())
        )
        found = bound.columns(*(sa.column(field.name) for field in dataclasses.fields(kind))).subquery()
        return [narrowed(sa.select(found), found, {column: wanted})]

    return Query(statements, lambda found: [kind(**row) for row in found[0]])


def _view(name: str) -> sa.TableClause:
    columns = _VIEWS[name].columns
    return sa.table(
        name, *(sa.column(each, UtcDateTime() if each.endswith("_at") else None) for each in columns)
    )
