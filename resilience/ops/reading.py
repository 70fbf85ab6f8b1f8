"""Read a fleet: its store and its history, each on its own. In an outage of one, the other is what an operator has.

Nothing is written and no file is created: an operator who looks in the wrong folder must not leave a store there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from resilience.breaker import BreakerPolicy, CircuitView
from resilience.breaker.messages import StepReply, StepRequest
from resilience.breaker.stores.remedies import remedy
from resilience.config import settings as _settings
from resilience.config.settings import Settings
from resilience.errors import HistoryError, ResilienceError, StoreError
from resilience.history.reader import snapshot
from resilience.history.reader.history import read as read_history
from resilience.history.schema import urls
from resilience.history.store import transitions
from resilience.ops import fleet, window
from resilience.ops.circuits import Circuit, Present, expired_orders, merge
from resilience.ops.fleet import ClientOutage, Fleet

DAY: Final = timedelta(days=1)
WINDOWS: Final = (timedelta(minutes=1), timedelta(minutes=15), timedelta(hours=1), DAY)
"""Windows of calls, the shortest first. A fleet that stopped an hour ago is not described by its last minute."""
ALIVE: Final = timedelta(minutes=2)
"""A process whose last heartbeat is older may have ended, and is not read."""


@dataclass(frozen=True, slots=True)
class _Circuits:
    """What the store answered.

    Attributes:
        views: its circuits by client, with instants of the monotonic clock.
        seconds: how long the answer took; None if the store was not asked.
        error: why it did not answer; empty if it did.
    """

    views: Mapping[str, CircuitView]
    seconds: float | None = None
    error: str = ""


def utc_now() -> datetime:
    """Return the present."""
    return datetime.now(UTC)


def read(
    settings: Settings,
    *,
    since: datetime | timedelta | None = None,
    with_calls: bool = True,
    now: Callable[[], datetime] = utc_now,
) -> Fleet:
    """Return the fleet that *settings* name. Blocks while its sources are read.

    Args:
        settings: complete settings.
        since: start of the window; by default a minute ago, or longer ago if the newest call is older.
        with_calls: whether the calls of the window and of the last outages are read.
        now: the present.
    """
    at, namespace = now(), settings.namespace or ""
    circuits = _read_circuits(settings)
    past, today, history_error = transitions.CircuitHistory(), _NOTHING, ""
    url = settings.database_url if settings.keeps_history else None
    read_window, read_episode = None, None
    # One block for all reads of the history: after the first error the others would fail alike, each after its time limit.
    try:
        past = transitions.read_circuit_history(url, namespace)
        today = read_history(url, snapshot.today(namespace=namespace, since=at - DAY, alive=at - ALIVE))
        if with_calls:
            begin = _begin(since, today.last_call_at, at)
            read_window = _window(url, namespace, begin, at)
    except HistoryError as exc:
        history_error = str(exc)
    merged, outages = _merged(circuits, past, today, at)
    if read_window is not None and (span := fleet.episode(outages, at)):
        with suppress(HistoryError):  # it went away just now; the answer is complete without this
            read_episode = _window(url, namespace, *span)
    return Fleet(
        at=at,
        namespace=namespace,
        store=settings.circuit_store.display,
        history=_place(url),
        store_error=circuits.error,
        history_error=history_error,
        store_missing=settings.circuit_store.missing_file or not settings.circuit_store.shared,
        history_missing=_is_missing(url),
        store_seconds=circuits.seconds,
        other_namespaces=() if merged or circuits.error else other_namespaces(settings),
        circuits=merged,
        clients=tuple(sorted({*(circuit.client for circuit in merged), *past.clients, *today.clients})),
        processes=tuple(map(fleet.process, today.instances)),
        degraded_processes=past.degraded,
        outages=outages,
        last_call_at=today.last_call_at,
        window=read_window,
        episode=read_episode,
    )


def _merged(
    circuits: _Circuits, past: transitions.CircuitHistory, today: snapshot.Today, at: datetime
) -> tuple[tuple[Circuit, ...], tuple[ClientOutage, ...]]:
    """Return the circuits of store and history, and the outages, which both end with an order that expired."""
    present = Present(time.monotonic(), time.time())
    merged = tuple(merge(circuits.views, past.transitions, present))
    expired = expired_orders(merged, past.transitions, at)
    since = (replace(circuit, since=expired.get(circuit.client, circuit.since)) for circuit in merged)
    return tuple(since), tuple(fleet.ended(map(fleet.outage, today.outages), expired))


_NOTHING: Final = snapshot.Today(instances=[], outages=[], clients=(), last_call_at=None)


def _begin(since: datetime | timedelta | None, last_call_at: datetime | None, at: datetime) -> datetime:
    if isinstance(since, datetime):
        return since
    if since is None:
        age = at - last_call_at if last_call_at else timedelta(0)
        since = next((size for size in WINDOWS if age < size), WINDOWS[0])
    return max(at - min(since, timedelta(days=36_500)), datetime.min.replace(tzinfo=UTC))


def _window(url: str | None, namespace: str, begin: datetime, end: datetime) -> window.Window:
    rows = read_history(url, snapshot.window(namespace=namespace, since=begin, until=end))
    return window.summarize(
        begin, end, calls=rows.calls, answers=rows.answers, errors=rows.errors, refusals=rows.refusals
    )


def _read_circuits(settings: Settings) -> _Circuits:
    """Read every circuit of the namespace. A file that does not exist has none, and is not created."""
    if settings.circuit_store.missing_file or not settings.circuit_store.shared:
        return _Circuits({})
    store = settings.circuit_store.open(namespace=settings.namespace)
    asked = time.monotonic()
    try:
        names = store.names()
        # A request that reports and asks for nothing only reads.
        replies = store.step([StepRequest(client=name) for name in names]) if names else []
    except Exception as exc:  # noqa: BLE001 - a store may raise anything, and the history may still answer
        return _Circuits({}, error=str(store_error(exc)))
    finally:
        store.close()
    now, policies = time.monotonic(), _settings.breaker_policy()
    views = {
        name: _view(name, reply, policies, asked, now)
        for name, reply in zip(names, replies, strict=True)
        if isinstance(reply, StepReply)  # a circuit that cannot be read is left out
    }
    return _Circuits(views, now - asked)


def _view(client: str, reply: StepReply, policy: BreakerPolicy, asked: float, now: float) -> CircuitView:
    return CircuitView.from_reply(client, reply, policy=policy, asked=asked, now=now, shared=True)


def store_error(exc: Exception) -> StoreError:
    """Return the error of a store as one of ours: drivers have classes of their own."""
    if isinstance(exc, StoreError):
        return exc
    if isinstance(exc, ResilienceError):
        return StoreError(f"the store of circuits cannot be used ({exc})")
    return StoreError(f"the store of circuits cannot be used ({type(exc).__name__}: {exc}): {remedy(exc)}")


def other_namespaces(settings: Settings) -> tuple[str, ...]:
    """Return the namespaces of the store besides that of *settings*, sorted. Best effort: it only explains an empty answer."""
    if settings.circuit_store.missing_file or not settings.circuit_store.shared:
        return ()
    store = settings.circuit_store.open_whole()
    try:
        names = set(store.namespaces())
    except Exception:  # noqa: BLE001 - a store may raise anything, and the answer is complete without this
        return ()
    finally:
        store.close()
    return tuple(sorted(names - {settings.namespace}))


def _place(url: str | None) -> str:
    """Return where a history is, without secrets."""
    if url is None:
        return ""
    parsed = urls.parse(url)
    return str(urls.path(parsed)) if urls.is_sqlite(parsed) else urls.shown(parsed)


def _is_missing(url: str | None) -> bool:
    if url is None:
        return True
    parsed = urls.parse(url)
    return urls.is_sqlite(parsed) and not urls.path(parsed).is_file()
