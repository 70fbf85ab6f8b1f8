"""Spans and metrics of calls, over the real BAML runtime and the SDK's in-memory exporters."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData, Sum
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from resilience import (
    AllClientsFailedError,
    BAMLErrorHandler,
    BreakerPolicy,
    CircuitOpenError,
    DeadlineExceededError,
    FallbackPolicy,
    RetryPolicy,
    Settings,
    damage_counts,
    protect,
    telemetry,
)
from resilience.history.writer import drops
from resilience.testing import Answer, Hang, ProviderSimulator, Status

pytestmark = pytest.mark.baml

PROMPT = "the violet armadillo sings at dawn over Lisbon"
KEY = "sk-canaryQ7w8e9R0t1Y2u3I4o5P6"
FUNCTION = "ParseResearchGoal"


@dataclass
class Collected:
    """Providers of the SDK that keep spans and metrics in memory."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)

    def __post_init__(self) -> None:
        self.tracing = TracerProvider(shutdown_on_exit=False)
        self.tracing.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.metering = MeterProvider(metric_readers=[self.reader], shutdown_on_exit=False)

    def spans(self) -> dict[str, ReadableSpan]:
        """The ended spans by name."""
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def points(self, name: str) -> dict[tuple[tuple[str, Any], ...], float]:
        """The values of a metric by their labels; for a histogram, the number of measurements. Counters with labels that are 0 are left out."""
        values: dict[tuple[tuple[str, Any], ...], float] = {}
        data = self.data()
        for metric in (m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics):
            if metric.name == name:
                for point in metric.data.data_points:
                    key = tuple(sorted((point.attributes or {}).items()))
                    if not isinstance(metric.data, Sum) or point.value or not key:  # type: ignore[union-attr]  # of a Sum
                        values[key] = point.value if hasattr(point, "value") else point.count
        return values

    def data(self) -> MetricsData:
        """The current values of all instruments."""
        data = self.reader.get_metrics_data()
        assert data is not None
        return data

    def everything(self) -> str:
        """All text of all spans and metrics."""
        spans = "".join(span.to_json() for span in self.exporter.get_finished_spans())
        return spans + self.data().to_json()


def key(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name.replace("__", "."), value) for name, value in labels.items()))


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collected]:
    # Earlier tests of this process may have dropped records or read damaged values.
    monkeypatch.setattr(drops, "_totals", Counter())
    monkeypatch.setattr(damage_counts, "counts", Counter())
    providers = Collected()
    telemetry.use(tracer_provider=providers.tracing, meter_provider=providers.metering)
    yield providers
    telemetry.use()
    providers.tracing.shutdown()
    providers.metering.shutdown()


@pytest.fixture
async def handler(tmp_path: Path) -> AsyncIterator[Any]:
    handlers: list[BAMLErrorHandler] = []

    def make(*backups: str, privacy: str = "metadata", **policies: Any) -> BAMLErrorHandler:
        settings = Settings(
            store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db", privacy=privacy
        )
        policies.setdefault("retry", RetryPolicy(initial_delay=0.001, max_delay=0.002))
        handlers.append(
            BAMLErrorHandler(settings=settings, fallback=FallbackPolicy(clients=backups), **policies)
        )
        return handlers[-1]

    yield make
    for each in handlers:
        await each.aclose()


async def ask(b: Any, handler: BAMLErrorHandler) -> Any:
    return await protect(b, handler).ParseResearchGoal(PROMPT)


# --- spans --------------------------------------------------------------------------------------------------------------


