"""Metric families of the history: sums over the rows of every process, since the history began.

The queries read counters, and rows only where no counter has the numbers. Retention adds what it deletes to a row without a time,
so a sum over all rows never goes back: Prometheus takes a smaller value for a restart, and would count everything twice.

Every series that can be foreseen is there with 0, see `telemetry/known_series.py`. That leaves a fleet that nothing was known of: the first row of a client
and a function may be a failure. So a pair is shown with zeros until its first row is two minutes old, and a scrape in between gives
Prometheus the zero that its next sample is an increase of.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any, Final

from resilience.history import CallOutcome
from resilience.history.reader.history import SyncHistory
from resilience.prometheus.families import Family, Sample
from resilience.prometheus.histograms import histogram
from resilience.telemetry import known_series as known
from resilience.telemetry import labels, names
from resilience.telemetry.known_series import Known, Pair

_NEWBORN: Final = timedelta(minutes=2)
"""Counters have the minute of their rows. So the zeros of a new pair last between one minute and two."""
_MAX_ROWS: Final = 100_000
"""Rows read for one metric at most."""

_CALLS: Final = """
SELECT client, function, CASE WHEN MIN(bucket_at) >= :newborn THEN 1 ELSE 0 END AS newborn,
       SUM(calls), SUM(attempts), SUM(failed_calls), SUM(cancelled_calls), SUM(rejected_calls),
       SUM(recovered_retry), SUM(recovered_fallback), SUM(input_tokens), SUM(output_tokens)
FROM rollups WHERE namespace = :namespace GROUP BY client, function ORDER BY client, function
"""
_ERRORS: Final = """
SELECT client, function, category, SUM(count) FROM error_rollups
WHERE namespace = :namespace AND category <> 'circuit_open'
GROUP BY client, function, category ORDER BY client, function, category
"""
# The columns agree with `labels.retry_result`, which decides the same for OpenTelemetry.
_RETRIES: Final = """
SELECT client, action, denied, SUM(count), SUM(exhausted) FROM error_rollups
WHERE namespace = :namespace AND category <> 'circuit_open' GROUP BY client, action, denied ORDER BY client, action, denied
"""
_REJECTED: Final = """
SELECT client, SUM(count) FROM error_rollups WHERE namespace = :namespace AND category = 'circuit_open'
GROUP BY client ORDER BY client
"""
# A fallback of unknown outcome has no `succeeded` and counts as false, as in `Instruments.record_fallback`.
_FALLBACKS: Final = """
SELECT client, target, reason, helped, SUM(times) FROM (
  SELECT from_client AS client, to_client AS target, reason, CASE WHEN succeeded THEN 'true' ELSE 'false' END AS helped,
         COUNT(*) AS times
  FROM fallbacks WHERE namespace = :namespace GROUP BY from_client, to_client, reason, helped
  UNION ALL
  SELECT client, target, reason, CASE WHEN result = 'true' THEN 'true' ELSE 'false' END, count
  FROM pruned_events WHERE namespace = :namespace AND kind = 'fallback') AS counted
GROUP BY client, target, reason, helped ORDER BY client, target, reason, helped
"""
# The free text of an order must not become a label: `labels.transition_reason` does the same for OpenTelemetry.
_TRANSITIONS: Final = """
SELECT client, target, ordered, why, SUM(times) FROM (
  SELECT client, to_state AS target, CASE WHEN actor <> '' THEN 1 ELSE 0 END AS ordered,
         CASE WHEN actor <> '' THEN '' ELSE reason END AS why, COUNT(*) AS times
  FROM breaker_events WHERE namespace = :namespace AND rule <> 'cool_down' GROUP BY client, target, ordered, why
  UNION ALL
  SELECT client, target, CASE WHEN result = 'operator' THEN 1 ELSE 0 END, reason, count
  FROM pruned_events WHERE namespace = :namespace AND kind = 'transition') AS counted
GROUP BY client, target, ordered, why ORDER BY client, target, ordered, why
"""
_LATENCIES: Final = """
SELECT client, kind, bucket, SUM(count), SUM(seconds) FROM latencies
WHERE namespace = :namespace GROUP BY client, kind, bucket ORDER BY client, kind, bucket
"""

_QUERIES: Final = {
    "errors": _ERRORS,
    "retries": _RETRIES,
    "rejected": _REJECTED,
    "fallbacks": _FALLBACKS,
    "transitions": _TRANSITIONS,
    "latencies": _LATENCIES,
}

_KINDS: Final = {
    "calls": "tt" + "n" * 10,
    "errors": "tttn",
    "retries": "ttonn",
    "rejected": "tn",
    "fallbacks": "ttttn",
    "transitions": "ttntn",
    "latencies": "ttnnn",
}
"""What the columns of each query have: a text, a number, or a text or nothing (`o`). Rows with other values are left out."""

_SUM: Final = re.compile(r"SUM\((\w+)\)")
_SOUND_SUM: Final = r"COALESCE(SUM(CASE WHEN \1 BETWEEN 0 AND 1000000000000000 THEN 1.0 * \1 END), 0)"
"""A sum without values that no fleet reaches.

