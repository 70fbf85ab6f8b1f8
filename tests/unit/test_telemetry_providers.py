"""Providers of spans and metrics: none by default, at no cost; set later; and failing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from resilience import BAMLErrorHandler, Settings, telemetry
from resilience.breaker import CircuitState, Transition, TransitionRule
from resilience.telemetry.providers import _providers
from resilience.telemetry.trace import NO_TRACE

CALL = """
import asyncio, sys
from resilience import BAMLErrorHandler, Settings

async def function():
    return "answer"

async def once():
    settings = Settings(store_url="memory://", privacy="off")
    async with BAMLErrorHandler(settings=settings) as handler:
        return await handler.call_with_retry(function, "Own", "Function")
"""
BLOCKED = (
    """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
"""
    + CALL
    + """
from resilience.prometheus.exporter import Exposition
print(asyncio.run(once()), "resilience_source_up" in Exposition(Settings(store_url="memory://", privacy="off")).render())
"""
)
UNTOUCHED = (
    CALL + "print(asyncio.run(once()), [name for name in sys.modules if name.startswith('opentelemetry')])"
)
LATER = (
    """
import time
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
"""
    + CALL
    + """
asyncio.run(once())
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
deadline = time.monotonic() + 120
while not exporter.get_finished_spans() and time.monotonic() < deadline:
    asyncio.run(once())
print([span.name for span in exporter.get_finished_spans()])
"""
)
FORKED = (
    """
import os
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from resilience import telemetry
"""
    + CALL
    + """
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
telemetry.use(tracer_provider=provider)
asyncio.run(once())
telemetry.providers._providers.lock.acquire()  # as by a thread that is not in the child
child = os.fork()
if child == 0:
    exporter.clear()
    telemetry.use(tracer_provider=provider)
    asyncio.run(once())
    print([span.name for span in exporter.get_finished_spans()], flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
)


def in_process(program: str, folder: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture(autouse=True)
def no_providers() -> Iterator[None]:
    """Reset the providers before and after each test."""
    _providers.reset()
    _providers._warned = False
    yield
    telemetry.use()


@pytest.fixture
def tracing() -> Iterator[TracerProvider]:
    provider = TracerProvider(shutdown_on_exit=False)
    yield provider
    provider.shutdown()


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def metering(reader: InMemoryMetricReader) -> Iterator[MeterProvider]:
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    yield provider
    provider.shutdown()


async def function() -> str:
    return "answer"


# --- no provider -------------------------------------------------------------------------------------------------------------


def test_everything_works_without_opentelemetry(tmp_path: Path) -> None:
    """Without the package, calls are answered and the text for Prometheus is complete."""
    assert "answer True" == in_process(BLOCKED, tmp_path)


def test_opentelemetry_is_not_imported_before_the_application_does(tmp_path: Path) -> None:
    """Where it is installed but not used, a call does not import it."""
    assert "answer []" == in_process(UNTOUCHED, tmp_path)


def test_the_apis_own_providers_do_not_count() -> None:
    """While no provider is set, the shared trace without effect follows every call."""
    assert NO_TRACE is telemetry.trace("Function", "Own")
    assert _providers.find() is None


async def test_records_follow_the_callers_trace_without_any_provider(tmp_path: Path) -> None:
    """Records have the ids of the caller's trace, although this process makes no spans."""
    remote = SpanContext(int("ab" * 16, 16), int("cd" * 8, 16), is_remote=True, trace_flags=TraceFlags(1))
    token = context.attach(set_span_in_context(NonRecordingSpan(remote)))
    settings = Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db")
    try:
        async with BAMLErrorHandler(settings=settings) as handler:
            await handler.call_with_retry(function, "Own", "Function")
            assert handler._open().recorder.flush(60.0)
            (record,) = await handler.history.calls()
    finally:
        context.detach(token)

    assert ("ab" * 16, "cd" * 8) == (record.trace_id, record.span_id)


# --- providers -----------------------------------------------------------------------------------------------------------


def test_a_provider_set_later_is_found(tmp_path: Path) -> None:
    """Calls made before the provider was set do not keep later ones from being traced."""
    assert "['chat Own', 'baml Function']" == in_process(LATER, tmp_path)


def test_a_forked_child_traces_its_own_calls(tmp_path: Path) -> None:
    """A lock that another thread of the parent held at the fork does not block the child."""
    assert "['chat Own', 'baml Function']" == in_process(FORKED, tmp_path)


def test_a_second_provider_joins_the_first(
    tracing: TracerProvider, metering: MeterProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans start with their provider and metrics with theirs; one provider does not end the search for the other."""
    telemetry.use(tracer_provider=tracing)
    first = _providers.find()
    assert first is not None
    assert (True, False) == (first.tracer is not None, first.complete)

    assert first is _providers.find()
    _providers.configured = (tracing, metering)
    monkeypatch.setattr(_providers, "_next_search", 0.0)

    assert first is _providers.find()
    assert first.complete


async def test_metrics_alone_make_no_spans(
    metering: MeterProvider, reader: InMemoryMetricReader, tmp_path: Path
) -> None:
    """With a provider of metrics alone, calls are counted and the caller's context does not change."""
    telemetry.use(meter_provider=metering)
    settings = Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db")
    valid = []

    async def look() -> None:
        valid.append(trace.get_current_span().get_span_context().is_valid)

    async with BAMLErrorHandler(settings=settings) as handler:
        await handler.call_with_retry(look, "Own", "Function")
    data = reader.get_metrics_data()

    assert [False] == valid
    assert data is not None
    assert '"resilience.calls"' in data.to_json()


async def test_spans_alone_make_no_metrics(tracing: TracerProvider, tmp_path: Path) -> None:
    """With a provider of spans alone, calls, failures and transitions of circuits cause no error."""
    telemetry.use(tracer_provider=tracing)
    settings = Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db")

    async def fail() -> None:
        raise KeyError(1)

    async with BAMLErrorHandler(settings=settings) as handler:
        assert "answer" == await handler.call_with_retry(function, "Own", "Function")
        with pytest.raises(KeyError):
            await handler.call_with_retry(fail, "Own", "Function")
    telemetry.record_transition(TRANSITION)

    assert not _providers._warned


# --- failing providers ------------------------------------------------------------------------------------------------------------

TRANSITION = Transition(
    client="Primary",
    epoch=1,
    at_ms=0,
    from_state=CircuitState.CLOSED,
    to_state=CircuitState.OPEN,
    rule=TransitionRule.CONSECUTIVE,
)


class Broken(TracerProvider):
    """A provider without a tracer."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        msg = "secret words"
        raise RuntimeError(msg)


def test_a_failing_provider_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is raised, and one log line has the name of the error but not its text."""
    provider = Broken(shutdown_on_exit=False)
    telemetry.use(tracer_provider=provider)

    assert NO_TRACE is telemetry.trace("Function", "Own")
    _providers.reset()
    telemetry.record_transition(TRANSITION)

    assert ["telemetry failed (RuntimeError); calls go on"] == [line.getMessage() for line in caplog.records]


def test_the_trace_without_providers_has_no_effect(tmp_path: Path) -> None:
    """It has no ids and wants no content."""
    assert (None, None, None, False) == (
        NO_TRACE.trace_id,
        NO_TRACE.span_id,
        NO_TRACE.attempt_span_id,
        NO_TRACE.wants_content,
    )
