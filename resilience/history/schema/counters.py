"""The tables of counters: exact, whatever was sampled, dropped or pruned of the rows that they count.

Every key begins with the time, so that windows and retention read and delete by time. Old minutes are added up to hours, and what
retention takes at last to one row without a time.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from resilience.history.schema import columns
from resilience.history.schema.columns import metadata

ROLLED = (
    "calls",
    "attempts",
    "errors",
    "failed_calls",
    "cancelled_calls",
    "rejected_calls",
    "retried_calls",
    "recovered_retry",
    "fallback_calls",
    "recovered_fallback",
    "answered_calls",
    "input_tokens",
    "output_tokens",
)
"""The counts in `rollups`, each booked at the client that it says something about.

`attempts` and `errors` belong to the client that was asked, in the minute in which the attempt ended. So errors over attempts is
the error rate of a client. A refusal by a circuit is neither. Tokens belong to the client whose attempt used them: what a
fallback cost is not the cost of the client that was down. `answered_calls` and the durations belong to the client that answered. All
other columns belong to the primary client of the call, in the minute in which the call ended.
"""
TOTAL_AT = datetime(1970, 1, 1, tzinfo=UTC)
"""`bucket_at` of the rows with grain 0. They hold what retention took from a counter, so that its sum never goes back."""


error_groups = sa.Table(
    "error_groups",
    metadata,
    columns.namespace(primary_key=True),
    columns.identifier("fingerprint", primary_key=True),
    sa.Column("fp_version", sa.String(16), nullable=False),
    sa.Column("category", sa.String(32), nullable=False),
    columns.name("exception_type"),
    sa.Column("title", sa.String(300), nullable=False),
    columns.when("first_seen_at"),
    columns.when("last_seen_at"),
    columns.total("count"),
    sa.Column("status", sa.String(16), nullable=False, server_default="open"),
    sa.Column("note", sa.Text()),
    columns.one_of("status", ("open", "muted", "resolved")),
    sa.Index(None, "last_seen_at"),
)
"""One row for each kind of error. `count` is exact, even if rows of `errors` were sampled or pruned."""

rollups = sa.Table(
    "rollups",
    metadata,
    *columns.bucket(columns.label("client"), columns.label("function")),
    *map(columns.total, ROLLED),
    columns.total_seconds("duration_sum"),
    columns.total_seconds("duration_max"),
    columns.grain(),
)
"""Exact counts by minute, client and function: the denominators of all rates. Old minutes are added up to hours."""

# No NULL in a key: NULLs are never equal, so an upsert would find no row and add a new one each time. What does not apply is
# an empty text.
error_rollups = sa.Table(
    "error_rollups",
    metadata,
    *columns.bucket(
        columns.label("client"),
        columns.label("function"),
        columns.label("category", 32),
        columns.label("action", 32),
        columns.label("denied", 32),
    ),
    columns.total("count"),
    columns.total("exhausted"),
    columns.grain(),
)
"""Exact counts of failed attempts and refusals, also of those whose rows were sampled out, dropped or pruned.

A refusal that led to another client counts as `circuit_open` with the action `fallback`; it has a row of `fallbacks` and none of
`errors`. `denied` is empty where no retry was denied. `exhausted` counts the last of several tries of a recoverable failure.
"""

# Buckets and no digests such as t-digest: counts of equal buckets add up in SQL, over processes, minutes and hours, and any
# database reads a percentile from them with a window function.
latencies = sa.Table(
    "latencies",
    metadata,
    *columns.bucket(
        columns.label("client"),
        columns.label("kind", 16),
        sa.Column("bucket", sa.Integer(), primary_key=True, autoincrement=False),
    ),
    columns.total("count"),
    columns.total_seconds("seconds"),
    columns.grain(),
    # The kinds of store/latencies.py.
    columns.one_of("kind", ("attempt_ok", "attempt_failed", "call", "first_token")),
)
"""Exact counts of durations by size: `bucket` holds those above 2^((bucket - 1) / 4) and up to 2^(bucket / 4) seconds.

Buckets of all processes add up, so percentiles of the fleet are exact to the width of a bucket, 19 %. An attempt belongs to the client
that was asked. A call belongs to the client that answered; calls without an answer are not in here. `first_token` is the time from the request of a
streamed attempt to its first content, whether or not the attempt failed later.
"""

# Apart from `rollups`, whose key every rate reads: a tenant in that key would multiply its rows by the number of tenants.
tenant_rollups = sa.Table(
    "tenant_rollups",
    metadata,
    *columns.bucket(columns.label("tenant", 100), columns.label("client")),
    *map(
        columns.total,
        (
            "calls",
            "answered_calls",
            "failed_calls",
            "rejected_calls",
            "cancelled_calls",
            "input_tokens",
            "output_tokens",
        ),
    ),
    columns.total_seconds("duration_sum"),
    columns.total_seconds("duration_max"),
    columns.grain(),
)
"""Exact counts by hour, tenant and client, for calls that name a tenant. The client is the one that answered, else the primary."""

pruned_events = sa.Table(
    "pruned_events",
    metadata,
    columns.namespace(primary_key=True),
    columns.label("kind", 16),
    columns.label("client"),
    columns.label("target"),
    columns.label("reason", 500),
    columns.label("result", 16),
    columns.total("count"),
    columns.one_of("kind", ("fallback", "transition")),
)
"""How many rows of `fallbacks` and `breaker_events` retention deleted, so that counters made of them never go back.

`fallback`: `client` to `target`, `result` is `true`, `false`, or empty for unknown. `transition`: `target` is the state; of an operator's
order `result` is `operator` and `reason` is empty.
"""