async def test_a_clean_call_is_two_spans_below_the_callers(
    simulator: ProviderSimulator, b: Any, handler: Any, collected: Collected
) -> None:
    """The call is an INTERNAL child of the caller's span; the client is its CLIENT child, with model, provider and tokens."""
    with collected.tracing.get_tracer("user").start_as_current_span("request"):
        await ask(b, handler())
    spans = collected.spans()
    request, call, chat = spans["request"], spans[f"baml {FUNCTION}"], spans["chat simulated-primary"]

    assert (SpanKind.INTERNAL, SpanKind.CLIENT) == (call.kind, chat.kind)
    assert request.context.span_id == call.parent.span_id  # type: ignore[union-attr]  # it has one
    assert call.context.span_id == chat.parent.span_id  # type: ignore[union-attr]
    assert {
        "baml.function": FUNCTION,
        "resilience.client": "Primary",
        "resilience.client.final": "Primary",
        "resilience.outcome": "ok",
        "resilience.attempts": 1,
        "resilience.fallbacks": 0,
    }.items() <= dict(call.attributes or {}).items()
    assert {
        "baml.function": FUNCTION,
        "resilience.client": "Primary",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "simulated-primary",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 77,
        "resilience.attempts": 1,
    } == dict(chat.attributes or {})
    assert (StatusCode.UNSET, StatusCode.UNSET) == (call.status.status_code, chat.status.status_code)
    assert "https://opentelemetry.io/schemas/1.37.0" == chat.instrumentation_scope.schema_url  # type: ignore[union-attr]


async def test_a_retry_is_an_event_of_the_one_client_span(
    simulator: ProviderSimulator, b: Any, handler: Any, collected: Collected
) -> None:
    """A 500 and then an answer are one CLIENT span without an error, with the failed attempt as an event."""
    simulator.client("Primary").script([Status(500)])

    await ask(b, handler())
    chat = collected.spans()["chat simulated-primary"]
    (event,) = chat.events

    assert (2, StatusCode.UNSET) == ((chat.attributes or {})["resilience.attempts"], chat.status.status_code)
    assert "resilience.attempt" == event.name
    assert {
        "resilience.client": "Primary",
        "resilience.attempt": 1,
        "error.type": "server_error",
        "http.response.status_code": 500,
        "resilience.action": "retry",
    }.items() <= dict(event.attributes or {}).items()
    assert 0 <= (event.attributes or {})["resilience.backoff"] <= 0.002  # type: ignore[operator]  # seconds
    assert "recovered_retry" == (collected.spans()[f"baml {FUNCTION}"].attributes or {})["resilience.outcome"]


async def test_a_fallback_is_a_second_client_span(
    simulator: ProviderSimulator, b: Any, handler: Any, collected: Collected
) -> None:
    """Each of the two clients has a span; the fallback between them is an event of the call."""
    simulator.client("Primary").set(Status(503))

    await ask(b, handler("Secondary"))
    spans = collected.spans()
    call, first, second = (
        spans[name] for name in (f"baml {FUNCTION}", "chat simulated-primary", "chat simulated-secondary")
    )

    assert (StatusCode.ERROR, "overloaded") == (first.status.status_code, first.status.description)
    assert "overloaded" == (first.attributes or {})["error.type"]
    assert StatusCode.UNSET == second.status.status_code
    assert {call.context.span_id} == {first.parent.span_id, second.parent.span_id}  # type: ignore[union-attr]
    assert first.end_time <= second.start_time  # type: ignore[operator]
    (step,) = call.events
    assert "resilience.fallback" == step.name
    assert {
        "resilience.from_client": "Primary",
        "resilience.to_client": "Secondary",
        "error.type": "overloaded",
    } == dict(step.attributes or {})


