"""Who listens: finds the providers of spans and metrics that the application has set, and keeps their errors off callers."""

from __future__ import annotations

import importlib
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from resilience import lifecycle
from resilience.breaker import Breaker, Transition
from resilience.history import Recorder
from resilience.telemetry.trace import NOTHING, CallTrace

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from resilience.telemetry.spans import CallTracer

_LOOK_AGAIN: Final = 0.05
"""Seconds until we look again for a provider that is missing: a look takes 3 us, as much as all the rest of a call's telemetry."""
_TRACING: Final = "opentelemetry.trace"
_METERING: Final = "opentelemetry.metrics"

_log = logging.getLogger("resilience")


class Listeners:
    """The providers in use, and what they are told of."""

    def __init__(self) -> None:
        self.given: tuple[TracerProvider | None, MeterProvider | None] = (None, None)
        self.rooms: dict[int, tuple[Breaker, Recorder]] = {}
        self.lock = threading.Lock()
        self._live: CallTracer | None = None
        self._look_at = 0.0
        self._complained = False

    def find(self) -> CallTracer | None:
        """What listens now; None when nothing does."""
        live = self._live
        if live is not None and live.complete:
            return live  # global providers are set once and for all, and `use` makes us forget
        now = time.monotonic()
        if now < self._look_at:
            return live
        self._look_at = now + _LOOK_AGAIN
        tracing = self.given[0] or _global(_TRACING, "get_tracer_provider")
        metering = self.given[1] or _global(_METERING, "get_meter_provider")
        if tracing is None and metering is None:
            return None
        return self._listen(tracing, metering)

    def _listen(self, tracing: Any, metering: Any) -> CallTracer:
        # imports OpenTelemetry, which is there when a provider is, and is no business of those who set none
        module: Any = importlib.import_module("resilience.telemetry.spans")
        with self.lock:
            if self._live is None:
                self._live = module.CallTracer(self.rooms, self.trouble)
            self._live.listen(tracing, metering)
            return self._live

    def forget(self) -> None:
        """Look for providers anew."""
        self._live, self._look_at = None, 0.0

    def trouble(self, exc: Exception) -> None:
        """Some part of telemetry failed: say so, once, by the name of the error alone."""
        if not self._complained:
            self._complained = True
            _log.warning("telemetry failed (%s); calls go on", type(exc).__name__)

    def after_fork(self) -> None:
        """A lock another thread held at the fork would never be released in the child."""
        self.lock = threading.Lock()


_listeners = Listeners()
lifecycle.call_in_child(_listeners.after_fork)


def trace(function: str, client: str) -> CallTrace:
    """Follow a call of *function* that asks *client* first. Never raises."""
    try:
        live = _listeners.find()
        if live is not None:
            return live.trace(function, client)
        return _followed() if _TRACING in sys.modules else NOTHING
    except Exception as exc:  # noqa: BLE001 - whatever a provider may raise, the call is not to fail for it
        _listeners.trouble(exc)
        return NOTHING


def transition(moved: Transition) -> None:
    """Count a move of a circuit. Never raises."""
    _tell(lambda live: live.transition(moved))


def flushed(seconds: float) -> None:
    """Measure a transaction of the history. Never raises."""
    _tell(lambda live: live.flushed(seconds))


def _tell(told: Callable[[CallTracer], None]) -> None:
    try:
        live = _listeners.find()
        if live is not None:
            told(live)
    except Exception as exc:  # noqa: BLE001 - as in `trace`
        _listeners.trouble(exc)


def watch(breaker: Breaker, recorder: Recorder) -> None:
    """Let the gauges read these rooms until `unwatch`."""
    _listeners.rooms[id(breaker)] = (breaker, recorder)


def unwatch(breaker: Breaker) -> None:
    """The rooms of *breaker* are closing."""
    _listeners.rooms.pop(id(breaker), None)


def use(
    *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> None:
    """Send spans and metrics to these providers from now on, instead of the global ones; None means the global one."""
    _listeners.given = (tracer_provider, meter_provider)
    _listeners.forget()


def _global(module: str, getter: str) -> Any:
    """The provider the application has set; None while the API's own stands there, which does nothing."""
    api = sys.modules.get(module)
    if api is None:
        return None  # nobody has imported OpenTelemetry, so nobody has set a provider
    provider = getattr(api, getter)()
    return provider if _real(type(provider)) else None


def _real(kind: type) -> bool:
    return not kind.__module__.startswith((_TRACING, _METERING))


def _followed() -> CallTrace:
    """Nobody makes spans, but the caller may be part of a trace all the same: records keep its ids."""
    api: Any = sys.modules[_TRACING]
    found = api.get_current_span().get_span_context()
    if not found.is_valid:
        return NOTHING
    return CallTrace(f"{found.trace_id:032x}", f"{found.span_id:016x}")
