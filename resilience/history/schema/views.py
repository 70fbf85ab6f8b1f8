"""The SQL views: the question that each answers, its columns with their units, and one query for both databases.

Views need no migration. They are dropped before the tables change and created again afterwards, in the same transaction, and also
whenever a definition here differs from the one in the database.

Their windows are fixed. A filter on the view does not reach into its GROUP BY, so an unlimited view would read a month of rows to
show an hour. For other windows query the tables, or use `handler.history`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlView:
    """The definition of one view.

    Attributes:
        name: its name in SQL.
        answers: the question it answers.
        window: the rows it covers.
        columns: the meaning and the unit of each column. Columns that end in `_at`, and `hour`, are times in UTC.
        sql: its query. `{token:arguments}` stands for what the databases spell differently, see `view_ddl.py`.
        example: a query to paste into sqlite3 or psql.
    """

    name: str
    answers: str
    window: str
    columns: Mapping[str, str]
    sql: str
    example: str


# The tokens in the queries: `whole` casts a sum to BIGINT, because a sum of BIGINT is NUMERIC on PostgreSQL; `share` is a rate, null
# without a denominator; `many` counts rows weighted by their sample rate; `rounded` keeps three digits.
_RATE = "from 0 to 1; null without any"

VIEWS: Final = (
    # Rollups hold minutes, and hours once minutes are old. Grouped by hour, both add up to the same counts.
    SqlView(
        name="v_error_rate_hourly",
        answers="How often did each client fail, hour by hour?",
        window="the last 24 hours",
        columns={
            "namespace": "the namespace of the deployment",
            "hour": "start of the hour, UTC",
            "client": "the client",
            "calls": "calls of which it was the primary client",
            "failed_calls": "of these, calls that no client answered",
            "rejected_calls": "of these, calls that every circuit refused",
            "attempts": "attempts on it",
            "errors": "attempts that failed",
            "error_rate": f"errors / attempts: {_RATE}",
            "failed_rate": f"failed_calls / (calls - cancelled): {_RATE}",
        },
        sql="""
SELECT namespace, {hour:bucket_at} AS hour, client,
  {whole:SUM(calls)} AS calls, {whole:SUM(failed_calls)} AS failed_calls, {whole:SUM(rejected_calls)} AS rejected_calls,
  {whole:SUM(attempts)} AS attempts, {whole:SUM(errors)} AS errors,
  {share:SUM(errors)|SUM(attempts)} AS error_rate,
  {share:SUM(failed_calls)|SUM(calls) - SUM(cancelled_calls)} AS failed_rate
FROM rollups WHERE bucket_at >= {hours_ago:24}
GROUP BY namespace, 2, client ORDER BY 2 DESC, client, namespace""",
        example="SELECT * FROM v_error_rate_hourly WHERE client = 'Primary'",
    ),
    # Category and status are part of a fingerprint, so MAX only picks their common value. A project's own fingerprints may mix several.
    # The message comes from `error_groups`, which has the first one and is kept longer than the rows.
    SqlView(
        name="v_top_errors_24h",
        answers="Which errors are most frequent, on which client, and why?",
        window="the last 24 hours",
        columns={
            "namespace": "the namespace of the deployment",
            "client": "the client that was tried",
            "category": "the category of the failure",
            "fingerprint": "equal for errors of one kind",
            "errors": "how many; an estimate if rows were sampled",
            "errors_last_hour": "how many of them in the last 60 minutes",
            "first_at": "the first in the window, UTC",
            "last_at": "the latest, UTC",
            "exception_type": "class of the exception",
            "status": "the highest HTTP status; null without one",
            "message": "redacted message of the first error of this kind",
        },
        sql="""
SELECT namespace, client, seen.category, fingerprint, errors, errors_last_hour, first_at, last_at,
  kind.exception_type, seen.status, kind.title AS message
FROM (
  SELECT namespace, client, fingerprint, MAX(category) AS category, MAX(status) AS status,
    {many:TRUE} AS errors, {many:occurred_at >= {hours_ago:1}} AS errors_last_hour,
    MIN(occurred_at) AS first_at, MAX(occurred_at) AS last_at
  FROM errors {index:ix_errors_occurred_at} WHERE occurred_at >= {hours_ago:24} GROUP BY fingerprint, client, namespace
) AS seen LEFT JOIN error_groups AS kind USING (namespace, fingerprint)
ORDER BY errors DESC, last_at DESC""",
        example="SELECT client, category, errors_last_hour, message FROM v_top_errors_24h "
        "ORDER BY errors_last_hour DESC LIMIT 5",
    ),
    SqlView(
        name="v_retry_success",
        answers="How often did a retry on the same client succeed?",
        window="the last 24 hours",
        columns={
            "namespace": "the namespace of the deployment",
            "client": "the primary client of the call",
            "function": "the function that was called",
            "retried_calls": "calls with at least one retry",
            "recovered_calls": "calls that a retry answered, without a fallback",
            "success_rate": f"recovered_calls / retried_calls: {_RATE}",
        },
        sql="""
SELECT namespace, client, function, {whole:SUM(retried_calls)} AS retried_calls, {whole:SUM(recovered_retry)} AS recovered_calls,
  {share:SUM(recovered_retry)|SUM(retried_calls)} AS success_rate
FROM rollups WHERE bucket_at >= {hours_ago:24} AND retried_calls > 0
GROUP BY namespace, client, function ORDER BY retried_calls DESC, client, function, namespace""",
        example="SELECT client, SUM(retried_calls), 1.0 * SUM(recovered_calls) / SUM(retried_calls) FROM v_retry_success GROUP BY 1",
    ),
    # The rate leaves out fallbacks whose result is not known: COUNT(succeeded) skips nulls.
    SqlView(
        name="v_fallback_success",
        answers="How often did a fallback succeed, from which client to which?",
        window="the last 24 hours",
        columns={
            "namespace": "the namespace of the deployment",
            "from_client": "the client that did not answer",
            "to_client": "the client that was tried next",
            "reason": "the category of the failure that led to the fallback",
            "fallbacks": "fallbacks from the one to the other",
            "succeeded": "fallbacks whose client answered",
            "failed": "fallbacks whose client failed too",
            "success_rate": f"succeeded / (succeeded + failed): {_RATE}",
            "mean_seconds": "mean time that the next client took, seconds",
        },
        sql="""
SELECT namespace, from_client, to_client, reason, COUNT(*) AS fallbacks,
  COUNT(*) FILTER (WHERE succeeded) AS succeeded, COUNT(*) FILTER (WHERE NOT succeeded) AS failed,
  {share:COUNT(*) FILTER (WHERE succeeded)|COUNT(succeeded)} AS success_rate,
  {rounded:AVG(duration)} AS mean_seconds
FROM fallbacks WHERE occurred_at >= {hours_ago:24}
GROUP BY namespace, from_client, to_client, reason ORDER BY fallbacks DESC, from_client, to_client, reason, namespace""",
        example="SELECT * FROM v_fallback_success WHERE from_client = 'Primary'",
    ),
    # An outage begins where a circuit leaves `closed` or `disabled`. It ends at the next transition that crosses that border in either
    # direction: if the transition that closed the circuit was lost, the next opening ends the outage, and none stays open for ever.
    # The subquery runs on the primary key, whose last column is the epoch.
    SqlView(
        name="v_breaker_outages",
        answers="When was a circuit open, for how long, and what opened it?",
        window="all that is kept",
        columns={
            "namespace": "the namespace of the circuit",
            "client": "the client of the circuit",
            "scope": "`shared` for the fleet's circuit; for the local circuit of a process, its instance_id",
            "started_at": "when the circuit opened, UTC",
            "ended_at": "when it closed again, UTC; null if it has not",
            "seconds": "from started_at to ended_at, seconds; null if it has not closed",
            "opened_by": "the rule that opened it, or `operator`",
            "reason": "the category of the failure, or the reason that the operator gave",
            "calls": "results in the circuit's window when it opened",
            "failures": "how many of them failed",
        },
        sql="""
SELECT namespace, client, scope, started_at, ended_at, {seconds:started_at|ended_at} AS seconds,
  opened_by, reason, calls, failures
FROM (
  SELECT namespace, client, scope, occurred_at AS started_at, (
      SELECT later.occurred_at FROM breaker_events AS later
      WHERE later.namespace = opened.namespace AND later.client = opened.client AND later.scope = opened.scope
        AND later.epoch > opened.epoch
        AND (later.from_state IN ('closed', 'disabled')) <> (later.to_state IN ('closed', 'disabled'))
      ORDER BY later.epoch LIMIT 1
    ) AS ended_at, rule AS opened_by, reason, calls, failures
  FROM breaker_events AS opened
  WHERE from_state IN ('closed', 'disabled') AND to_state NOT IN ('closed', 'disabled')
) AS outages""",
        example="SELECT client, started_at, seconds, opened_by, reason FROM v_breaker_outages ORDER BY started_at DESC LIMIT 20",
    ),
    # MATERIALIZED: the subquery of v_breaker_outages is evaluated once for each outage, and not again for each aggregate.
    SqlView(
        name="v_mttr",
        answers="How long do outages of a client last, and is there one now?",
        window="all that is kept",
        columns={
            "namespace": "the namespace of the circuit",
            "client": "the client of the circuit",
            "scope": "as in v_breaker_outages",
            "outages": "how many started",
            "ended": "how many ended",
            "mttr_seconds": "mean time to recovery of those that ended, seconds",
            "longest_seconds": "the longest of them, seconds",
            "total_seconds": "all of them together, seconds",
            "last_started_at": "start of the latest, UTC",
            "open_since_at": "start of the present outage, UTC; null without one",
        },
        sql="""
WITH spans AS MATERIALIZED (SELECT namespace, client, scope, started_at, ended_at FROM v_breaker_outages)
SELECT namespace, client, scope, COUNT(*) AS outages, COUNT(ended_at) AS ended,
  {rounded:AVG(seconds)} AS mttr_seconds, MAX(seconds) AS longest_seconds, {rounded:COALESCE(SUM(seconds), 0)} AS total_seconds,
  MAX(started_at) AS last_started_at, MAX(CASE WHEN ended_at IS NULL THEN started_at END) AS open_since_at
FROM (SELECT spans.*, {seconds:started_at|ended_at} AS seconds FROM spans) AS outages
GROUP BY namespace, client, scope ORDER BY outages DESC, client, namespace, scope""",
        example="SELECT client, outages, mttr_seconds, longest_seconds, open_since_at FROM v_mttr WHERE scope = 'shared'",
    ),
    # `failed` and `rejected` calls got no answer, so only recovered ones have a `recovery` time. Cancelled calls are no evidence.
    SqlView(
        name="v_recovery",
        answers="Did calls with a failure still get an answer, and after how long?",
        window="the last 24 hours",
        columns={
            "namespace": "the namespace of the deployment",
            "client": "the primary client of the call",
            "affected_calls": "calls with a failure that were not cancelled; an estimate if rows were sampled",
            "recovered_retry": "answered by a retry",
            "recovered_fallback": "answered by another client",
            "failed": "answered by no client",
            "rejected": "refused by every circuit",
            "recovered_rate": f"answered / affected_calls: {_RATE}",
            "mean_seconds": "mean time from the first failure to the answer, seconds",
            "longest_seconds": "the longest of them, seconds",
        },
        sql="""
SELECT namespace, client, {many:TRUE} AS affected_calls,
  {many:outcome = 'recovered_retry'} AS recovered_retry, {many:outcome = 'recovered_fallback'} AS recovered_fallback,
  {many:outcome = 'failed'} AS failed, {many:outcome = 'rejected'} AS rejected,
  {share:{many:outcome IN ('recovered_retry', 'recovered_fallback')}|{many:TRUE}} AS recovered_rate,
  {rounded:AVG(recovery)} AS mean_seconds, {rounded:MAX(recovery)} AS longest_seconds
FROM calls WHERE outcome != 'ok' AND outcome != 'cancelled' AND NOT probe AND started_at >= {hours_ago:24}
GROUP BY namespace, client ORDER BY affected_calls DESC, client, namespace""",
        example="SELECT client, affected_calls, recovered_rate, mean_seconds FROM v_recovery",
    ),
    # The first branch names the types of its nulls, because PostgreSQL takes the types of a UNION from it. `position` orders the steps of
    # one microsecond. A condition on `request_id` reaches every branch, and each table has an index on it.
    SqlView(
        name="v_request_timeline",
        answers="What happened to one request, step by step?",
        window="all that is kept; filter by one request_id",
        columns={
            "namespace": "the namespace of the deployment",
            "request_id": "the request",
            "happened_at": "when, UTC",
            "step": "`call`, `probe` (beside a call), `error`, `fallback` or `end` (of a call or a probe)",
            "client": "call: the primary client; error: the client tried; fallback: the client left; end: the client that answered",
            "function": "the function that was called",
            "attempt": "error: 1 for the first try on this client",
            "what": "error: its category; fallback: its reason; end: the outcome",
            "detail": "error: the redacted message; fallback: the next client",
            "action": "error: `retry`, `fallback` or `raise`",
            "duration": "error: of the attempt; fallback: of the next client, with its retries; end: of the whole call; seconds",
            "wait": "error: wait before the retry, seconds",
            "call_id": "the call; a request may make several",
        },
        sql="""
SELECT namespace, request_id, happened_at, step, client, function, attempt, what, detail, action, duration, wait, call_id
FROM (
  SELECT namespace, request_id, started_at AS happened_at, CASE WHEN probe THEN 'probe' ELSE 'call' END AS step, client, function, CAST(NULL AS INTEGER) AS attempt,
    CAST(NULL AS TEXT) AS what, CAST(NULL AS TEXT) AS detail, CAST(NULL AS TEXT) AS action,
    CAST(NULL AS DOUBLE PRECISION) AS duration, CAST(NULL AS DOUBLE PRECISION) AS wait, call_id, 1 AS position
  FROM calls
  UNION ALL
  SELECT namespace, request_id, occurred_at, 'error', client, function, attempt, category, message, action, duration, backoff, call_id, 2
  FROM errors
  UNION ALL
  SELECT namespace, request_id, occurred_at, 'fallback', from_client, function, NULL, reason, to_client, NULL, duration, NULL, call_id, 3
  FROM fallbacks
  UNION ALL
  SELECT namespace, request_id, {later:started_at|duration}, 'end', client_final, function, NULL, outcome, NULL, NULL, duration, NULL,
    call_id, 4
  FROM calls
) AS steps
ORDER BY happened_at, position""",
        example="SELECT happened_at, step, client, what, detail, action, wait FROM v_request_timeline WHERE request_id = '...'",
    ),
    # A percentile is the upper end of the size in which the running sum of the counts reaches it.
    SqlView(
        name="v_latency_24h",
        answers="How fast does each client answer, and fail?",
        window="the last 24 hours",
        columns={
            "namespace": "the namespace of the deployment",
            "client": "attempts: the client that was asked; calls: the client that answered",
            "kind": "`attempt_ok` and `attempt_failed`: one try; `call`: a whole call with its waits, if it was answered; `first_token`: "
            "from the request of a streamed attempt to its first content",
            "count": "how many; exact, also where rows were sampled or pruned",
            "mean_seconds": "their mean duration, seconds",
            "p50_seconds": "half of them took at most this long, seconds; up to a fifth too much, as all percentiles here",
            "p95_seconds": "95 of 100 took at most this long, seconds",
            "p99_seconds": "99 of 100 took at most this long, seconds",
        },
        sql="""
WITH sizes AS (
  SELECT namespace, client, kind, bucket, SUM("count") AS n, SUM(seconds) AS seconds
  FROM latencies WHERE bucket_at >= {hours_ago:24} GROUP BY namespace, client, kind, bucket
), ranked AS (
  SELECT sizes.*, SUM(n) OVER (PARTITION BY namespace, client, kind ORDER BY bucket) AS up_to,
    SUM(n) OVER (PARTITION BY namespace, client, kind) AS total FROM sizes
), ranks AS (
  SELECT namespace, client, kind, MAX(total) AS total, SUM(seconds) AS seconds,
    MIN(bucket) FILTER (WHERE up_to >= 0.5 * total) AS p50, MIN(bucket) FILTER (WHERE up_to >= 0.95 * total) AS p95,
    MIN(bucket) FILTER (WHERE up_to >= 0.99 * total) AS p99
  FROM ranked GROUP BY namespace, client, kind
)
SELECT namespace, client, kind, {whole:total} AS "count", {rounded:seconds / total} AS mean_seconds,
  {rounded:{size:p50}} AS p50_seconds, {rounded:{size:p95}} AS p95_seconds, {rounded:{size:p99}} AS p99_seconds
FROM ranks ORDER BY client, kind, namespace""",
        example="SELECT client, p50_seconds, p95_seconds FROM v_latency_24h WHERE kind = 'attempt_ok'",
    ),
    SqlView(
        name="v_tenants_24h",
        answers="Which tenants call, are they answered, and what do they use?",
        window="the last 24 hours",
        columns={
            "namespace": "the namespace of the deployment",
            "tenant": "the tenant, as `set_tenant` named it; calls without one are not in here",
            "client": "the client that answered; of calls without an answer, the primary client",
            "calls": "calls of the tenant",
            "answered_calls": "of these, calls that got an answer",
            "failed_calls": "of these, calls that no client answered",
            "rejected_calls": "of these, calls that every circuit refused",
            "input_tokens": "tokens of the prompts of these calls, with their failed attempts and their probes",
            "output_tokens": "tokens of the answers",
            "mean_seconds": "mean duration of the answered calls, seconds; null without any",
            "longest_seconds": "the longest of them, seconds",
        },
        sql="""
SELECT namespace, tenant, client, {whole:SUM(calls)} AS calls, {whole:SUM(answered_calls)} AS answered_calls,
  {whole:SUM(failed_calls)} AS failed_calls, {whole:SUM(rejected_calls)} AS rejected_calls,
  {whole:SUM(input_tokens)} AS input_tokens, {whole:SUM(output_tokens)} AS output_tokens,
  {rounded:SUM(duration_sum) / NULLIF(SUM(answered_calls), 0)} AS mean_seconds, MAX(duration_max) AS longest_seconds
FROM tenant_rollups WHERE bucket_at >= {hours_ago:24}
GROUP BY namespace, tenant, client ORDER BY calls DESC, tenant, client, namespace""",
        example="SELECT tenant, SUM(calls), SUM(input_tokens + output_tokens) FROM v_tenants_24h GROUP BY tenant ORDER BY 3 DESC",
    ),
    SqlView(
        name="v_cooldowns",
        answers="When was a client not asked because it had said so, and for how long?",
        window="all that is kept",
        columns={
            "namespace": "the namespace of the circuit",
            "client": "the client",
            "scope": "as in v_breaker_outages",
            "started_at": "when the cool-down began or became longer, UTC",
            "ends_at": "its end as it was set then, UTC",
            "seconds": "from started_at to ends_at, seconds",
            "reason": "the category of the failure",
            "state": "the state of the circuit meanwhile",
        },
        sql="""
SELECT namespace, client, scope, occurred_at AS started_at, {later:occurred_at|wait} AS ends_at, wait AS seconds, reason,
  to_state AS state
FROM breaker_events WHERE rule = 'cool_down'""",
        example="SELECT client, started_at, seconds, reason FROM v_cooldowns ORDER BY started_at DESC LIMIT 20",
    ),
)
