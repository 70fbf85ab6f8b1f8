"""One instrument for each metric, with labels of few values.

A request id, a fingerprint or a message is never a label: each value would be a time series.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

from resilience import damage_counts
from resilience.breaker import Breaker, CircuitState, CircuitView, Transition
from resilience.failure import ErrorCategory
from resilience.history import Recorder
from resilience.history.writer.drops import dropped_by_process
from resilience.records.records import Action, CallOutcome, CallRecord, ErrorRecord, FallbackRecord
from resilience.telemetry import known_series, labels, names
from resilience.telemetry.known_series import Known

Runtimes = Mapping[int, tuple[Breaker, Recorder]]
"""The circuits and the recorder of each open runtime, by the identity of the circuits."""
Callback = Callable[[CallbackOptions], Iterable[Observation]]


class Instruments:
    """The instruments of one meter.

    Args:
        meter: creates them.
        runtimes: read by the gauges at each collection, on the thread of the metric reader.
    """

    def __init__(self, meter: Meter, runtimes: Runtimes) -> None:
        self._runtimes = runtimes
        self._calls = _counter(meter, names.CALLS)
        self._call_duration = _histogram(meter, names.CALL_DURATION)
        self._attempt_duration = _histogram(meter, names.ATTEMPT_DURATION)
        self._attempts = _counter(meter, names.ATTEMPTS_MADE)
        self._errors = _counter(meter, names.ERRORS)
        self._tokens = _counter(meter, names.TOKENS_USED)
        self._retries = _counter(meter, names.RETRIES)
        self._transitions = _counter(meter, names.BREAKER_TRANSITIONS)
        self._rejected = _counter(meter, names.BREAKER_REJECTED)
        self._fallbacks = _counter(meter, names.FALLBACKS_TAKEN)
        self._flushes = _histogram(meter, names.FLUSH_DURATION)
        self._operation = _histogram(meter, names.OPERATION_DURATION)
        self._first_chunk = _histogram(meter, names.FIRST_CHUNK)
        self._first_token = _histogram(meter, names.FIRST_TOKEN)
        self._usage = _histogram(meter, names.TOKEN_USAGE, names.TOKENS)
        # Gauges are not set but asked for their values, so that an idle process shows the present too.
        for metric, read in self._gauges():
            make = (
                meter.create_observable_counter
                if metric.kind is names.Kind.COUNTER
                else meter.create_observable_gauge
            )
            make(metric.name, [read], unit=metric.unit, description=metric.help)

    def add_zeros(self, known: Known) -> None:
        """Begin every counter's series that can be foreseen at 0, so that the first failure is an increase; see `known_series.py`."""
        for client, function in known.pairs:
            both = {"client": client, "function": function}
            self._attempts.add(0, both)
            for counter, label, values in (
                (self._calls, "outcome", known_series.OUTCOMES),
                (self._errors, names.ERROR_TYPE, known_series.ERRORS),
                (self._tokens, "type", known_series.TOKENS),
            ):
                for value in values:
                    counter.add(0, {**both, label: value})
        for client in known.clients:
            self._rejected.add(0, {"client": client})
            for result in known_series.RESULTS:
                self._retries.add(0, {"client": client, "result": result})
            for state, reason in known_series.TRANSITIONS:
                self._transitions.add(0, {"client": client, "to_state": state, "reason": reason})
        for route in known.fallbacks():
            keys = ("from_client", "to_client", "reason", "succeeded")
            self._fallbacks.add(0, dict(zip(keys, route, strict=True)))

    # --- calls --------------------------------------------------------------------------------------------------

    def record_answer(self, client: str, function: str, attempt: int, seconds: float) -> None:
        """Count and measure an attempt that was answered."""
        self._attempts.add(1, {"client": client, "function": function})
        self._attempt_duration.record(seconds, {"client": client, "attempt": labels.capped(attempt)})

    def record_failure(self, record: ErrorRecord) -> None:
        """Count and measure an attempt that failed, or count one that a circuit refused."""
        if record.category is ErrorCategory.CIRCUIT_OPEN:
            self._rejected.add(1, {"client": record.client})
            return
        client, error = record.client, {names.ERROR_TYPE: record.category.value}
        both = {"client": client, "function": record.function}
        # Counted as an attempt, too: the error rate of the dashboard divides the two.
        self._attempts.add(1, both)
        self._errors.add(1, both | error)
        handled = {"handled": str(record.action is not Action.RAISE).lower()}
        duration_labels = {"client": client, "attempt": labels.capped(record.attempt)} | error | handled
        self._attempt_duration.record(record.duration, duration_labels)
        self._count_tokens(client, record.function, "input", record.input_tokens)
        self._count_tokens(client, record.function, "output", record.output_tokens)
        result = labels.retry_result(record)
        if result is not None:
            self._retries.add(1, {"client": client, "result": result})

    def record_fallback(self, record: FallbackRecord) -> None:
        """Count a fallback, and the refusal that caused it."""
        fallback_labels = {
            "from_client": record.from_client,
            "to_client": record.to_client,
            "reason": record.reason.value,
            "succeeded": str(record.succeeded is True).lower(),
        }
        self._fallbacks.add(1, fallback_labels)
        # A refusal that led to a fallback has no error record, so it is counted here.
        if record.reason is ErrorCategory.CIRCUIT_OPEN:
            self._rejected.add(1, {"client": record.from_client})

    def record_operation(self, client_labels: Mapping[str, str], seconds: float) -> None:
        """Measure all attempts on one client together."""
        self._operation.record(seconds, dict(client_labels))

    def record_first_token(self, client: str, client_labels: Mapping[str, str], seconds: float) -> None:
        """Measure the time to the first content of one streamed attempt.

        Args:
            client: the client that was asked.
            client_labels: the labels of the semantic conventions.
            seconds: the time.
        """
        self._first_chunk.record(seconds, dict(client_labels))
        self._first_token.record(seconds, {"client": client})

    def record_call(self, record: CallRecord) -> None:
        """Count and measure a call that ended."""
        client, outcome = record.client, record.outcome.value
        answered_by = record.client_final or client
        self._calls.add(1, {"client": client, "function": record.function, "outcome": outcome})
        self._call_duration.record(record.duration, {"client": answered_by, "outcome": outcome})
        if record.outcome is CallOutcome.RECOVERED_RETRY:
            self._retries.add(1, {"client": client, "result": "succeeded"})
        # What failed attempts used is counted with them, at the clients that were asked.
        self._count_tokens(
            answered_by, record.function, "input", record.input_tokens, record.failed_input_tokens
        )
        self._count_tokens(
            answered_by, record.function, "output", record.output_tokens, record.failed_output_tokens
        )

    def _count_tokens(
        self, client: str, function: str, kind: str, count: int | None, counted: int | None = None
    ) -> None:
        left = (count or 0) - (counted or 0)
        if left > 0:
            self._tokens.add(left, {"client": client, "function": function, "type": kind})

    def record_tokens(
        self, client_labels: Mapping[str, str], input_tokens: int | None, output_tokens: int | None
    ) -> None:
        """Count the tokens of one attempt; None where the provider stated none."""
        for kind, count in (("input", input_tokens), ("output", output_tokens)):
            if count is not None:
                self._usage.record(count, {**client_labels, names.TOKEN_TYPE: kind})

    def record_transition(self, transition: Transition) -> None:
        """Count a transition of a circuit."""
        transition_labels = {
            "client": transition.client,
            "to_state": transition.to_state.value,
            "reason": labels.transition_reason(transition.actor, transition.reason),
        }
        self._transitions.add(1, transition_labels)

    def record_flush(self, seconds: float) -> None:
        """Measure a transaction of the history; *seconds* is its duration."""
        self._flushes.record(seconds)

    # --- gauges -------------------------------------------------------------------------------------------------

    def _gauges(self) -> Iterator[tuple[names.Metric, Callback]]:
        yield names.BREAKER_STATE, lambda _: _states(self._views())
        yield names.BREAKER_FAILURE_RATE, lambda _: _rates(self._views())
        yield names.RETRY_TOKENS, lambda _: _budgets(self._views())
        yield names.QUEUE_DEPTH, lambda _: [Observation(sum(r.queue_depth for r in self._recorders()))]
        yield names.LAG, lambda _: [Observation(max((r.lag for r in self._recorders()), default=0.0))]
        # Of the process and not of the open recorders: a counter must not go back when a handler closes.
        yield names.DROPPED, lambda _: [Observation(dropped_by_process())]
        yield (
            names.DAMAGED,
            lambda _: [
                Observation(damage_counts.counts[kind], {"kind": kind}) for kind in damage_counts.KINDS
            ],
        )
        yield names.DEGRADED, lambda _: [Observation(int(any(b.degraded for b, _ in self._open_runtimes())))]

    def _open_runtimes(self) -> list[tuple[Breaker, Recorder]]:
        # A copy: handlers open and close while another thread reads the gauges.
        return list(self._runtimes.values())

    def _recorders(self) -> list[Recorder]:
        # Several runtimes share the recorder of one database, whose records must not count twice.
        return list({id(recorder): recorder for _, recorder in self._open_runtimes()}.values())

    def _views(self) -> list[CircuitView]:
        # Two handlers of one process may use one client; a series must not occur twice.
        views = {
            client: view for breaker, _ in self._open_runtimes() for client, view in breaker.views().items()
        }
        return list(views.values())


def _states(views: Iterable[CircuitView]) -> Iterator[Observation]:
    for view in views:
        for state in CircuitState:
            yield Observation(int(view.state is state), {"client": view.client, "state": state.value})


def _rates(views: Iterable[CircuitView]) -> Iterator[Observation]:
    for view in views:
        rate = labels.failure_rate(view.successes, view.failures)
        if rate is not None:
            yield Observation(rate, {"client": view.client})


def _budgets(views: Iterable[CircuitView]) -> Iterator[Observation]:
    for view in views:
        if math.isfinite(view.retry_tokens):
            yield Observation(view.retry_tokens, {"client": view.client})


def _counter(meter: Meter, metric: names.Metric) -> Counter:
    return meter.create_counter(metric.name, unit=metric.unit, description=metric.help)


def _histogram(meter: Meter, metric: names.Metric, buckets: Sequence[float] = names.SECONDS) -> Histogram:
    return meter.create_histogram(
        metric.name,
        unit=metric.unit,
        description=metric.help,
        explicit_bucket_boundaries_advisory=buckets,
    )
