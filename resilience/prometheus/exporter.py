"""The fleet's metrics as an ASGI application and as text.

Every process of the fleet writes to the same history and the same circuits. The numbers are therefore those of all of
them, whichever process answers a scrape: no process runs a metrics server, and no files are shared between them.

Counters count since the history began, and what retention deletes stays in them: they never go back. Every series that can be
foreseen is there with 0, so that a first failure is an increase; see `history_metrics.py`.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from resilience.config.settings import Settings
from resilience.errors import ConfigurationError, HistoryError, ResilienceError, StoreError
from resilience.history.reader.history import SyncHistory
from resilience.ops import reading
from resilience.ops.fleet import Fleet
from resilience.prometheus.circuit_metrics import circuit_families, process_families
from resilience.prometheus.declared import declared
from resilience.prometheus.families import Family, Sample
from resilience.prometheus.history_metrics import history_families
from resilience.telemetry import names

_MISSING: Final = (
    "Prometheus metrics need the package prometheus-client: pip install 'baml-resilience[prometheus]'"
)

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
_Encode = Callable[[Sequence[Family], str], tuple[bytes, str]]


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of reading all sources once.

    Attributes:
        text: the metrics in the classic text format of Prometheus, 0.0.4.
        troubles: one line for each source that could not be read, with the cause.
    """

    text: str
    troubles: tuple[str, ...] = ()


class Exposition:
    """Metrics of the fleet that *settings* name.

    Also an ASGI application, to be mounted where Prometheus scrapes: `app.mount("/metrics", Exposition())`.
    It keeps no connection open between two scrapes.

    Args:
        settings: names the history, the store and the namespace; the environment's settings when not given.
        now: the present, for tests.

    Raises:
        ConfigurationError: the settings cannot work, or the package prometheus-client is not installed.
    """

    def __init__(
        self, settings: Settings | None = None, *, now: Callable[[], datetime] = reading.utc_now
    ) -> None:
        self._now = now
        self._settings = (settings or Settings()).complete()
        # Read once: a deploy that changes the `.baml` files restarts this process too.
        self._declared = declared()
        self._had_history = False
        self._encode = _load_encoder()

    def render(self) -> str:
        """Return the metrics in the classic text format.

        Blocks while the sources are read. A source that cannot be read has `resilience_source_up` 0.
        """
        return self.read().text

    def read(self) -> Reading:
        """Return the metrics in the classic text format, and which sources could not be read."""
        families, troubles = self._collect()
        body, _ = self._encode(families, "")
        return Reading(body.decode(), tuple(troubles))

    def respond(self, accept: str) -> tuple[bytes, str]:
        """Return the body and the content type of an HTTP response.

        Args:
            accept: value of the request's header `Accept`; empty without one. It chooses between OpenMetrics and
                the classic text format.
        """
        families, _ = self._collect()
        return self._encode(families, accept)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer an ASGI request of any path; a web framework mounts the application at its own path."""
        if scope["type"] == "lifespan":
            await _complete_lifespan(receive, send)
            return
        accept = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"accept")
        # In a thread: SQLite and the stores are read with blocking calls.
        body, content_type = await asyncio.to_thread(self.respond, accept)
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _collect(self) -> tuple[list[Family], list[str]]:
        """Read each source; one that fails costs its own metrics alone."""
        families, troubles, up = list[Family](), list[str](), list[Sample]()
        fleet = reading.read(self._settings, with_calls=False, now=self._now)
        missing = fleet.history_missing and self._settings.keeps_history
        self._had_history |= not missing
        # A history that no process has made yet has nothing to read, which is no fault. One that was here and is gone is away.
        expected = missing and not self._had_history
        if missing:
            # Before the first process. Zeros for a history that cannot be read now would look like a restart of all counters.
            families += history_families(None, namespace=None, now=fleet.at, declared=self._declared)
        for source, read_families in (("history", self._history), ("circuits", self._circuits)):
            try:
                families += read_families(fleet)
            except Exception as exc:  # noqa: BLE001 - whatever one source raises must not hide the other
                # Only our own errors have a text that is safe to show: a driver's may contain a password.
                cause = str(exc) if isinstance(exc, ResilienceError) else type(exc).__name__
                troubles.append(f"{source}: {cause}")
                up.append(Sample({"source": source}, int(expected and source == "history")))
            else:
                up.append(Sample({"source": source}, 1))
        families.append(Family(names.SOURCE_UP, tuple(up)))
        return families, troubles

    def _history(self, fleet: Fleet) -> list[Family]:
        if not self._settings.keeps_history:
            return []
        if fleet.history_error:
            raise HistoryError(fleet.history_error)
        families = history_families(
            SyncHistory(self._settings.database_url),
            namespace=self._settings.namespace,
            now=fleet.at,
            declared=self._declared,
        )
        return [*families, *process_families(fleet.processes, fleet.at)]

    def _circuits(self, fleet: Fleet) -> list[Family]:
        # The circuits of the history are not shown in place of those of a store that is away: they may be old.
        if fleet.store_error:
            raise StoreError(fleet.store_error)
        return circuit_families(fleet, {*fleet.clients, *self._declared.clients})


def _load_encoder() -> _Encode:
    """Import the encoder late: `prometheus_client` is an extra, and its import takes about 60 ms of CPU."""
    try:
        encode: _Encode = importlib.import_module("resilience.prometheus.encoding").encode
    except ImportError as exc:
        raise ConfigurationError(_MISSING) from exc
    return encode


async def _complete_lifespan(receive: Receive, send: Send) -> None:
    """Acknowledge ASGI's start-up and shutdown: there is nothing to open or close."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
