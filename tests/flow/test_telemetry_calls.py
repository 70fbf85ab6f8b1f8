"""What spans and metrics tell of calls, over the real BAML runtime and the SDK's in-memory exporters."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
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
    protect,
    telemetry,
)
from resilience.testing import Answer, Hang, ProviderSimulator, Status

pytestmark = pytest.mark.baml

PROMPT = "the violet armadillo sings at dawn over Lisbon"
KEY = "sk-canaryQ7w8e9R0t1Y2u3I4o5P6"
FUNCTION = "ParseResearchGoal"


@dataclass
class Heard:
    """Providers of the SDK that keep everything in memory."""

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
        """The values of a metric (of a histogram: how many) by their labels."""
        found: dict[tuple[tuple[str, Any], ...], float] = {}
        told = self.data()
        for metric in (m for r in told.resource_metrics for s in r.scope_metrics for m in s.metrics):
            if metric.name == name:
                for point in metric.data.data_points:
                    key = tuple(sorted((point.attributes or {}).items()))
                    found[key] = point.value if hasattr(point, "value") else point.count
        return found

    def data(self) -> MetricsData:
        """What the instruments hold."""
        found = self.reader.get_metrics_data()
        assert found is not None
        return found

    def everything(self) -> str:
        """All text of all spans and metrics."""
        spans = "".join(span.to_json() for span in self.exporter.get_finished_spans())
        return spans + self.data().to_json()


def told(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name.replace("__", "."), value) for name, value in labels.items()))


@pytest.fixture
def heard() -> Iterator[Heard]:
    listening = Heard()
    telemetry.use(tracer_provider=listening.tracing, meter_provider=listening.metering)
    yield listening
    telemetry.use()
    listening.tracing.shutdown()
    listening.metering.shutdown()


@pytest.fixture
async def handler(tmp_path: Path) -> AsyncIterator[Any]:
    made: list[BAMLErrorHandler] = []

    def make(*backups: str, privacy: str = "metadata", **policies: Any) -> BAMLErrorHandler:
        settings = Settings(
            store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db", privacy=privacy
        )
        policies.setdefault("retry", RetryPolicy(initial_delay=0.001, max_delay=0.002))
        made.append(BAMLErrorHandler(settings=settings, fallback=FallbackPolicy(clients=backups), **policies))
        return made[-1]

    yield make
    for each in made:
        await each.aclose()


async def ask(b: Any, handler: BAMLErrorHandler) -> Any:
    return await protect(b, handler).ParseResearchGoal(PROMPT)


# --- spans --------------------------------------------------------------------------------------------------------------


async def test_a_clean_call_is_two_spans_below_the_callers(
    simulator: ProviderSimulator, b: Any, handler: Any, heard: Heard
) -> None:
    """The call is an INTERNAL span below the caller's, the client a CLIENT span below that, with model, provider and tokens."""
    with heard.tracing.get_tracer("user").start_as_current_span("request"):
        await ask(b, handler())
    spans = heard.spans()
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
    simulator: ProviderSimulator, b: Any, handler: Any, heard: Heard
) -> None:
    """A 500 and then an answer: one CLIENT span that covers both, without an error, with the failed attempt as event."""
    simulator.client("Primary").script([Status(500)])

    await ask(b, handler())
    chat = heard.spans()["chat simulated-primary"]
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
    assert "recovered_retry" == (heard.spans()[f"baml {FUNCTION}"].attributes or {})["resilience.outcome"]


async def test_a_fallback_is_a_second_client_span(
    simulator: ProviderSimulator, b: Any, handler: Any, heard: Heard
) -> None:
    """The client that failed and the one that answered each have a span; the step between them is an event of the call."""
    simulator.client("Primary").set(Status(503))

    await ask(b, handler("Secondary"))
    spans = heard.spans()
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
    simulator: ProviderSimulator, b: Any, handler: Any, heard: Heard
) -> None:
    """Both spans have their error, and the exception's event tells the record's words, never the exception's own."""
    said = {"error": {"message": f"You sent '{PROMPT}' with {KEY}", "type": "invalid_request_error"}}
    simulator.client("Primary").set(Status(503))
    simulator.client("Secondary").set(Status(400, body=said))
    made = handler("Secondary")

    with pytest.raises(AllClientsFailedError):
        await ask(b, made)
    spans = heard.spans()
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
    assert PROMPT not in heard.everything()
    assert KEY not in heard.everything()