async def test_when_all_failed_the_call_is_an_error_with_a_redacted_message(
    simulator: ProviderSimulator, b: Any, handler: Any, collected: Collected
) -> None:
    """Both spans have their error, and the event of the exception has the redacted message of the record."""
    said = {"error": {"message": f"You sent '{PROMPT}' with {KEY}", "type": "invalid_request_error"}}
    simulator.client("Primary").set(Status(503))
    simulator.client("Secondary").set(Status(400, body=said))
    made = handler("Secondary")

    with pytest.raises(AllClientsFailedError):
        await ask(b, made)
    spans = collected.spans()
    call, last = spans[f"baml {FUNCTION}"], spans["chat simulated-secondary"]
    ended = next(event for event in last.events if event.name == "gen_ai.client.operation.exception")

    assert (StatusCode.ERROR, "invalid_request") == (call.status.status_code, call.status.description)
    assert ("failed", "invalid_request") == (
        (call.attributes or {})["resilience.outcome"],
        (call.attributes or {})["error.type"],
    )
    record = made.get_error_history()[0]
    assert {"exception.type": "BamlClientHttpError", "exception.message": record.message} == dict(
        ended.attributes or {}
    )
    assert not [event for span in spans.values() for event in span.events if event.name == "exception"]
    assert PROMPT not in collected.everything()
    assert KEY not in collected.everything()


async def test_a_cancelled_call_ends_its_spans(
    simulator: ProviderSimulator, b: Any, handler: Any, collected: Collected
) -> None:
    """Cancelling the task ends both spans as cancelled, which is no error, and the caller's span is current again."""
    simulator.client("Primary").set(Hang())
    task = asyncio.ensure_future(ask(b, handler()))
    await asked(simulator)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    spans = collected.spans()

    assert ["cancelled", "cancelled"] == [(span.attributes or {})["error.type"] for span in spans.values()]
    assert {StatusCode.UNSET} == {span.status.status_code for span in spans.values()}
    assert not trace.get_current_span().get_span_context().is_valid


async def test_a_deadline_is_a_timeout(
    simulator: ProviderSimulator, b: Any, handler: Any, collected: Collected
) -> None:
    """A call that reaches its deadline has the error type timeout, and so has the client that was being asked."""
    simulator.client("Primary").set(Hang())

    with pytest.raises(DeadlineExceededError):
        await ask(b, handler(retry=RetryPolicy(deadline=1.0)))

    assert ["timeout", "timeout"] == [span.status.description for span in collected.spans().values()]


async def test_a_refusal_is_an_event_and_no_client_span(
    simulator: ProviderSimulator, b: Any, handler: Any, collected: Collected
) -> None:
    """While the circuit is open no CLIENT span claims a request; the span of the call has the refusal and its reason."""
    simulator.client("Primary").set(Status(503))
    made = handler(retry=RetryPolicy(max_retries=0), breaker=BreakerPolicy(consecutive_failures=1))
    with pytest.raises(Exception, match="503"):
        await ask(b, made)
    assert made._open().breaker.flush(20.0)
    collected.exporter.clear()

    with pytest.raises(CircuitOpenError):
        await ask(b, made)
    ((name, call),) = collected.spans().items()

    assert f"baml {FUNCTION}" == name
    assert ("rejected", "circuit_open") == (
        (call.attributes or {})["resilience.outcome"],
        call.status.description,
    )
    assert ["resilience.refused", "gen_ai.client.operation.exception"] == [
        event.name for event in call.events
    ]
    assert {key(client="Primary"): 1} == collected.points("resilience.breaker.rejected")


async def test_the_functions_own_spans_nest_inside(handler: Any, collected: Collected) -> None:
    """Inside the function the client's span is current; afterwards the caller's is again."""
    tracer = collected.tracing.get_tracer("user")

    async def function() -> None:
        tracer.start_span("inner").end()

    with tracer.start_as_current_span("request") as request:
        await handler().call_with_retry(function, "Own", "Function")
        assert request is trace.get_current_span()
    spans = collected.spans()

    assert spans["chat Own"].context.span_id == spans["inner"].parent.span_id  # type: ignore[union-attr]


