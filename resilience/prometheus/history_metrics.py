"""Metric families of the history: sums since midnight UTC over the rows of every process.

The queries read roll-ups where these have the numbers. Where they read single rows, each row weighs `1 / sample_rate`:
a sampled error row stands for all errors of its burst.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from resilience.history import CallOutcome
from resilience.history.reader.history import SyncHistory
from resilience.prometheus.families import Family, Sample
from resilience.telemetry import labels, names

_ALIVE: Final = timedelta(minutes=10)
"""A process whose last heartbeat is older is not shown."""
_INSTANCE: Final = "service_instance_id"
_MAX_ROWS: Final = 10_000
"""Rows read for one metric at most."""

_CALLS: Final = """
SELECT client, function, SUM(calls), SUM(attempts), SUM(failed_calls), SUM(cancelled_calls), SUM(rejected_calls),
       SUM(recovered_retry), SUM(recovered_fallback), SUM(answered_calls), SUM(input_tokens), SUM(output_tokens), SUM(duration_sum)
FROM rollups WHERE bucket_at >= :since AND namespace = :namespace GROUP BY client, function ORDER BY client, function
"""
_ERRORS: Final = """
SELECT client, function, category, SUM(1.0 / sample_rate)
FROM errors WHERE occurred_at >= :since AND namespace = :namespace AND category <> 'circuit_open'
GROUP BY client, function, category ORDER BY client, function, category
"""
# The CASE must agree with `labels.retry_result`, which does the same for OpenTelemetry.
_RETRIES: Final = """
SELECT client, result, SUM(1.0 / sample_rate) FROM (
  SELECT client, sample_rate, CASE WHEN action = 'retry' THEN 'scheduled' WHEN denied IS NOT NULL THEN denied || '_denied'
         WHEN recoverable AND attempt > 1 THEN 'exhausted' END AS result
  FROM errors WHERE occurred_at >= :since AND namespace = :namespace AND category <> 'circuit_open') AS results
WHERE result IS NOT NULL GROUP BY client, result ORDER BY client, result
"""
# A refusal that leads to another client is no error: it has a row of `fallbacks` only. So nothing is
# counted twice. `Instruments` counts the same for OpenTelemetry, in `record_failure` and `record_fallback`.
_REJECTED: Final = """
SELECT client, SUM(weight) FROM (
  SELECT client, 1.0 / sample_rate AS weight FROM errors WHERE occurred_at >= :since AND namespace = :namespace AND category = 'circuit_open'
  UNION ALL
  SELECT from_client, 1.0 FROM fallbacks WHERE occurred_at >= :since AND namespace = :namespace AND reason = 'circuit_open') AS refused