async def test_a_cancelled_call_ends_its_spans(
    simulator: ProviderSimulator, b: Any, handler: Any, heard: Heard
) -> None:
    """Cancelling the task ends both spans as cancelled, which is no error, and the caller's span is current again."""
    simulator.client("Primary").set(Hang())
    task = asyncio.ensure_future(ask(b, handler()))
    await asked(simulator)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    spans = heard.spans()

    assert ["cancelled", "cancelled"] == [(span.attributes or {})["error.type"] for span in spans.values()]
    assert {StatusCode.UNSET} == {span.status.status_code for span in spans.values()}
    assert not trace.get_current_span().get_span_context().is_valid


async def test_a_deadline_is_told_as_timeout(
    simulator: ProviderSimulator, b: Any, handler: Any, heard: Heard
) -> None:
    """A call its own deadline cut short is an error of type timeout, on the client that was being asked as well."""
    simulator.client("Primary").set(Hang())

    with pytest.raises(DeadlineExceededError):
        await ask(b, handler(retry=RetryPolicy(deadline=1.0)))

    assert ["timeout", "timeout"] == [span.status.description for span in heard.spans().values()]


async def test_a_refusal_is_an_event_and_no_client_span(
    simulator: ProviderSimulator, b: Any, handler: Any, heard: Heard
) -> None:
    """While the circuit is open no CLIENT span claims a request was sent; the call says who refused and why."""
    simulator.client("Primary").set(Status(503))
    made = handler(retry=RetryPolicy(max_retries=0), breaker=BreakerPolicy(consecutive_failures=1))
    with pytest.raises(Exception, match="503"):
        await ask(b, made)
    assert made._open().breaker.flush(20.0)
    heard.exporter.clear()

    with pytest.raises(CircuitOpenError):
        await ask(b, made)
    ((name, call),) = heard.spans().items()

    assert f"baml {FUNCTION}" == name
    assert ("rejected", "circuit_open") == (
        (call.attributes or {})["resilience.outcome"],
        call.status.description,
    )
    assert ["resilience.refused", "gen_ai.client.operation.exception"] == [
        event.name for event in call.events
    ]
    assert {told(client="Primary"): 1} == heard.points("resilience.breaker.rejected")


async def test_the_functions_own_spans_nest_inside(handler: Any, heard: Heard) -> None:
    """Instrumentation inside the function finds the client's span current; afterwards the caller's is again."""
    tracer = heard.tracing.get_tracer("user")

    async def function() -> None:
        tracer.start_span("inner").end()

    with tracer.start_as_current_span("request") as request:
        await handler().call_with_retry(function, "Own", "Function")
        assert request is trace.get_current_span()
    spans = heard.spans()

    assert spans["chat Own"].context.span_id == spans["inner"].parent.span_id  # type: ignore[union-attr]


async def test_records_carry_the_ids_of_their_spans(
    simulator: ProviderSimulator, b: Any, handler: Any, heard: Heard
) -> None:
    """A record in SQL leads to the span it happened in, and both tell one request id."""
    simulator.client("Primary").set(Status(503))
    made = handler("Secondary")

    await ask(b, made)
    assert await asyncio.to_thread(made._open().recorder.flush, 60.0)
    spans = heard.spans()
    call, first = spans[f"baml {FUNCTION}"], spans["chat simulated-primary"]
    (kept_call,), (kept_error,) = await made.history.calls(), await made.history.errors()

    assert (f"{call.context.trace_id:032x}", f"{call.context.span_id:016x}") == (
        kept_call.trace_id,
        kept_call.span_id,
    )
    assert (f"{first.context.trace_id:032x}", f"{first.context.span_id:016x}") == (
        kept_error.trace_id,
        kept_error.span_id,
    )
    assert (call.attributes or {})["resilience.request_id"] == kept_call.request_id
    assert (100, 77) == (kept_call.input_tokens, kept_call.output_tokens)
    assert ("openai-generic", "simulated-primary") == (kept_error.provider, kept_error.model)