async def test_records_carry_the_ids_of_their_spans(
    simulator: ProviderSimulator, b: Any, handler: Any, collected: Collected
) -> None:
    """A record in SQL has the ids of its span, and both have one request id."""
    simulator.client("Primary").set(Status(503))
    made = handler("Secondary")

    await ask(b, made)
    assert await asyncio.to_thread(made._open().recorder.flush, 60.0)
    spans = collected.spans()
    call, first = spans[f"baml {FUNCTION}"], spans["chat simulated-primary"]
    (call_record,), (error_record,) = await made.history.calls(), await made.history.errors()

    assert (f"{call.context.trace_id:032x}", f"{call.context.span_id:016x}") == (
        call_record.trace_id,
        call_record.span_id,
    )
    assert (f"{first.context.trace_id:032x}", f"{first.context.span_id:016x}") == (
        error_record.trace_id,
        error_record.span_id,
    )
    assert (call.attributes or {})["resilience.request_id"] == call_record.request_id
    assert (100, 77) == (call_record.input_tokens, call_record.output_tokens)
    assert ("openai-generic", "simulated-primary") == (error_record.provider, error_record.model)


async def test_several_calls_at_once_keep_their_spans_apart(
    simulator: ProviderSimulator, b: Any, handler: Any, collected: Collected
) -> None:
    """Ten calls in tasks of one loop are ten traces, each with its own client span."""
    made = handler()

    await asyncio.gather(*(asyncio.ensure_future(ask(b, made)) for _ in range(10)))
    spans = collected.exporter.get_finished_spans()
    parents = {span.context.span_id: span.context.trace_id for span in spans if span.parent is None}

    assert 10 == len(parents)
    assert sorted(parents) == sorted(span.parent.span_id for span in spans if span.parent is not None)


def test_each_event_loop_has_its_spans(tmp_path: Path, collected: Collected) -> None:
    """A handler used in one loop after another makes spans in both."""

    async def function() -> str:
        return "answer"

    async def once() -> None:
        settings = Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db")
        async with BAMLErrorHandler(settings=settings) as handler:
            await handler.call_with_retry(function, "Own", "Function")

    asyncio.run(once())
    asyncio.run(once())

    assert ["chat Own", "baml Function"] * 2 == [
        span.name for span in collected.exporter.get_finished_spans()
    ]


# --- content ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "privacy", "shown"),
    [
        ("true", "full", True),
        ("SPAN_ONLY", "masked", True),
        ("true", "hashed", False),
        ("true", "metadata", False),
        ("false", "full", False),
        ("", "full", False),
    ],
)
async def test_content_needs_the_variable_and_the_privacy_level(
    simulator: ProviderSimulator,
    b: Any,
    handler: Any,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    privacy: str,
    shown: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Spans have prompt and answer only with both, and never a secret in them."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", variable)
    collected = Collected()
    telemetry.use(tracer_provider=collected.tracing, meter_provider=collected.metering)
    simulator.client("Primary").script([Status(500)])

    await protect(b, handler(privacy=privacy)).ParseResearchGoal(f"{PROMPT} {KEY}")
    telemetry.use()
    attributes = dict(collected.spans()["chat simulated-primary"].attributes or {})

    assert shown is (PROMPT in collected.everything())
    assert shown is ("gen_ai.input.messages" in attributes)
    assert KEY not in collected.everything()
    if shown:
        prompt = json.loads(str(attributes["gen_ai.input.messages"]))
        answer = json.loads(str(attributes["gen_ai.output.messages"]))
        assert PROMPT in json.dumps(prompt)
        assert {"role", "parts"} == set(prompt[0])
        assert ["assistant"] == [message["role"] for message in answer]


# --- metrics ------------------------------------------------------------------------------------------------------------


