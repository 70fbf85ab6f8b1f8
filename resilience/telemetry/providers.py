"""Finds the providers of spans and metrics that the application has set, and keeps their errors away from callers."""

from __future__ import annotations

import importlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from resilience import lifecycle
from resilience.breaker import Breaker, Transition
from resilience.history import Recorder
from resilience.telemetry.trace import NO_TRACE, CallTrace

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from resilience.baml import Declarations
    from resilience.telemetry.known_series import Known
    from resilience.telemetry.spans import CallTracer

_SEARCH_INTERVAL: Final = 0.05
"""Seconds between two searches for a missing provider. A search takes 3 us, as much as the rest of a call's telemetry."""
_TRACING: Final = "opentelemetry.trace"
_METERING: Final = "opentelemetry.metrics"

_log = logging.getLogger("resilience")


class Providers:
    """The providers in use, and the runtimes that the gauges read.

    Attributes:
        configured: providers set through `use`; None means the global one.
        runtimes: the circuits and the recorder of each open runtime, by the identity of the circuits.
        known: the clients and functions that guarded clients have declared.
        lock: held while the tracer is created, so that two threads do not create instruments twice.
    """

    def __init__(self) -> None:
        self.configured: tuple[TracerProvider | None, MeterProvider | None] = (None, None)
        self.runtimes: dict[int, tuple[Breaker, Recorder]] = {}
        self.known: Known | None = None
        self.lock = threading.Lock()
        self._tracer: CallTracer | None = None
        self._next_search = 0.0
        self._warned = False

    def find(self) -> CallTracer | None:
        """Return the tracer of the providers in use; None without any provider."""
        tracer = self._tracer
        if tracer is not None and tracer.complete:
            return tracer  # a global provider is set once and for all, and `use` resets what was found
        # Applications may set their provider after the first calls, so the search goes on, but not in every call.
        now = time.monotonic()
        if now < self._next_search:
            return tracer
        self._next_search = now + _SEARCH_INTERVAL
        tracing = self.configured[0] or _global_provider(_TRACING, "get_tracer_provider")
        metering = self.configured[1] or _global_provider(_METERING, "get_meter_provider")
        if tracing is None and metering is None:
            return None
        return self._add(tracing, metering)

    def _add(self, tracing: Any, metering: Any) -> CallTracer:
        # `spans` imports OpenTelemetry: it is installed where a provider is set, and others must not pay for its import.
        module: Any = importlib.import_module("resilience.telemetry.spans")
        with self.lock:
            if self._tracer is None:
                self._tracer = module.CallTracer(self.runtimes, self.report_error)
            before = self._tracer.instruments
            self._tracer.add_providers(tracing, metering)
            # Once: this method runs again until both providers are there.
            if self.known is not None and self._tracer.instruments is not before:
                self._tracer.add_zeros(self.known)
            return self._tracer

    def declare(self, known: Known) -> None:
        """Begin the series of what *known* names at 0: now if there is a provider, else when there is one."""
        before = self.known
        self.known = known if before is None else before.joined(known.pairs, known.routes)
        tracer = self.find()
        if tracer is not None:
            tracer.add_zeros(known)

    def reset(self) -> None:
        """Forget the providers in use; the next call searches again."""
        self._tracer, self._next_search = None, 0.0

    def report_error(self, exc: Exception) -> None:
        """Log that telemetry failed, once per process, by the name of the error alone: its text may hold a prompt."""
        if not self._warned:
            self._warned = True
            _log.warning("telemetry failed (%s); calls go on", type(exc).__name__)

    def after_fork(self) -> None:
        """Replace the lock in a forked child: one that another thread held at the fork would never be released."""
        self.lock = threading.Lock()


_providers = Providers()
lifecycle.call_in_child(_providers.after_fork)


def trace(function: str, client: str, keeps_texts: bool = True) -> CallTrace:  # noqa: FBT001, FBT002 - made for each call
    """Return the callbacks for a call. Never raises.

    Args:
        function: the BAML function.
        client: the client that is asked first.
        keeps_texts: whether messages, class names and request ids go to spans.
    """
    try:
        tracer = _providers.find()
        if tracer is not None:
            return tracer.trace(function, client, keeps_texts=keeps_texts)
        return _caller_trace() if _TRACING in sys.modules else NO_TRACE
    except Exception as exc:  # noqa: BLE001 - telemetry must not fail a call, whatever a provider raises
        _providers.report_error(exc)
        return NO_TRACE


def declare(declarations: Declarations, backups: Iterable[str]) -> None:
    """Begin the series of a guarded client at 0, before its first call. Never raises.

    Args:
        declarations: what its project declares.
        backups: the clients that its handler falls back to.
    """
    try:
        # The import takes some milliseconds, which a program without OpenTelemetry must not pay.
        if _METERING in sys.modules:
            series: Any = importlib.import_module("resilience.telemetry.known_series")
            _providers.declare(series.from_declarations(declarations, backups))
    except Exception as exc:  # noqa: BLE001 - as in `trace`
        _providers.report_error(exc)


def record_transition(transition: Transition) -> None:
    """Count a transition of a circuit. Never raises."""
    _with_tracer(lambda tracer: tracer.record_transition(transition))


def record_flush(seconds: float) -> None:
    """Measure a transaction of the history; *seconds* is its duration. Never raises."""
    _with_tracer(lambda tracer: tracer.record_flush(seconds))


def _with_tracer(record: Callable[[CallTracer], None]) -> None:
    try:
        tracer = _providers.find()
        if tracer is not None:
            record(tracer)
    except Exception as exc:  # noqa: BLE001 - as in `trace`
        _providers.report_error(exc)


def watch(breaker: Breaker, recorder: Recorder) -> None:
    """Let the gauges read these circuits and this recorder until `unwatch`."""
    _providers.runtimes[id(breaker)] = (breaker, recorder)


def unwatch(breaker: Breaker) -> None:
    """Let the gauges no longer read *breaker*, which is closing."""
    _providers.runtimes.pop(id(breaker), None)


def use(
    *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> None:
    """Send spans and metrics to these providers from now on, instead of the global ones.

    Args:
        tracer_provider: provider of spans; the global one when not given.
        meter_provider: provider of metrics; the global one when not given.
    """
    # What was found before belongs to other providers: the next call builds its tracer and instruments again.
    _providers.configured = (tracer_provider, meter_provider)
    _providers.reset()


def _global_provider(module: str, getter: str) -> Any:
    """Return the provider that the application has set; None for the API's own, which does nothing."""
    api = sys.modules.get(module)
    if api is None:
        return None  # a provider is set through this module, so none can be set before its import
    provider = getattr(api, getter)()
    return provider if _is_real(type(provider)) else None


def _is_real(kind: type) -> bool:
    # The API's own providers, also its proxies that wait for a real one, are classes of the API's modules.
    return not kind.__module__.startswith((_TRACING, _METERING))


def _caller_trace() -> CallTrace:
    """Return a trace with the caller's ids: a request may be traced by its caller although this process makes no spans."""
    api: Any = sys.modules[_TRACING]
    ids = api.get_current_span().get_span_context()
    if not ids.is_valid:
        return NO_TRACE
    return CallTrace(f"{ids.trace_id:032x}", f"{ids.span_id:016x}")