GROUP BY client ORDER BY client
"""
# A fallback of unknown outcome has no `succeeded` and counts as false, as in `Instruments.record_fallback`.
_FALLBACKS: Final = """
SELECT from_client, to_client, reason, CASE WHEN succeeded THEN 'true' ELSE 'false' END AS helped, COUNT(*)
FROM fallbacks WHERE occurred_at >= :since AND namespace = :namespace
GROUP BY from_client, to_client, reason, helped ORDER BY from_client, to_client, reason, helped
"""
# The free text of an order must not become a label: `labels.transition_reason` does the same for OpenTelemetry.
_TRANSITIONS: Final = """
SELECT client, to_state, actor <> '' AS ordered, CASE WHEN actor <> '' THEN '' ELSE reason END AS why, COUNT(*)
FROM breaker_events WHERE occurred_at >= :since AND namespace = :namespace AND rule <> 'cool_down'
GROUP BY client, to_state, ordered, why ORDER BY client, to_state, ordered, why
"""
_INSTANCES: Final = """
SELECT instance_id, queue_depth, dropped_events, degraded FROM instances
WHERE heartbeat_at >= :alive AND namespace = :namespace ORDER BY instance_id
"""

_Row = tuple[Any, ...]
_Query = Callable[..., tuple[_Row, ...]]


def history_families(history: SyncHistory, *, namespace: str | None, now: datetime) -> list[Family]:
    """Read all metrics of the history.

    Args:
        history: where the rows are.
        namespace: the deployment whose circuit transitions are counted.
        now: the current time; counters start at the midnight UTC before it.

    Raises:
        HistoryError: the database cannot be read.
    """
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)

    def query(sql: str, **parameters: Any) -> tuple[_Row, ...]:
        given = {"namespace": namespace, **(parameters or {"since": midnight})}
        return history.sql(sql, given, limit=_MAX_ROWS).rows

    transitions = query(_TRANSITIONS)
    return [
        *_call_families(query),
        Family(names.ERRORS, _samples(query(_ERRORS), "client", "function", names.ERROR_TYPE)),
        Family(names.BREAKER_REJECTED, _samples(query(_REJECTED), "client")),
        Family(
            names.FALLBACKS_TAKEN,
            _samples(query(_FALLBACKS), "from_client", "to_client", "reason", "succeeded"),
        ),
        Family(names.BREAKER_TRANSITIONS, tuple(_transitions(transitions))),
        *_instances(query(_INSTANCES, alive=now - _ALIVE)),
    ]


@dataclass(frozen=True, slots=True)
class _CallSums:
    """One row of `_CALLS`: sums since midnight of one client and function. The fields are its columns, in order."""

    client: str
    function: str
    calls: int
    attempts: int
    failed: int
    cancelled: int
    rejected: int
    recovered_retry: int
    recovered_fallback: int
    answered: int
    input_tokens: int
    output_tokens: int
    seconds: float

    @property
    def labels(self) -> dict[str, str]:
        """The labels that most of its samples have."""
        return {"client": self.client, "function": self.function}

    @property
    def outcomes(self) -> dict[CallOutcome, int]:
        """Number of calls by outcome. The table has no column for `ok`: it is the rest."""
        counts = {
            CallOutcome.RECOVERED_RETRY: self.recovered_retry,
            CallOutcome.RECOVERED_FALLBACK: self.recovered_fallback,
            CallOutcome.FAILED: self.failed,
            CallOutcome.REJECTED: self.rejected,
            CallOutcome.CANCELLED: self.cancelled,
        }
        return {CallOutcome.OK: self.calls - sum(counts.values()), **counts}


def _call_families(query: _Query) -> list[Family]:
    sums = _read_call_sums(query(_CALLS))
    retries = (*_samples(query(_RETRIES), "client", "result"), *_successful_retries(sums))
    return [
        Family(names.CALLS, tuple(_calls(sums))),
        Family(names.CALL_DURATION, tuple(_durations(sums))),
        Family(names.ATTEMPTS_MADE, tuple(Sample(row.labels, row.attempts) for row in sums)),
        Family(names.TOKENS_USED, tuple(_tokens(sums))),
        Family(names.RETRIES, retries),
    ]


def _read_call_sums(rows: Iterable[_Row]) -> list[_CallSums]:
    # PostgreSQL sums bigint columns to Decimals.
    numbers = [(*row[:2], *map(int, row[2:-1]), float(row[-1])) for row in rows]
    return [_CallSums(*row) for row in numbers]


def _calls(rows: Iterable[_CallSums]) -> Iterator[Sample]:
    for row in rows:
        for outcome, count in row.outcomes.items():
            # Outcomes that never occurred make no series.
            if count:
                yield Sample({**row.labels, "outcome": outcome.value}, count)


def _durations(rows: Iterable[_CallSums]) -> Iterator[Sample]:
    seconds: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        seconds[row.client] += row.seconds
        counts[row.client] += row.answered
    for client, count in counts.items():
        if count:
            yield Sample({"client": client}, seconds[client], "sum")
            yield Sample({"client": client}, count, "count")


def _tokens(rows: Iterable[_CallSums]) -> Iterator[Sample]:
    for row in rows:
        for kind, count in (("input", row.input_tokens), ("output", row.output_tokens)):
            if count:
                yield Sample({**row.labels, "type": kind}, count)


def _successful_retries(rows: Iterable[_CallSums]) -> Iterator[Sample]:
    # The label `succeeded` comes from calls: the error rows of `_RETRIES` know only retries that were due.
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row.client] += row.recovered_retry
    for client, count in counts.items():
        if count:
            yield Sample({"client": client, "result": "succeeded"}, count)


def _samples(rows: Iterable[_Row], *keys: str) -> tuple[Sample, ...]:
    """Convert rows that hold one column per label of *keys*, then the value."""
    return tuple(Sample(dict(zip(keys, row[:-1], strict=True)), float(row[-1])) for row in rows)


def _transitions(rows: Iterable[_Row]) -> Iterator[Sample]:
    for client, to_state, ordered, reason, count in rows:
        label = labels.OPERATOR if ordered else reason
        yield Sample({"client": client, "to_state": to_state, "reason": label}, count)


def _instances(rows: Sequence[_Row]) -> list[Family]:
    # The metrics stand in the order of the columns of `_INSTANCES`.
    return [
        Family(metric, tuple(Sample({_INSTANCE: row[0]}, int(row[column])) for row in rows))
        for column, metric in enumerate((names.QUEUE_DEPTH, names.DROPPED, names.DEGRADED), start=1)
    ]