async def test_metrics_count_calls_attempts_retries_and_fallbacks(
    simulator: ProviderSimulator, b: Any, handler: Any, collected: Collected
) -> None:
    """A clean call, one answered by a retry and one by a fallback are counted as such, in seconds and with few labels."""
    made = handler("Secondary")
    primary = simulator.client("Primary")
    primary.script([Answer(), Status(500), Answer(), Status(503)])

    for _ in range(3):
        await ask(b, made)

    both = {"client": "Primary", "function": FUNCTION}
    assert {
        key(**both, outcome="ok"): 1,
        key(**both, outcome="recovered_retry"): 1,
        key(**both, outcome="recovered_fallback"): 1,
    } == collected.points("resilience.calls")
    assert {
        key(**both): 4,
        key(client="Secondary", function=FUNCTION): 1,
    } == collected.points("resilience.attempts")
    assert {
        key(**both, error__type="server_error"): 1,
        key(**both, error__type="overloaded"): 1,
    } == collected.points("resilience.errors")
    assert {
        key(client="Primary", result="scheduled"): 1,
        key(client="Primary", result="succeeded"): 1,
    } == collected.points("resilience.retries")
    assert {
        key(from_client="Primary", to_client="Secondary", reason="overloaded", succeeded="true"): 1
    } == collected.points("resilience.fallbacks")
    by_backup = {"client": "Secondary", "function": FUNCTION}
    assert {
        key(**both, type="input"): 200,
        key(**both, type="output"): 154,
        key(**by_backup, type="input"): 100,
        key(**by_backup, type="output"): 77,
    } == collected.points("resilience.tokens")
    assert 3 == sum(collected.points("resilience.call.duration").values())
    assert 5 == sum(collected.points("resilience.attempt.duration").values())
    assert 4 == sum(collected.points("gen_ai.client.operation.duration").values())
    assert 6 == sum(collected.points("gen_ai.client.token.usage").values())


async def test_counters_begin_at_zero_before_the_first_call(
    simulator: ProviderSimulator, b: Any, collected: Collected
) -> None:
    """After `protect` alone, each outcome, category, result, transition and fallback of the declared clients is there with 0."""
    protect(b, BAMLErrorHandler(fallback=FallbackPolicy(clients=("Secondary",))))
    sums = {
        metric.name: {
            tuple(sorted((point.attributes or {}).items())): point.value for point in metric.data.data_points
        }
        for scope in collected.data().resource_metrics[0].scope_metrics
        for metric in scope.metrics
        if isinstance(metric.data, Sum)
    }
    both = {"client": "Primary", "function": FUNCTION}

    assert 0 == sums["resilience.errors"][key(**both, error__type="timeout")]
    assert 0 == sums["resilience.calls"][key(**both, outcome="failed")]
    assert (
        0 == sums["resilience.breaker.transitions"][key(client="Primary", to_state="open", reason="timeout")]
    )
    assert 0 == sums["resilience.breaker.rejected"][key(client="Secondary")]
    assert (
        0
        == sums["resilience.fallbacks"][
            key(from_client="Primary", to_client="Secondary", reason="timeout", succeeded="true")
        ]
    )
    assert {0} == {value for points in sums.values() for value in points.values()}


