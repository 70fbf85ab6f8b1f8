"""Queries of the fleet's present: what one screen about now and today is made of.

They read rows and not roll-ups: a roll-up has whole minutes, and the question of an incident is the last one. A row that was
kept at a sample rate of 0.1 stands for ten, so counts are estimates where a burst was sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from resilience.failure import ErrorCategory
from resilience.history.reader.queries import Query, Rows
from resilience.history.schema.tables import (
    UtcDateTime,
    calls,
    error_groups,
    errors,
    fallbacks,
    instances,
    rollups,
)

MOST_ANSWERS: Final = 20_000
"""Answers whose durations are read: the newest of the window."""
_MOST_GROUPS: Final = 200
_MOST_OUTAGES: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Today:
    """Rows about the processes and the outages of one namespace.

    Attributes:
        instances: processes whose heartbeat is recent.
        outages: periods in which shared circuits were not closed, newest first.
        clients: the clients that were ever asked.
        last_call_at: when the newest call started; None without calls.
    """

    instances: Rows
    outages: Rows
    clients: tuple[str, ...]
    last_call_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRows:
    """Rows about one window of time.

    Attributes:
        calls: number of calls by `client`, `client_final`, `outcome` and `probe`.
        answers: the newest answers: `client`, `started_at`, `duration`, `weight`.
        errors: number of errors by `client`, `category`, `fingerprint`, with the newest of each.
        refusals: number of attempts by `client` that a circuit refused and another client took over.
    """

    calls: Rows
    answers: Rows
    errors: Rows
    refusals: Rows


def today(*, namespace: str, since: datetime, alive: datetime) -> Query[Today]:
    """Return the processes, outages and clients of a namespace.

    Args:
        namespace: the deployment.
        since: outages that started before this are left out.
        alive: processes without a heartbeat since then are left out.

    Raises:
        HistoryError: the database cannot be read.
    """
    started: sa.ColumnClause[datetime] = sa.column("started_at", UtcDateTime())
    client, *texts = (sa.column(name, sa.String()) for name in ("client", "opened_by", "reason"))
    failures: sa.ColumnClause[int] = sa.column("failures", sa.Integer())
    filters: list[sa.ColumnClause[Any]] = list(map(sa.column, ("namespace", "scope")))
    # A list of any columns: types of ten columns one by one fit no list of statements.
    selected: list[sa.ColumnClause[Any]] = [
        started,
        sa.column("ended_at", UtcDateTime()),
        client,
        *texts,
        failures,
    ]
    outages = (
        sa.select(*selected)
        .select_from(sa.table("v_breaker_outages", started, client, *texts, failures, *filters))
        .where(filters[0] == namespace, filters[1] == "shared", started >= since, client.is_not(None))
        .order_by(started.desc())
        .limit(_MOST_OUTAGES)
    )
    statements: tuple[sa.Select[Any], ...] = (
        sa.select(instances).where(instances.c.heartbeat_at > alive, *_running(), *_in(instances, namespace)),
        outages,
        sa.select(rollups.c.client).where(*_in(rollups, namespace)).distinct().order_by(rollups.c.client),
        sa.select(sa.func.max(calls.c.started_at).label("at")).where(*_in(calls, namespace)),
    )

    def convert(results: Any) -> Today:
        live, found, names, newest = results
        return Today(
            instances=live,
            outages=found,
            clients=tuple(row["client"] for row in names if row["client"]),
            last_call_at=newest[0]["at"] if newest else None,
        )

    return Query(lambda _: statements, convert)


def window(*, namespace: str, since: datetime, until: datetime) -> Query[WindowRows]:
    """Return what happened to the calls that started in a window.

    Args:
        namespace: the deployment.
        since: start of the window, inclusive.
        until: its end, exclusive.

    Raises:
        HistoryError: the database cannot be read.
    """
    of_calls = (calls.c.started_at >= since, calls.c.started_at < until, *_in(calls, namespace))
    kinds = (calls.c.client, calls.c.client_final, calls.c.outcome, calls.c.probe)
    statements = (
        sa.select(*kinds, _weighted(calls).label("count")).where(*of_calls).group_by(*kinds),
        sa.select(
            calls.c.client_final.label("client"), calls.c.started_at, calls.c.duration, calls.c.sample_rate
        )
        .where(
            *of_calls, ~calls.c.probe, calls.c.outcome.in_(("ok", "recovered_retry", "recovered_fallback"))
        )
        .order_by(calls.c.started_at.desc())
        .limit(MOST_ANSWERS),
        _groups(namespace, since, until),
        sa.select(fallbacks.c.from_client.label("client"), sa.func.count().label("count"))
        .where(
            fallbacks.c.occurred_at >= since,
            fallbacks.c.occurred_at < until,
            fallbacks.c.reason == ErrorCategory.CIRCUIT_OPEN.value,
            *_in(fallbacks, namespace),
        )
        .group_by(fallbacks.c.from_client),
    )

    def convert(results: Any) -> WindowRows:
        counted, answers, failed, refused = results
        return WindowRows(calls=counted, answers=answers, errors=failed, refusals=refused)

    return Query(lambda _: statements, convert)


def _groups(namespace: str, since: datetime, until: datetime) -> sa.Select[Any]:
    """Return the errors of a window by client, category and group, each with its newest error.

    The text is the title of the group. The writer adds groups later than errors, so a new one has the message of its error.
    """
    keys = (errors.c.client, errors.c.category, errors.c.fingerprint)
    counted = (
        sa.select(
            *keys,
            _weighted(errors).label("count"),
            sa.func.max(errors.c.occurred_at).label("last_at"),
            # Ids sort by time, so the greatest belongs to the newest error.
            sa.func.max(errors.c.event_id).label("newest"),
        )
        .where(errors.c.occurred_at >= since, errors.c.occurred_at < until, *_in(errors, namespace))
        .group_by(*keys)
        .subquery()
    )
    title = sa.func.coalesce(error_groups.c.title, errors.c.message).label("title")
    return (
        sa.select(counted, errors.c.status, errors.c.request_id, title)
        .join(errors, errors.c.event_id == counted.c.newest)
        .outerjoin(error_groups, sa.and_(*_same_group(counted, namespace)))
        .order_by(sa.desc("count"), counted.c.last_at.desc())
        .limit(_MOST_GROUPS)
    )


def _same_group(counted: sa.Subquery, namespace: str) -> list[sa.ColumnElement[bool]]:
    return [error_groups.c.fingerprint == counted.c.fingerprint, *_in(error_groups, namespace)]


def _running() -> list[sa.ColumnElement[bool]]:
    return [instances.c.ended_at.is_(None)] if "ended_at" in instances.c else []


def _in(table: sa.Table, namespace: str) -> list[sa.ColumnElement[bool]]:
    return [table.c.namespace == namespace] if "namespace" in table.c else []


def _weighted(table: sa.Table) -> sa.ColumnElement[float]:
    # NULLIF: a rate of 0 cannot be written by us, but a division by it would end the whole read on PostgreSQL.
    return sa.func.sum(1 / sa.func.nullif(table.c.sample_rate, 0))