async def test_several_calls_at_once_keep_their_spans_apart(
    simulator: ProviderSimulator, b: Any, handler: Any, heard: Heard
) -> None:
    """Ten calls in tasks of one loop are ten traces, each with its own client span."""
    made = handler()

    await asyncio.gather(*(asyncio.ensure_future(ask(b, made)) for _ in range(10)))
    spans = heard.exporter.get_finished_spans()
    parents = {span.context.span_id: span.context.trace_id for span in spans if span.parent is None}

    assert 10 == len(parents)
    assert sorted(parents) == sorted(span.parent.span_id for span in spans if span.parent is not None)


def test_each_event_loop_has_its_spans(tmp_path: Path, heard: Heard) -> None:
    """A handler used in one loop after another makes spans in both."""

    async def function() -> str:
        return "answer"

    async def once() -> None:
        settings = Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db")
        async with BAMLErrorHandler(settings=settings) as handler:
            await handler.call_with_retry(function, "Own", "Function")

    asyncio.run(once())
    asyncio.run(once())

    assert ["chat Own", "baml Function"] * 2 == [span.name for span in heard.exporter.get_finished_spans()]


# --- content ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "privacy", "shown"),
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
    wanted: str,
    privacy: str,
    shown: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Only with both do spans carry prompt and answer, and even then no secret in them."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", wanted)
    heard = Heard()
    telemetry.use(tracer_provider=heard.tracing, meter_provider=heard.metering)
    simulator.client("Primary").script([Status(500)])

    await protect(b, handler(privacy=privacy)).ParseResearchGoal(f"{PROMPT} {KEY}")
    telemetry.use()
    attributes = dict(heard.spans()["chat simulated-primary"].attributes or {})

    assert shown is (PROMPT in heard.everything())
    assert shown is ("gen_ai.input.messages" in attributes)
    assert KEY not in heard.everything()
    if shown:
        asked = json.loads(str(attributes["gen_ai.input.messages"]))
        answered = json.loads(str(attributes["gen_ai.output.messages"]))
        assert PROMPT in json.dumps(asked)
        assert {"role", "parts"} == set(asked[0])
        assert ["assistant"] == [message["role"] for message in answered]


# --- metrics ------------------------------------------------------------------------------------------------------------


async def test_metrics_count_calls_attempts_retries_and_fallbacks(
    simulator: ProviderSimulator, b: Any, handler: Any, heard: Heard
) -> None:
    """One clean call, one answered by a retry, one by a fallback: each metric says so, in seconds and with few labels."""
    made = handler("Secondary")
    primary = simulator.client("Primary")
    primary.script([Answer(), Status(500), Answer(), Status(503)])

    for _ in range(3):
        await ask(b, made)

    both = {"client": "Primary", "function": FUNCTION}
    assert {
        told(**both, outcome="ok"): 1,
        told(**both, outcome="recovered_retry"): 1,
        told(**both, outcome="recovered_fallback"): 1,
    } == heard.points("resilience.calls")
    assert {
        told(**both): 4,
        told(client="Secondary", function=FUNCTION): 1,
    } == heard.points("resilience.attempts")
    assert {
        told(**both, error__type="server_error"): 1,
        told(**both, error__type="overloaded"): 1,
    } == heard.points("resilience.errors")
    assert {
        told(client="Primary", result="scheduled"): 1,
        told(client="Primary", result="succeeded"): 1,
    } == heard.points("resilience.retries")
    assert {
        told(from_client="Primary", to_client="Secondary", reason="overloaded", succeeded="true"): 1
    } == heard.points("resilience.fallbacks")
    assert {told(**both, type="input"): 300, told(**both, type="output"): 231} == heard.points(
        "resilience.tokens"
    )
    assert 3 == sum(heard.points("resilience.call.duration").values())
    assert 5 == sum(heard.points("resilience.attempt.duration").values())
    assert 4 == sum(heard.points("gen_ai.client.operation.duration").values())
    assert 6 == sum(heard.points("gen_ai.client.token.usage").values())


