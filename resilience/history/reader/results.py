"""The values that aggregate queries return. Durations are seconds, times are UTC, rates go from 0 to 1; None means "of nothing".

A value that comes from a view has the view's columns as fields; `history/schema/views.py` describes each column.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


# `aggregates.py` passes the columns of a row as keywords, so a field and its column must
# keep the same name. A field that belongs to a view is also in the `columns` of that view.
@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Exact counts and rates of one group. Of `client`, `function` and `hour`, those that were not grouped by are None.

    Attributes:
        client: the client, if grouped by client.
        function: the BAML function, if grouped by function.
        hour: start of the hour, if grouped by hour.
        calls: calls that were for the client.
        failed_calls: of these, calls that no client answered.
        rejected_calls: of these, calls for which no client was asked.
        cancelled_calls: of these, calls that the caller cancelled.
        attempts: requests sent.
        errors: requests that failed.
        error_rate: errors / attempts.
        failed_rate: failed_calls / (calls - cancelled_calls).
        answered_calls: calls that the client answered, also those that were for another one.
        mean_seconds: mean duration of the calls that it answered.
        longest_seconds: longest duration of a call that it answered.
        input_tokens: tokens of the prompts that it got, where providers report them.
        output_tokens: tokens of its answers, where providers report them.
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
    answered_calls: int
    mean_seconds: float | None
    longest_seconds: float
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorGroup:
    """Errors with the same fingerprint.

    Attributes:
        namespace: the namespace of the deployment.
        fingerprint: the hash that the errors share.
        category: error category.
        exception_type: class of the exception.
        title: the redacted message of one of them.
        errors: number of errors in the window; estimated from the rows that are left, where rows were sampled.
        clients: number of clients with this error in the window; None for all time.
        first_seen_at: time of the first error ever.
        last_seen_at: time of the latest error.
        total: exact number of errors of all time.
        status: `open`, `muted` or `resolved`, as set by an operator.
        note: an operator's note.
    """

    namespace: str
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
    """How often a retry on the same client succeeded: a row of `v_retry_success`."""

    namespace: str
    client: str
    function: str
    retried_calls: int
    recovered_calls: int
    success_rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackSuccess:
    """How often a fallback to another client succeeded: a row of `v_fallback_success`."""

    namespace: str
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
    """One period in which a circuit was not closed: a row of `v_breaker_outages`."""

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
    """Mean time to recovery of one client: a row of `v_mttr`."""

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
    """How calls ended that had at least one failure: a row of `v_recovery`."""

    namespace: str
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
class Latency:
    """How long attempts on one client or calls took: a row of `v_latency_24h`."""

    namespace: str
    client: str
    kind: str
    count: int
    mean_seconds: float
    p50_seconds: float
    p95_seconds: float
    p99_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantUsage:
    """What one tenant asked of one client: a row of `v_tenants_24h`."""

    namespace: str
    tenant: str
    client: str
    calls: int
    answered_calls: int
    failed_calls: int
    rejected_calls: int
    input_tokens: int
    output_tokens: int
    mean_seconds: float | None
    longest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSet:
    """The rows of a user's own SQL query.

    Attributes:
        columns: column names, as the query names them.
        rows: values as the database has them: in SQLite times are text, and booleans are 0 and 1.
        truncated: whether the query found more rows than the limit.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool
