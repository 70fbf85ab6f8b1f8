"""The views that answer by name: what each says, its columns with their units, and one SQL for both databases.

Views are no migrations. They are dropped before the tables change and made again afterwards, in the same transaction, and again
whenever what is written here differs from what a database has. Windows are fixed: a filter from outside does not reach into a
GROUP BY, and an unbounded one would read a month to show an hour. For other windows ask the tables, or `handler.history`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlView:
    """One view.

    Attributes:
        name: as in SQL.
        answers: the question it answers.
        window: the rows it looks at.
        columns: by name, what it holds and in which unit. Names that end in `_at`, and `hour`, are times in UTC.
        sql: its query; `{token:arguments}` is what the databases spell differently, see `view_making`.
        example: a query to paste into sqlite3 or psql.
    """

    name: str
    answers: str
    window: str
    columns: Mapping[str, str]
    sql: str
    example: str


_RATE_OF_CALLS = "share from 0 to 1; null without any"

VIEWS: Final = (
    SqlView(
        name="v_error_rate_hourly",
        answers="Which client failed how often, hour by hour?",
        window="the last 24 hours",
        columns={
            "hour": "start of the hour, UTC",
            "client": "the client",
            "calls": "calls that were to be answered by it",
            "failed_calls": "of these, calls that got no answer from any client",
            "rejected_calls": "of these, calls for which no client was asked",
            "attempts": "requests sent to it",
            "errors": "requests that failed",
            "error_rate": f"errors / attempts: {_RATE_OF_CALLS}",
            "failed_rate": f"failed_calls / (calls - cancelled): {_RATE_OF_CALLS}",
        },
        sql="""
SELECT {hour:bucket_at} AS hour, client,
  {whole:SUM(calls)} AS calls, {whole:SUM(failed_calls)} AS failed_calls, {whole:SUM(rejected_calls)} AS rejected_calls,
  {whole:SUM(attempts)} AS attempts, {whole:SUM(errors)} AS errors,
  {share:SUM(errors)|SUM(attempts)} AS error_rate,
  {share:SUM(failed_calls)|SUM(calls) - SUM(cancelled_calls)} AS failed_rate
FROM rollups WHERE bucket_at >= {hours_ago:24}
GROUP BY 1, client ORDER BY 1 DESC, client""",
        example="SELECT * FROM v_error_rate_hourly WHERE client = 'Primary'",
    ),
    SqlView(
        name="v_top_errors_24h",
        answers="Which errors happen most, on which client, and why?",
        window="the last 24 hours",
        columns={
            "client": "the client that was tried",
            "category": "the kind of failure",
            "fingerprint": "equal for errors of one kind",
            "errors": "how many; where rows were sampled, the estimate from those kept",
            "errors_last_hour": "how many of them in the last 60 minutes",
            "first_at": "the first within the window, UTC",
            "last_at": "the latest, UTC",
            "exception_type": "class of the exception",
            "status": "HTTP status, the highest of them; null without one",
            "message": "redacted message, of the first of this kind",
        },
        sql="""
SELECT client, seen.category, fingerprint, errors, errors_last_hour, first_at, last_at,
  kind.exception_type, seen.status, kind.title AS message
FROM (
  SELECT client, fingerprint, MAX(category) AS category, MAX(status) AS status,
    {many:TRUE} AS errors, {many:occurred_at >= {hours_ago:1}} AS errors_last_hour,
    MIN(occurred_at) AS first_at, MAX(occurred_at) AS last_at
  FROM errors {index:ix_errors_occurred_at} WHERE occurred_at >= {hours_ago:24} GROUP BY fingerprint, client
) AS seen LEFT JOIN error_groups AS kind USING (fingerprint)
ORDER BY errors DESC, last_at DESC""",
        example="SELECT client, category, errors_last_hour, message FROM v_top_errors_24h "
        "ORDER BY errors_last_hour DESC LIMIT 5",
    ),
    SqlView(
        name="v_retry_success",
        answers="How often did asking the same client again help?",
        window="the last 24 hours",
        columns={
            "client": "the client that was to answer",
            "function": "the function that was called",
            "retried_calls": "calls in which a client was asked again",
            "recovered_calls": "calls that a retry answered, without another client",
            "success_rate": f"recovered_calls / retried_calls: {_RATE_OF_CALLS}",
        },
        sql="""
SELECT client, function, {whole:SUM(retried_calls)} AS retried_calls, {whole:SUM(recovered_retry)} AS recovered_calls,
  {share:SUM(recovered_retry)|SUM(retried_calls)} AS success_rate
FROM rollups WHERE bucket_at >= {hours_ago:24} AND retried_calls > 0
GROUP BY client, function ORDER BY retried_calls DESC, client, function""",
        example="SELECT client, SUM(retried_calls), 1.0 * SUM(recovered_calls) / SUM(retried_calls) FROM v_retry_success GROUP BY 1",
    ),
    SqlView(
        name="v_fallback_success",
        answers="How often did falling over to another client help, from which to which?",
        window="the last 24 hours",
        columns={
            "from_client": "the client that could not answer",
            "to_client": "the client that was asked instead",
            "reason": "the kind of failure that led to it",
            "fallbacks": "steps from the one to the other",
            "succeeded": "steps whose client answered",
            "failed": "steps whose client failed too",
            "success_rate": f"succeeded / (succeeded + failed): {_RATE_OF_CALLS}",
            "mean_seconds": "mean turn of the client that was asked instead, seconds",
        },
        sql="""
