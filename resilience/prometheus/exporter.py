"""The fleet's metrics as Prometheus text: read from the history and the circuits at the moment somebody looks.

Every process writes to the same history and the same circuits, so the numbers are those of all of them, whichever process
answers; nothing is shared in files, and none of them runs a server. Counters begin anew at midnight UTC, as after a restart,
which Prometheus expects of counters: so they are never larger than what retention leaves in the tables.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from resilience.breaker import CircuitState, CircuitView, Store, open_store
from resilience.breaker.messages import StepReply, StepRequest
from resilience.config import settings as _settings
from resilience.config.settings import Settings
from resilience.errors import ResilienceError
from resilience.history import CallOutcome
from resilience.history.reader.history import SyncHistory
from resilience.prometheus.text_format import CONTENT_TYPE, Family, Sample, text
from resilience.telemetry import labels, names

_ALIVE: Final = timedelta(minutes=10)
"""A process that has not written for so long is not shown."""
_INSTANCE: Final = "service_instance_id"
_SERIES: Final = 10_000
"""The most lines one metric may have."""

_CALLS: Final = """
SELECT client, function, SUM(calls), SUM(attempts), SUM(failed_calls), SUM(cancelled_calls), SUM(rejected_calls),
       SUM(recovered_retry), SUM(recovered_fallback), SUM(input_tokens), SUM(output_tokens), SUM(duration_sum)
FROM rollups WHERE bucket_at >= :since GROUP BY client, function ORDER BY client, function
"""
_ERRORS: Final = """
SELECT client, function, category, SUM(1.0 / sample_rate)
FROM errors WHERE occurred_at >= :since AND category <> 'circuit_open'
GROUP BY client, function, category ORDER BY client, function, category
"""
_RETRIES: Final = """
SELECT client, result, SUM(1.0 / sample_rate) FROM (
  SELECT client, sample_rate, CASE WHEN action = 'retry' THEN 'scheduled' WHEN denied IS NOT NULL THEN denied || '_denied'
         WHEN recoverable AND attempt > 1 THEN 'exhausted' END AS result
  FROM errors WHERE occurred_at >= :since AND category <> 'circuit_open') AS told
WHERE result IS NOT NULL GROUP BY client, result ORDER BY client, result
"""
_REJECTED: Final = """
SELECT client, SUM(weight) FROM (
  SELECT client, 1.0 / sample_rate AS weight FROM errors WHERE occurred_at >= :since AND category = 'circuit_open'
  UNION ALL
  SELECT from_client, 1.0 FROM fallbacks WHERE occurred_at >= :since AND reason = 'circuit_open') AS refused
GROUP BY client ORDER BY client
"""
_FALLBACKS: Final = """
SELECT from_client, to_client, reason, CASE WHEN succeeded THEN 'true' ELSE 'false' END AS helped, COUNT(*)
FROM fallbacks WHERE occurred_at >= :since
GROUP BY from_client, to_client, reason, helped ORDER BY from_client, to_client, reason, helped
"""
_TRANSITIONS: Final = """
SELECT client, to_state, actor <> '' AS ordered, CASE WHEN actor <> '' THEN '' ELSE reason END AS why, COUNT(*)
FROM breaker_events WHERE occurred_at >= :since AND namespace = :namespace
GROUP BY client, to_state, ordered, why ORDER BY client, to_state, ordered, why
"""
_INSTANCES: Final = """
SELECT instance_id, queue_depth, dropped_events, degraded FROM instances WHERE heartbeat_at >= :alive ORDER BY instance_id
"""

_Row = tuple[Any, ...]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look gave.

    Attributes:
        text: for Prometheus.
        troubles: what could not be read, and why, for people.
    """

    text: str
    troubles: tuple[str, ...] = ()


