"""The tables of the history, the same on SQLite and PostgreSQL.

A column is named like the field of the record that it stores. Durations are seconds, times are UTC, ids are UUIDv7 in hex, which
sort by time. Words whose list may grow (`category`, `reason`) are plain text; closed lists (`outcome`, `action`) are checked.

Every change here needs a migration in `migrations/versions`. The tests compare a migrated database with one that is created from
these tables, so one cannot be forgotten.
"""

from __future__ import annotations

import sqlalchemy as sa

from resilience.history.schema import columns
from resilience.history.schema.columns import UtcDateTime, metadata
from resilience.history.schema.counters import (
    ROLLED,
    TOTAL_AT,
    error_groups,
    error_rollups,
    latencies,
    pruned_events,
    rollups,
    tenant_rollups,
)
from resilience.records.records import NAMESPACE, Action, CallOutcome

__all__ = [
    "NAMESPACE",
    "ROLLED",
    "TOTAL_AT",
    "UtcDateTime",
    "breaker_events",
    "calls",
    "error_groups",
    "error_rollups",
    "errors",
    "fallbacks",
    "instances",
    "latencies",
    "maintenance",
    "metadata",
    "payloads",
    "policies",
    "pruned_events",
    "rollups",
    "tenant_rollups",
]

# There are no foreign keys between the tables. An error is written before its call, which has not ended yet,
# and each table has a retention of its own. Clients and fingerprints are indexed together with the time,
# since their queries have a window. `request_id` has an index in every table that v_request_timeline reads.
calls = sa.Table(
    "calls",
    metadata,
    columns.identifier("call_id", primary_key=True),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("started_at", UtcDateTime(), nullable=False),
    columns.seconds("duration"),
    columns.name("function"),
    columns.name("client"),
    columns.name("client_final", nullable=True),
    sa.Column("outcome", sa.String(32), nullable=False),
    sa.Column("attempts", sa.Integer(), nullable=False),
    sa.Column("retries", sa.Integer(), nullable=False),
    sa.Column("fallbacks", sa.Integer(), nullable=False),
    columns.identifier("instance_id", nullable=False),
    columns.seconds("recovery", nullable=True),
    columns.identifier("fingerprint"),
    columns.count("input_tokens", nullable=True),
    columns.count("output_tokens", nullable=True),
    *columns.trace(),
    columns.json("tags"),
    # Server defaults are for rows that were written before the column existed. Records always give a value.
    columns.share("sample_rate"),
    *columns.stream(),
    columns.flag("probe"),
    columns.namespace(),
    sa.Column("tenant", sa.String(100)),
    columns.seconds("answer_duration", nullable=True),
    columns.count("failed_input_tokens", nullable=True),
    columns.count("failed_output_tokens", nullable=True),
    columns.one_of("outcome", CallOutcome),
    sa.Index(None, "started_at"),
    sa.Index(None, "client", "started_at"),
    sa.Index(None, "client_final", "started_at"),
    sa.Index(None, "request_id"),
)
"""One row for each call, and for each probe that ran beside a call."""

# Partial indexes: most calls are ok and few are traced, so these stay small and cost most inserts nothing. They are partial on
# PostgreSQL too, see `describe_for_postgresql`.
_not_ok = calls.c.outcome != CallOutcome.OK.value
sa.Index("ix_calls_not_ok", calls.c.started_at, sqlite_where=_not_ok)
_traced = calls.c.trace_id.is_not(None)
sa.Index("ix_calls_trace_id", calls.c.trace_id, sqlite_where=_traced)
_of_tenant = calls.c.tenant.is_not(None)
sa.Index("ix_calls_tenant_started_at", calls.c.tenant, calls.c.started_at, sqlite_where=_of_tenant)