SELECT from_client, to_client, reason, COUNT(*) AS fallbacks,
  COUNT(*) FILTER (WHERE succeeded) AS succeeded, COUNT(*) FILTER (WHERE NOT succeeded) AS failed,
  {share:COUNT(*) FILTER (WHERE succeeded)|COUNT(succeeded)} AS success_rate,
  {rounded:AVG(duration)} AS mean_seconds
FROM fallbacks WHERE occurred_at >= {hours_ago:24}
GROUP BY from_client, to_client, reason ORDER BY fallbacks DESC, from_client, to_client, reason""",
        example="SELECT * FROM v_fallback_success WHERE from_client = 'Primary'",
    ),
    SqlView(
        name="v_breaker_outages",
        answers="When was a circuit open, how long, and what opened it?",
        window="all that is kept",
        columns={
            "namespace": "the deployment whose circuit it is",
            "client": "whose circuit",
            "scope": "`shared` for the fleet's circuit, else the instance_id of the process whose own circuit stood in",
            "started_at": "when it left closed, UTC",
            "ended_at": "when it was closed again, UTC; null while it is not",
            "seconds": "from started_at to ended_at, seconds; null while it is not closed",
            "opened_by": "the rule that opened it, or `operator`",
            "reason": "the kind of failure, or the operator's words",
            "calls": "results within the window when it opened",
            "failures": "those of them that failed",
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
    SqlView(
        name="v_mttr",
        answers="How long does an outage of a client last, and is one running?",
        window="all that is kept",
        columns={
            "namespace": "the deployment whose circuit it is",
            "client": "whose circuit",
            "scope": "as in v_breaker_outages",
            "outages": "how many began",
            "ended": "how many are over",
            "mttr_seconds": "mean time to recovery of those that are over, seconds",
            "longest_seconds": "the longest of them, seconds",
            "total_seconds": "all of them together, seconds",
            "last_started_at": "start of the latest, UTC",
            "open_since_at": "start of the one that is running, UTC; null when none is",
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
    SqlView(
        name="v_recovery",
        answers="After a failure, did the caller still get an answer, and after how long?",
        window="the last 24 hours",
        columns={
            "client": "the client that was to answer",
            "affected_calls": "calls with at least one failure that were not cancelled; where rows were sampled, the estimate from those kept",
            "recovered_retry": "answered by a retry",
            "recovered_fallback": "answered by another client",
            "failed": "answered by none",
            "rejected": "refused: no client was asked",
            "recovered_rate": f"answered / affected_calls: {_RATE_OF_CALLS}",
            "mean_seconds": "mean time from the first failure to the answer, seconds",
            "longest_seconds": "the longest of them, seconds",
        },
        sql="""
SELECT client, {many:TRUE} AS affected_calls,
  {many:outcome = 'recovered_retry'} AS recovered_retry, {many:outcome = 'recovered_fallback'} AS recovered_fallback,
  {many:outcome = 'failed'} AS failed, {many:outcome = 'rejected'} AS rejected,
  {share:{many:outcome IN ('recovered_retry', 'recovered_fallback')}|{many:TRUE}} AS recovered_rate,
  {rounded:AVG(recovery)} AS mean_seconds, {rounded:MAX(recovery)} AS longest_seconds
FROM calls WHERE outcome != 'ok' AND outcome != 'cancelled' AND started_at >= {hours_ago:24}
GROUP BY client ORDER BY affected_calls DESC, client""",
        example="SELECT client, affected_calls, recovered_rate, mean_seconds FROM v_recovery",
    ),
    SqlView(
        name="v_request_timeline",
        answers="What happened to one request, step by step?",
        window="all that is kept; ask for one request_id",
        columns={
            "request_id": "the request",
            "happened_at": "when, UTC",
            "step": "`call`, `error`, `fallback` or `end`",
            "client": "call: the client that was to answer; error: the one tried; fallback: the one left; end: the one that answered",
            "function": "the function that was called",
            "attempt": "error: 1 for the first try on this client",
            "what": "error: its category; fallback: its reason; end: the outcome",
            "detail": "error: the redacted message; fallback: the client asked next",
            "action": "error: `retry`, `fallback` or `raise`",
            "duration": "error: of the attempt; fallback: of the next client's turn; end: of the whole call; seconds",
            "wait": "error: chosen pause before the retry, seconds",
            "call_id": "the call, where a request makes several",
        },
        sql="""
SELECT request_id, happened_at, step, client, function, attempt, what, detail, action, duration, wait, call_id
FROM (
  SELECT request_id, started_at AS happened_at, 'call' AS step, client, function, CAST(NULL AS INTEGER) AS attempt,
    CAST(NULL AS TEXT) AS what, CAST(NULL AS TEXT) AS detail, CAST(NULL AS TEXT) AS action,
    CAST(NULL AS DOUBLE PRECISION) AS duration, CAST(NULL AS DOUBLE PRECISION) AS wait, call_id, 1 AS turn
  FROM calls
  UNION ALL
  SELECT request_id, occurred_at, 'error', client, function, attempt, category, message, action, duration, backoff, call_id, 2
  FROM errors
  UNION ALL
  SELECT request_id, occurred_at, 'fallback', from_client, function, NULL, reason, to_client, NULL, duration, NULL, call_id, 3
  FROM fallbacks
  UNION ALL
  SELECT request_id, {later:started_at|duration}, 'end', client_final, function, NULL, outcome, NULL, NULL, duration, NULL,
    call_id, 4
  FROM calls
) AS steps
ORDER BY happened_at, turn""",
        example="SELECT happened_at, step, client, what, detail, action, wait FROM v_request_timeline WHERE request_id = '...'",
    ),
)