class Exposition:
    """Gives the metrics of the fleet that *settings* name; those of the environment when not given.

    Also an ASGI application, to be mounted where Prometheus looks: `app.mount("/metrics", Exposition())`. It holds nothing
    open between two looks.

    Raises:
        ConfigurationError: the settings cannot work.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = (settings or Settings()).complete()
        self._policy = _settings.breaker_policy()

    def render(self) -> str:
        """The text for Prometheus. Blocks for some milliseconds; a source that cannot be read is told by `resilience_source_up`."""
        return self.read().text

    def read(self) -> Reading:
        """The text, and what could not be read for it."""
        families, troubles, up = [], [], []
        for source, gather in (("history", self._history), ("circuits", self._circuits)):
            try:
                families += gather()
            except Exception as exc:  # noqa: BLE001 - one source that cannot be read, for whatever reason, is no reason to hide the other
                troubles.append(
                    f"{source}: {exc if isinstance(exc, ResilienceError) else type(exc).__name__}"
                )
                up.append(Sample({"source": source}, 0))
            else:
                up.append(Sample({"source": source}, 1))
        families.append(Family(names.SOURCE_UP, tuple(up)))
        return Reading(text(families), tuple(troubles))

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request of any path with the text."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        body = (await asyncio.to_thread(self.render)).encode()
        headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    # --- the history --------------------------------------------------------------------------------------------

    def _history(self) -> list[Family]:
        if self._settings.privacy == "off":
            return []
        history, now = SyncHistory(self._settings.database_url), datetime.now(UTC)
        times: dict[str, Any] = {"since": now.replace(hour=0, minute=0, second=0, microsecond=0)}

        def ask(query: str, **params: Any) -> tuple[_Row, ...]:
            return history.sql(query, params or times, limit=_SERIES).rows

        calls = _read_calls(ask(_CALLS))
        namespace = {**times, "namespace": self._settings.namespace}
        return [
            Family(names.CALLS, tuple(_calls(calls))),
            Family(names.CALL_DURATION, tuple(_durations(calls))),
            Family(names.ATTEMPTS_MADE, tuple(_attempts(calls))),
            Family(names.TOKENS_USED, tuple(_tokens(calls))),
            Family(names.ERRORS, _samples(ask(_ERRORS), "client", "function", names.ERROR_TYPE)),
            Family(names.RETRIES, (*_samples(ask(_RETRIES), "client", "result"), *_succeeded(calls))),
            Family(names.BREAKER_REJECTED, _samples(ask(_REJECTED), "client")),
            Family(
                names.FALLBACKS_TAKEN,
                _samples(ask(_FALLBACKS), "from_client", "to_client", "reason", "succeeded"),
            ),
            Family(names.BREAKER_TRANSITIONS, tuple(_transitions(ask(_TRANSITIONS, **namespace)))),
            *_instances(ask(_INSTANCES, alive=now - _ALIVE)),
        ]

    # --- the circuits -------------------------------------------------------------------------------------------

    def _circuits(self) -> list[Family]:
        settings = self._settings
        store = open_store(
            settings.redis_url or settings.store_url or "memory://", namespace=settings.namespace
        )
        try:
            views = list(self._views(store))
        finally:
            store.close()
        return [
            Family(names.BREAKER_STATE, tuple(_states(views))),
            Family(names.BREAKER_FAILURE_RATE, tuple(_rates(views))),
            Family(names.RETRY_TOKENS, tuple(_budgets(views))),
        ]

    def _views(self, store: Store) -> Iterator[CircuitView]:
        known = store.names()
        replies = store.step([StepRequest(client=client) for client in known]) if known else []
        for client, reply in zip(known, replies, strict=True):
            if isinstance(reply, StepReply):
                yield CircuitView.of(client, reply, policy=self._policy, asked=0.0, now=0.0, shared=True)


# --- from rows to samples -----------------------------------------------------------------------------------------------


def _samples(rows: Iterable[_Row], *keys: str) -> tuple[Sample, ...]:
    """Rows of as many labels as *keys*, and a value."""
    return tuple(Sample(dict(zip(keys, row[:-1], strict=True)), float(row[-1])) for row in rows)


@dataclass(frozen=True, slots=True)
class _Calls:
    """A row of `_CALLS`: sums of a day, by client and function."""

    client: str
    function: str
    calls: int
    attempts: int
    failed: int
    cancelled: int
    rejected: int
    recovered_retry: int
    recovered_fallback: int
    input_tokens: int
    output_tokens: int
    seconds: float

    @property
    def labels(self) -> dict[str, str]:
        """What most of its samples are sorted by."""
        return {"client": self.client, "function": self.function}

    @property
    def outcomes(self) -> dict[CallOutcome, int]:
        """Calls by how they ended."""
        told = {
            CallOutcome.RECOVERED_RETRY: self.recovered_retry,
            CallOutcome.RECOVERED_FALLBACK: self.recovered_fallback,
            CallOutcome.FAILED: self.failed,
            CallOutcome.REJECTED: self.rejected,
            CallOutcome.CANCELLED: self.cancelled,
        }
        return {CallOutcome.OK: self.calls - sum(told.values()), **told}


def _read_calls(rows: Iterable[_Row]) -> list[_Calls]:
    counted = [
        (*row[:2], *map(int, row[2:-1]), float(row[-1])) for row in rows
    ]  # PostgreSQL sums to Decimals
    return [_Calls(*row) for row in counted]


def _calls(rows: Iterable[_Calls]) -> Iterator[Sample]:
    for row in rows:
        for outcome, count in row.outcomes.items():
            if count:
                yield Sample({**row.labels, "outcome": outcome.value}, count)


def _durations(rows: Iterable[_Calls]) -> Iterator[Sample]:
    seconds: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        seconds[row.client] += row.seconds
        counts[row.client] += row.calls
    for client, count in counts.items():
        if count:
            yield Sample({"client": client}, seconds[client], "sum")
            yield Sample({"client": client}, count, "count")


def _attempts(rows: Iterable[_Calls]) -> Iterator[Sample]:
    return (Sample(row.labels, row.attempts) for row in rows)


def _tokens(rows: Iterable[_Calls]) -> Iterator[Sample]:
    for row in rows:
        for kind, count in (("input", row.input_tokens), ("output", row.output_tokens)):
            if count:
                yield Sample({**row.labels, "type": kind}, count)


def _succeeded(rows: Iterable[_Calls]) -> Iterator[Sample]:
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row.client] += row.recovered_retry
    return (
        Sample({"client": client, "result": "succeeded"}, count) for client, count in counts.items() if count
    )


def _transitions(rows: Iterable[_Row]) -> Iterator[Sample]:
    for client, state, ordered, reason, count in rows:
        why = labels.OPERATOR if ordered else reason
        yield Sample({"client": client, "to_state": state, "reason": why}, count)


def _instances(rows: Sequence[_Row]) -> list[Family]:
    return [
        Family(metric, tuple(Sample({_INSTANCE: row[0]}, int(row[place])) for row in rows))
        for place, metric in enumerate((names.QUEUE_DEPTH, names.DROPPED, names.DEGRADED), start=1)
    ]


# --- from views to samples ----------------------------------------------------------------------------------------------


def _states(views: Iterable[CircuitView]) -> Iterator[Sample]:
    for view in views:
        for state in CircuitState:
            yield Sample({"client": view.client, "state": state.value}, int(view.state is state))


def _rates(views: Iterable[CircuitView]) -> Iterator[Sample]:
    for view in views:
        rate = labels.failure_rate(view.successes, view.failures)
        if rate is not None:
            yield Sample({"client": view.client}, rate)


def _budgets(views: Iterable[CircuitView]) -> Iterator[Sample]:
    for view in views:
        if math.isfinite(view.retry_tokens):
            yield Sample({"client": view.client}, view.retry_tokens)


async def _live(receive: Receive, send: Send) -> None:
    """ASGI's lifespan: there is nothing to open and nothing to close."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