SQLite keeps any value in any column, and ends a statement whose sum of whole numbers is beyond 2^63: one number that another program
wrote would cost all metrics. Decimal fractions have no such limit.
"""

_Row = tuple[Any, ...]
_Counts = Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class _CallSums:
    """One row of `_CALLS`: sums of one client and function. The fields are its columns, in order."""

    client: str
    function: str
    newborn: int
    calls: int
    attempts: int
    failed: int
    cancelled: int
    rejected: int
    recovered_retry: int
    recovered_fallback: int
    input_tokens: int
    output_tokens: int

    @property
    def outcomes(self) -> dict[str, int]:
        """Number of calls by outcome. The table has no column for `ok`: it is the rest."""
        counts = {
            CallOutcome.RECOVERED_RETRY: self.recovered_retry,
            CallOutcome.RECOVERED_FALLBACK: self.recovered_fallback,
            CallOutcome.FAILED: self.failed,
            CallOutcome.REJECTED: self.rejected,
            CallOutcome.CANCELLED: self.cancelled,
        }
        counts[CallOutcome.OK] = self.calls - sum(counts.values())
        return {outcome.value: count for outcome, count in counts.items()}


@dataclass(frozen=True, slots=True)
class Counted:
    """The rows of all queries, and what is known and new.

    Attributes:
        known: the declared series and those of the history.
        newborn: pairs whose zeros must be seen first.
        new_clients: clients all of whose pairs are new.
        rows: the rows of each query, by its name.
    """

    known: Known
    newborn: frozenset[Pair]
    new_clients: frozenset[str]
    rows: Mapping[str, tuple[_Row, ...]]

    def by_pair(self, counts: Iterable[tuple[tuple[str, ...], float]], *closed: Iterable[str]) -> _Counts:
        """Return the counts of series that begin with client and function, with zeros for the values of *closed*."""
        found: dict[tuple[str, ...], float] = {
            (*pair, *rest): 0.0 for pair in sorted(self.known.pairs) for rest in product(*closed)
        }
        for key, count in counts:
            found[key] = found.get(key, 0.0) + (0.0 if (key[0], key[1]) in self.newborn else count)
        return found

    def by_client(
        self, counts: Iterable[tuple[tuple[str, ...], float]], closed: Iterable[tuple[str, ...]] = ((),)
    ) -> _Counts:
        """Return the counts of series that begin with a client, with zeros for the rests in *closed*."""
        found: dict[tuple[str, ...], float] = {
            (client, *rest): 0.0 for client in self.known.clients for rest in closed
        }
        for key, count in counts:
            found[key] = found.get(key, 0.0) + (0.0 if key[0] in self.new_clients else count)
        return found

    def by_route(self, counts: Iterable[tuple[tuple[str, ...], float]]) -> _Counts:
        """Return the counts of fallbacks. One from or to a new client is new."""
        found: dict[tuple[str, ...], float] = dict.fromkeys(self.known.fallbacks(), 0.0)
        for key, count in counts:
            new = self.new_clients.intersection(key[:2])
            found[key] = found.get(key, 0.0) + (0.0 if new else count)
        return found


def history_families(
    history: SyncHistory | None, *, namespace: str | None, now: datetime, declared: Known | None = None
) -> list[Family]:
    """Read all metrics of the history.

    Args:
        history: where the rows are; None for a history that does not exist yet: the declared series are there with 0.
        namespace: the deployment whose rows are counted.
        now: the current time.
        declared: series that exist from the start, beside those of the history.

    Raises:
        HistoryError: the database cannot be read.
    """

    def query(name: str, sql: str, **parameters: Any) -> tuple[_Row, ...]:
        if history is None:
            return ()
        sound = _SUM.sub(_SOUND_SUM, sql)
        found = history.sql(sound, {"namespace": namespace, **parameters}, limit=_MAX_ROWS).rows
        return tuple(row for row in found if all(map(_is_of_kind, row, _KINDS[name])))

    sums = [_CallSums(*row[:2], *map(int, row[2:])) for row in query("calls", _CALLS, newborn=now - _NEWBORN)]
    rows = {name: query(name, sql) for name, sql in _QUERIES.items()}
    counted = _counted(sums, rows, declared or Known())
    return [*_of_calls(sums, counted), *_of_failures(sums, counted), *_of_durations(counted)]


def _is_of_kind(value: Any, kind: str) -> bool:
    if kind == "n":
        return isinstance(value, int | float | Decimal) and math.isfinite(value)
    return isinstance(value, str) or (kind == "o" and value is None)


def _counted(sums: Iterable[_CallSums], rows: Mapping[str, tuple[_Row, ...]], declared: Known) -> Counted:
    pairs = {(row.client, row.function): bool(row.newborn) for row in sums}
    old = {client for (client, _), newborn in pairs.items() if not newborn}
    return Counted(
        known=declared.joined(pairs, ((row[0], row[1]) for row in rows["fallbacks"])),
        newborn=frozenset(pair for pair, newborn in pairs.items() if newborn),
        new_clients=frozenset(client for client, _ in pairs if client not in old),
        rows=rows,
    )


def _of_calls(sums: Iterable[_CallSums], counted: Counted) -> list[Family]:
    sums = list(sums)
    calls = [
        ((row.client, row.function, outcome), float(count))
        for row in sums
        for outcome, count in row.outcomes.items()
    ]
    tokens = [
        ((row.client, row.function, kind), float(count))
        for row in sums
        for kind, count in (("input", row.input_tokens), ("output", row.output_tokens))
    ]
    attempts = [((row.client, row.function), float(row.attempts)) for row in sums]
    both = ("client", "function")
    return [
        Family(names.CALLS, _samples(counted.by_pair(calls, known.OUTCOMES), *both, "outcome")),
        Family(names.ATTEMPTS_MADE, _samples(counted.by_pair(attempts), *both)),
        Family(names.TOKENS_USED, _samples(counted.by_pair(tokens, known.TOKENS), *both, "type")),
    ]


def _of_failures(sums: Iterable[_CallSums], counted: Counted) -> list[Family]:
    rows = counted.rows
    errors = counted.by_pair(_keyed(rows["errors"]), known.ERRORS)
    retries = counted.by_client(
        [
            *_retries(rows["retries"]),
            *(((row.client, "succeeded"), float(row.recovered_retry)) for row in sums),
        ],
        [(result,) for result in known.RESULTS],
    )
    transitions = counted.by_client(_transitions(rows["transitions"]), known.TRANSITIONS)
    steps = counted.by_route(_keyed(rows["fallbacks"]))
    return [
        Family(names.ERRORS, _samples(errors, "client", "function", names.ERROR_TYPE)),
        Family(names.RETRIES, _samples(retries, "client", "result")),
        Family(names.BREAKER_REJECTED, _samples(counted.by_client(_keyed(rows["rejected"])), "client")),
        Family(names.FALLBACKS_TAKEN, _samples(steps, "from_client", "to_client", "reason", "succeeded")),
        Family(names.BREAKER_TRANSITIONS, _samples(transitions, "client", "to_state", "reason")),
    ]


def _of_durations(counted: Counted) -> list[Family]:
    """Return the histograms. A new client is shown with empty ones, for the same reason as its counters."""
    found: dict[str, dict[str, dict[int, tuple[int, float]]]] = defaultdict(dict)
    for client, kind, bucket, count, seconds in counted.rows["latencies"]:
        buckets = found[kind].setdefault(client, {})
        if client not in counted.new_clients:
            buckets[int(bucket)] = int(count), float(seconds)
    clients = counted.known.clients

    def of(kind: str, **more: str) -> Iterator[Sample]:
        for client in clients:
            yield from histogram({"client": client, **more}, found[kind].get(client, {}))

    attempts = (*of("attempt_ok", outcome="ok"), *of("attempt_failed", outcome="failed"))
    return [
        Family(names.CALL_DURATION, tuple(of("call"))),
        Family(names.ATTEMPT_DURATION, attempts),
        Family(names.FIRST_TOKEN, tuple(of("first_token"))),
    ]


def _keyed(rows: Iterable[_Row]) -> Iterator[tuple[tuple[str, ...], float]]:
    return ((tuple(row[:-1]), float(row[-1])) for row in rows)


def _retries(rows: Iterable[_Row]) -> Iterator[tuple[tuple[str, ...], float]]:
    for client, action, denied, count, exhausted in rows:
        if action == "retry":
            yield (client, "scheduled"), float(count)
        if denied:
            yield (client, f"{denied}_denied"), float(count)
        yield (client, "exhausted"), float(exhausted)


def _transitions(rows: Iterable[_Row]) -> Iterator[tuple[tuple[str, ...], float]]:
    for client, to_state, ordered, reason, count in rows:
        yield (client, to_state, labels.OPERATOR if ordered else reason), float(count)


def _samples(counts: _Counts, *keys: str) -> tuple[Sample, ...]:
    """Return one sample for each series, whose key has one value for each label."""
    return tuple(Sample(dict(zip(keys, key, strict=True)), count) for key, count in counts.items())