errors = sa.Table(
    "errors",
    metadata,
    columns.identifier("event_id", primary_key=True),
    sa.Column("occurred_at", UtcDateTime(), nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    columns.identifier("call_id", nullable=False),
    columns.name("function"),
    columns.name("client"),
    sa.Column("attempt", sa.Integer(), nullable=False),
    sa.Column("category", sa.String(32), nullable=False),
    sa.Column("recoverable", sa.Boolean(), nullable=False),
    sa.Column("status", sa.Integer()),
    columns.name("provider_code", nullable=True),
    columns.name("provider_request_id", nullable=True),
    columns.name("exception_type"),
    sa.Column("message", sa.String(2000), nullable=False),
    columns.identifier("fingerprint", nullable=False),
    columns.seconds("retry_after", nullable=True),
    columns.seconds("backoff", nullable=True),
    columns.seconds("duration"),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("late", sa.Boolean(), nullable=False),
    columns.identifier("instance_id", nullable=False),
    columns.name("provider", nullable=True),
    columns.name("model", nullable=True),
    columns.count("input_tokens", nullable=True),
    columns.count("output_tokens", nullable=True),
    sa.Column("denied", sa.String(32)),
    sa.Column("breaker_state", sa.String(16)),
    *columns.trace(),
    columns.share("sample_rate"),
    sa.Column("stack", sa.Text()),
    columns.json("detail"),
    sa.Column("fp_version", sa.String(16), nullable=False, server_default="v1"),
    *columns.stream(),
    columns.flag("probe"),
    columns.namespace(),
    columns.one_of("action", Action),
    # v_top_errors_24h names this first index: see {index:...} in views.py.
    sa.Index(None, "occurred_at"),
    sa.Index(None, "client", "occurred_at"),
    sa.Index(None, "fingerprint", "occurred_at"),
    sa.Index(None, "call_id"),
    sa.Index(None, "request_id"),
)
"""One row for each failed attempt and each refusal by a circuit."""

_traced = errors.c.trace_id.is_not(None)
sa.Index("ix_errors_trace_id", errors.c.trace_id, sqlite_where=_traced)

fallbacks = sa.Table(
    "fallbacks",
    metadata,
    columns.identifier("event_id", primary_key=True),
    sa.Column("occurred_at", UtcDateTime(), nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    columns.identifier("call_id", nullable=False),
    columns.name("function"),
    columns.name("from_client"),
    columns.name("to_client"),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("succeeded", sa.Boolean()),
    columns.identifier("instance_id", nullable=False),
    sa.Column("position", sa.Integer(), nullable=False, server_default=sa.text("1")),
    columns.identifier("fingerprint"),
    columns.seconds("duration", nullable=True),
    columns.namespace(),
    sa.Index(None, "occurred_at"),
    sa.Index(None, "call_id"),
    sa.Index(None, "request_id"),
)
"""One row for each fallback from a client to the next; `succeeded` is null if the outcome is not known."""

breaker_events = sa.Table(
    "breaker_events",
    metadata,
    sa.Column("namespace", sa.String(100), primary_key=True),
    sa.Column("client", sa.String(200), primary_key=True),
    sa.Column("scope", sa.String(32), primary_key=True),
    # The epoch must stay the last column of the key: v_breaker_outages finds the next transition of a circuit by it.
    sa.Column("epoch", sa.BigInteger(), primary_key=True, autoincrement=False),
    columns.when("occurred_at"),
    sa.Column("from_state", sa.String(16), nullable=False),
    sa.Column("to_state", sa.String(16), nullable=False),
    sa.Column("rule", sa.String(32), nullable=False),
    sa.Column("reason", sa.String(500), nullable=False),
    columns.name("actor"),
    columns.count("calls"),
    columns.count("failures"),
    columns.seconds("wait", nullable=True),
    sa.Column("indefinite", sa.Boolean(), nullable=False),
    columns.identifier("instance_id", nullable=False),
    sa.Index(None, "client", "scope", "occurred_at"),
    sa.Index(None, "occurred_at"),
)
"""One row for each transition of a circuit, and for each cool-down.

The primary key identifies a transition, so the transition of a shared circuit has one row, no matter how many processes write it.
A cool-down (`rule` is `cool_down`) leaves the state and the epoch of its circuit alone. Its key is minus its end in milliseconds,
which all processes read from the store, and which no epoch equals.
"""

policies = sa.Table(
    "policies",
    metadata,
    columns.identifier("policy_id", primary_key=True),
    columns.when("first_seen_at"),
    columns.json("settings"),
)
"""The settings that processes ran with, without secrets: one row for each combination, which `instances` names."""

# Content is in a table of its own: it is large, it is kept for a shorter time, and most queries of errors do not need it.
payloads = sa.Table(
    "payloads",
    metadata,
    columns.identifier("event_id", primary_key=True),
    columns.when("occurred_at"),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("prompt", sa.Text()),
    sa.Column("raw_output", sa.Text()),
    sa.Column("prompt_hash", sa.String(64)),
    sa.Column("output_hash", sa.String(64)),
    sa.Column("privacy", sa.String(16), nullable=False),
    columns.namespace(),
    sa.Index(None, "occurred_at"),
    sa.Index(None, "request_id"),
)
"""Prompts and answers of failed attempts. Empty unless the privacy level keeps content."""

maintenance = sa.Table(
    "maintenance",
    metadata,
    sa.Column("job", sa.String(200), primary_key=True),
    columns.when("last_run_at"),
    sa.Column("owner", sa.CHAR(32), nullable=False),
    sa.Column("cursor", sa.Text(), nullable=False),
)
"""One row for each job that one process does for all: its lease and its cursor, see `store/job_leases.py`."""

instances = sa.Table(
    "instances",
    metadata,
    columns.identifier("instance_id", primary_key=True),
    columns.name("service"),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("pid", sa.Integer(), nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("started_at", UtcDateTime(), nullable=False),
    sa.Column("heartbeat_at", UtcDateTime(), nullable=False),
    sa.Column("dropped_events", sa.Integer(), nullable=False),
    sa.Column("sampled_events", sa.Integer(), nullable=False, server_default=sa.text("0")),
    sa.Column("queue_depth", sa.Integer(), nullable=False, server_default=sa.text("0")),
    sa.Column("degraded", sa.Boolean(), nullable=False, server_default=sa.false()),
    columns.total("counted_through"),
    columns.total("rows_counted_through"),
    columns.namespace(),
    sa.Column("ended_at", UtcDateTime()),
    sa.Column("degraded_since", UtcDateTime()),
    columns.total_seconds("degraded_seconds"),
    columns.identifier("policy_id"),
    columns.total("damaged_circuits"),
    columns.total("damaged_transitions"),
    columns.total("unreadable_lines"),
    columns.total("counted_from"),
    columns.total("rows_counted_from"),
    sa.Index(None, "heartbeat_at"),
)
"""One row for each process that writes here: its last heartbeat, and what it could not store.

`namespace` is that of the first handler of the process. `ended_at` says that it left in order; a killed process has none, and a
heartbeat that grows old. `degraded_seconds` adds up the times in which it could not reach the store of circuits, but for the one
that began at `degraded_since`.

`damaged_circuits`, `damaged_transitions` and `unreadable_lines` count what it read in the store and in the logs of killed processes, and did
not believe.

`counted_through` is the sequence number up to which its records without rows (`dropped_events`, `sampled_events`) are in the counters.
`rows_counted_through` is the number up to which its records with rows are counted: those of the rows that are here, and at the end
of a process also those whose rows follow. `counted_from` and `rows_counted_from` are what each of them was when the process came here:
records up to that number were counted in another database, such as a file that was replaced. If the process was here before, went
to another file and came back, the numbers between are taken as counted, although the other file has their counts: an import could not
tell them from records whose rows were pruned since, and counts must not rise twice.
"""


def describe_for_postgresql() -> None:
    """Say of each partial index that it is partial on PostgreSQL too: for what compares the tables with a server, or creates them there.

    Its migrations say so themselves. `postgresql_where` above would import the whole dialect into each process that writes to a file.
    """
    for table in metadata.tables.values():
        for index in table.indexes:
            index.dialect_options["postgresql"]["where"] = index.dialect_options["sqlite"]["where"]