async def test_gauges_read_the_rooms(
    simulator: ProviderSimulator, b: Any, handler: Any, heard: Heard
) -> None:
    """The circuit's state, failure rate and budget, and its move to open, are told; after the close there is nothing to read."""
    simulator.client("Primary").script([Answer(), Status(503)])
    made = handler(retry=RetryPolicy(max_retries=0), breaker=BreakerPolicy(consecutive_failures=1))
    await ask(b, made)
    assert made._open().breaker.flush(20.0)
    assert {told(client="Primary"): 0.0} == heard.points("resilience.breaker.failure_rate")
    with pytest.raises(Exception, match="503"):
        await ask(b, made)
    assert made._open().breaker.flush(20.0)

    states = heard.points("resilience.breaker.state")
    assert {told(client="Primary", state="open")} == {labels for labels, value in states.items() if value}
    assert 5 == len(states)
    assert [told(client="Primary")] == list(heard.points("resilience.retry.budget"))
    assert {told(client="Primary", to_state="open", reason="overloaded"): 1} == heard.points(
        "resilience.breaker.transitions"
    )
    assert {(): 0} == heard.points("resilience.degraded")
    assert {(): 0} == heard.points("resilience.history.dropped")
    assert 1 == len(heard.points("resilience.history.queue_depth"))
    assert 1 == len(heard.points("resilience.history.lag"))

    await made.aclose()
    assert [()] == list(heard.points("resilience.history.flush.duration"))
    assert {} == heard.points("resilience.breaker.state")


async def test_durations_have_the_conventions_buckets_and_seconds(handler: Any, heard: Heard) -> None:
    """Every duration is in seconds, in buckets from 0.01 to 81.92."""

    async def function() -> None: ...

    await handler().call_with_retry(function, "Own", "Function")
    data = heard.data()
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
    simulator: ProviderSimulator, b: Any, handler: Any, heard: Heard
) -> None:
    """No metric carries a request id, a fingerprint, a message or an id of a span."""
    simulator.client("Primary").script([Status(500)])
    made = handler()

    await ask(b, made)
    record = made.get_error_history()[0]
    metrics = heard.data().to_json()

    own = (record.request_id, record.event_id, record.fingerprint, record.message, record.trace_id)
    assert [] == [value for value in own if str(value) in metrics]


# --- trouble ------------------------------------------------------------------------------------------------------------


class Broken(SpanProcessor):
    """Fails whenever it is told something."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise RuntimeError(PROMPT)

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError(PROMPT)


async def test_a_broken_processor_costs_nobody_the_answer(
    simulator: ProviderSimulator, b: Any, handler: Any, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer comes, metrics go on, and one line of the log names the error without its words."""
    heard.tracing.add_span_processor(Broken())
    telemetry.providers._listeners._complained = False  # said once a process

    assert await ask(b, handler()) is not None
    assert await ask(b, handler()) is not None

    assert 2 == sum(heard.points("resilience.calls").values())
    lines = [line.getMessage() for line in caplog.records if "telemetry" in line.getMessage()]
    assert ["telemetry failed (RuntimeError); calls go on"] == lines
    assert not trace.get_current_span().get_span_context().is_valid


async def test_a_call_thrown_away_elsewhere_leaves_that_place_alone(
    handler: Any, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    """A coroutine that is closed in another context ends its spans without touching that context's."""

    async def function() -> None: ...

    gate, made = asyncio.Event(), handler(breaker=BreakerPolicy(max_staleness=60.0))
    await made.call_with_retry(function, "Own", "Function")  # the circuit is known now
    heard.exporter.clear()
    coroutine = made.call_with_retry(gate.wait, "Own", "Function")
    contextvars.Context().run(coroutine.send, None)  # runs up to the gate

    with heard.tracing.get_tracer("user").start_as_current_span("other") as other:
        coroutine.close()
        assert other is trace.get_current_span()
    gc.collect()

    assert {"chat Own", "baml Function"} <= set(heard.spans())
    assert [] == [record for record in caplog.records if "detach" in record.getMessage()]


async def asked(simulator: ProviderSimulator) -> None:
    """Wait until a request has arrived."""
    while not simulator.requests:  # noqa: ASYNC110 - the simulator has no event for it
        await asyncio.sleep(0.005)
