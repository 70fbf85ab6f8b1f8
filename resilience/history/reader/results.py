"""What the history answers, as plain values. Durations are seconds, times are UTC, rates go from 0 to 1 and are None of nothing.

A value that comes from a view has the view's columns for fields; `views.py` says what each holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Exact counts and rates, by what was asked for; the other two of `client`, `function` and `hour` are None.

    Attributes:
        client: the client, where rates by client were asked for.
        function: the function, where rates by function were asked for.
        hour: the start of the hour, where rates by hour were asked for.
        calls: calls that were to be answered by the client.
        failed_calls: of these, calls that got no answer from any client.
        rejected_calls: of these, calls for which no client was asked.
        cancelled_calls: of these, calls that were cancelled.
        attempts: requests sent.
        errors: requests that failed.
        error_rate: errors / attempts.
        failed_rate: failed_calls / (calls - cancelled_calls).
        mean_seconds: mean duration of a call.
        longest_seconds: the longest call.
        input_tokens: tokens of prompts, where providers told.
        output_tokens: tokens of answers, where providers told.
    """

    client: str | None = None
    function: str | None = None
    hour: datetime | None = None
    calls: int
    failed_calls: int
    rejected_calls: int
    cancelled_calls: int
    attempts: int
    errors: int
    error_rate: float | None
    failed_rate: float | None
    mean_seconds: float | None
    longest_seconds: float
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorGroup:
    """Errors of one kind.

    Attributes:
        fingerprint: equal for errors of one kind.
        category: the kind of failure.
        exception_type: class of the exception.
        title: a redacted message.
        errors: how many in the window that was asked for; where rows were sampled, the estimate from those kept.
        clients: how many clients they were seen on within the window; None for all time.
        first_seen_at: the first of all time.
        last_seen_at: the latest.
        total: how many of all time, exact.
        status: `open`, `muted` or `resolved`, as people set it.
        note: what people wrote about it.
    """

    fingerprint: str
    category: str
    exception_type: str
    title: str
    errors: int
    clients: int | None
    first_seen_at: datetime
    last_seen_at: datetime
    total: int
    status: str
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySuccess:
    """How often asking the same client again helped; the columns of `v_retry_success`."""

    client: str
    function: str
    retried_calls: int
    recovered_calls: int
    success_rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackSuccess:
    """How often another client helped; the columns of `v_fallback_success`."""

    from_client: str
    to_client: str
    reason: str
    fallbacks: int
    succeeded: int
    failed: int
    success_rate: float | None
    mean_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """One time a circuit was not closed; the columns of `v_breaker_outages`."""

    namespace: str
    client: str
    scope: str
    started_at: datetime
    ended_at: datetime | None
    seconds: float | None
    opened_by: str
    reason: str
    calls: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MttrStats:
    """How long the outages of a client last; the columns of `v_mttr`."""

    namespace: str
    client: str
    scope: str
    outages: int
    ended: int
    mttr_seconds: float | None
    longest_seconds: float | None
    total_seconds: float
    last_started_at: datetime
    open_since_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What became of calls that met a failure; the columns of `v_recovery`."""

    client: str
    affected_calls: int
    recovered_retry: int
    recovered_fallback: int
    failed: int
    rejected: int
    recovered_rate: float | None
    mean_seconds: float | None
    longest_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSet:
    """What a query of one's own found.

    Attributes:
        columns: their names, as the query gives them.
        rows: values as the database has them: SQLite keeps times as text and truth as 0 and 1.
        cut: there were more rows than the limit.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    cut: bool