async def test_gauges_read_open_runtimes(
    simulator: ProviderSimulator, b: Any, handler: Any, collected: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State, failure rate and retry budget of the circuit are shown, and its transition is counted; a closed handler has none.

    What the process dropped stays counted when its handler closes.
    """
    simulator.client("Primary").script([Answer(), Status(503)])
    made = handler(retry=RetryPolicy(max_retries=0), breaker=BreakerPolicy(consecutive_failures=1))
    await ask(b, made)
    assert made._open().breaker.flush(20.0)
    assert {key(client="Primary"): 0.0} == collected.points("resilience.breaker.failure_rate")
    with pytest.raises(Exception, match="503"):
        await ask(b, made)
    assert made._open().breaker.flush(20.0)

    states = collected.points("resilience.breaker.state")
    assert {key(client="Primary", state="open")} == {labels for labels, value in states.items() if value}
    assert 5 == len(states)
    assert [key(client="Primary")] == list(collected.points("resilience.retry.budget"))
    assert {key(client="Primary", to_state="open", reason="overloaded"): 1} == collected.points(
        "resilience.breaker.transitions"
    )
    assert {(): 0} == collected.points("resilience.degraded")
    assert {(): 0} == collected.points("resilience.history.dropped")
    monkeypatch.setattr(damage_counts, "counts", Counter(damage_counts.KINDS))
    assert {key(kind=kind): 1 for kind in damage_counts.KINDS} == collected.points("resilience.damaged")
    assert 1 == len(collected.points("resilience.history.queue_depth"))
    assert 1 == len(collected.points("resilience.history.lag"))

    drops.DropCounter().add(2)
    await made.aclose()
    assert {(): 2} == collected.points("resilience.history.dropped")
    assert [()] == list(collected.points("resilience.history.flush.duration"))
    assert {} == collected.points("resilience.breaker.state")


async def test_durations_have_the_conventions_buckets_and_seconds(handler: Any, collected: Collected) -> None:
    """Every duration is in seconds, in buckets from 0.01 to 81.92."""

    async def function() -> None: ...

    await handler().call_with_retry(function, "Own", "Function")
    data = collected.data()
    durations = [
        metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name.endswith(".duration")
    ]

    assert {
        "gen_ai.client.operation.duration",
        "resilience.call.duration",
        "resilience.attempt.duration",
    } == {metric.name for metric in durations}
    assert {"s"} == {metric.unit for metric in durations}
    for metric in durations:
        bounds = metric.data.data_points[0].explicit_bounds  # type: ignore[union-attr]  # they are histograms
        assert (0.01, 81.92, 14) == (bounds[0], bounds[-1], len(bounds))


async def test_no_label_is_the_calls_own(
    simulator: ProviderSimulator, b: Any, handler: Any, collected: Collected
) -> None:
    """No metric carries a request id, a fingerprint, a message or an id of a span."""
    simulator.client("Primary").script([Status(500)])
    made = handler()

    await ask(b, made)
    record = made.get_error_history()[0]
    metrics = collected.data().to_json()

    own = (record.request_id, record.event_id, record.fingerprint, record.message, record.trace_id)
    assert [] == [value for value in own if str(value) in metrics]


# --- failing providers ------------------------------------------------------------------------------------------------------------


class Broken(SpanProcessor):
    """A processor that fails at every span."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise RuntimeError(PROMPT)

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError(PROMPT)


async def test_a_failing_processor_does_not_fail_the_call(
    simulator: ProviderSimulator, b: Any, handler: Any, collected: Collected, caplog: pytest.LogCaptureFixture
) -> None:
    """The call is answered, metrics are counted, and one log line has the name of the error without its text."""
    collected.tracing.add_span_processor(Broken())
    telemetry.providers._providers._warned = False  # it warns once per process

    assert await ask(b, handler()) is not None
    assert await ask(b, handler()) is not None

    assert 2 == sum(collected.points("resilience.calls").values())
    lines = [line.getMessage() for line in caplog.records if "telemetry" in line.getMessage()]
    assert ["telemetry failed (RuntimeError); calls go on"] == lines
    assert not trace.get_current_span().get_span_context().is_valid


async def test_a_coroutine_closed_elsewhere_leaves_that_context_alone(
    handler: Any, collected: Collected, caplog: pytest.LogCaptureFixture
) -> None:
    """A coroutine that is closed in another context ends its spans without changing the current span there."""

    async def function() -> None: ...

    gate, made = asyncio.Event(), handler(breaker=BreakerPolicy(max_staleness=60.0))
    await made.call_with_retry(function, "Own", "Function")  # the circuit is known now
    collected.exporter.clear()
    coroutine = made.call_with_retry(gate.wait, "Own", "Function")
    contextvars.Context().run(coroutine.send, None)  # runs up to the gate

    with collected.tracing.get_tracer("user").start_as_current_span("other") as other:
        coroutine.close()
        assert other is trace.get_current_span()
    gc.collect()

    assert {"chat Own", "baml Function"} <= set(collected.spans())
    assert [] == [record for record in caplog.records if "detach" in record.getMessage()]


async def asked(simulator: ProviderSimulator) -> None:
    """Wait until a request has arrived."""
    while not simulator.requests:  # noqa: ASYNC110 - the simulator has no event for it
        await asyncio.sleep(0.005)
