"""The fleet's circuits for an operator: a report of their states, and orders that override them.

An operator's process is short-lived and makes no calls. It opens the same store and history as the agents, does one thing and
closes them. So it needs the agents' settings, and a store that other processes can reach.
"""

from __future__ import annotations

import asyncio
import difflib
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from resilience import runtime
from resilience.breaker import CircuitState, CircuitView, Operation, StoreKind
from resilience.clock import SystemClock
from resilience.config import settings as _settings
from resilience.config.settings import Settings
from resilience.errors import ConfigurationError, HistoryError, StoreError
from resilience.history import TransitionRecord
from resilience.history.store import transitions

_FLUSH_TIMEOUT: Final = 15.0
"""Seconds an order waits for the history. On a busy machine the first write, which creates the tables, takes several."""
_CLOCK: Final = SystemClock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """The circuit of one client. Times are UTC.

    Attributes:
        client: the client's name.
        state: the state of the circuit.
        since: when it entered the state; None if it never changed.
        until: when the state may end by itself; None if time does not end it.
        indefinite: whether only another order ends the state.
        reason: the failure category or the operator's words that led to the state.
        actor: the operator who gave the last order; empty if no order led to the state.
        cooldown_until: end of the cool-down, which exists beside the state; None without one.
        cooldown_reason: the failure category that led to the cool-down.
        calls: calls of the whole fleet within the window.
        failures: those of them that count as failures.
        slow: those of them that were slow.
        consecutive_failures: failures since the last success.
        retry_tokens: retries that the whole fleet may still make; None without a retry budget.
        from_history: whether the store has forgotten the circuit. Its state is then from the history, and is restored
            when the client is used next.
    """

    client: str
    state: CircuitState
    since: datetime | None
    until: datetime | None
    indefinite: bool
    reason: str
    actor: str
    cooldown_until: datetime | None = None
    cooldown_reason: str = ""
    calls: int = 0
    failures: int = 0
    slow: int = 0
    consecutive_failures: int = 0
    retry_tokens: float | None = None
    from_history: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitsReport:
    """All circuits of a namespace.

    Attributes:
        namespace: the namespace.
        circuits: the circuits, ordered by client name.
        store_error: why the store cannot be read; empty if it can. With an error, the circuits are from the history.
        degraded_processes: number of processes that recently reported that they cannot reach the store.
        history_error: why the history cannot be read; empty if it can.
        store: the URL of the store, without secrets.
        other_namespaces: the namespaces that an SQLite store has besides; only if this one has no circuits.
    """

    namespace: str
    circuits: tuple[Circuit, ...]
    store: str = ""
    other_namespaces: tuple[str, ...] = ()
    store_error: str = ""
    degraded_processes: int = 0
    history_error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderResult:
    """The result of an order.

    Attributes:
        circuit: the circuit after the order.
        changed: whether the order changed it.
        store: the URL of the store that took the order, without secrets.
        namespace: the namespace of the circuit.
        processes: how many processes will obey: those with a recent heartbeat; None if the history cannot be read.
        unrecorded: why the history does not have the order; empty if it does.
    """

    circuit: Circuit
    changed: bool
    store: str
    namespace: str
    processes: int | None = None
    unrecorded: str = ""


async def circuits_report(settings: Settings | None = None) -> CircuitsReport:
    """Return the state of every circuit. Nothing is written, and no file is created.

    A store or a history that cannot be read is part of the report, because the other one may still answer.

    Args:
        settings: the agents' settings; those of the environment when not given.

    Raises:
        ConfigurationError: the settings are not valid, or name a store that other processes cannot reach.
    """
    complete = _shared_settings(settings)
    namespace = complete.namespace or ""
    # Each source is read on its own: in an outage of one, the other is what an operator has.
    views: Mapping[str, CircuitView] = {}
    store_error = history_error = ""
    try:
        views = await _read_store(complete)
    except StoreError as exc:
        store_error = str(exc)
    history = transitions.CircuitHistory()
    try:
        history = await asyncio.to_thread(_read_history, complete)
    except HistoryError as exc:
        history_error = str(exc)
    circuits = tuple(_merge(views, history.transitions))
    return CircuitsReport(
        namespace=namespace,
        circuits=circuits,
        store=complete.circuit_store.display,
        other_namespaces=()
        if circuits or store_error
        else await asyncio.to_thread(_other_namespaces, complete),
        store_error=store_error,
        degraded_processes=history.degraded,
        history_error=history_error,
    )


def _read_history(settings: Settings) -> transitions.CircuitHistory:
    url = settings.database_url if settings.keeps_history else None
    return transitions.read_circuit_history(url, settings.namespace or "")


def _other_namespaces(settings: Settings) -> tuple[str, ...]:
    """Return the namespaces of an SQLite store besides that of *settings*, sorted. Best effort: it only explains an empty answer.

    A Redis is not searched: the search would read all its keys, which may be millions of others.
    """
    if settings.circuit_store.kind is not StoreKind.FILE or settings.circuit_store.missing_file:
        return ()
    store = settings.circuit_store.open()
    try:
        names = {name.partition("/")[0] for name in store.names() if "/" in name}
    except Exception:  # noqa: BLE001 - a store may raise anything, and the answer is complete without this
        return ()
    finally:
        store.close()
    return tuple(sorted(names - {settings.namespace}))


async def apply_order(
    client: str,
    operation: Operation,
    *,
    actor: str,
    reason: str = "",
    seconds: float | None = None,
    settings: Settings | None = None,
    new: bool = False,
    create: bool = False,
) -> OrderResult:
    """Override one circuit for the whole fleet, and wait until the history has the order.

    The order takes effect in the store, whatever becomes of the history: an operator in an incident must not be stopped by
    a full disk. The result says so. An order that no agent would obey is refused.

    Args:
        client: the client whose circuit is overridden.
        operation: `open`, `disable`, `close` or `reset`.
        actor: the person or program that gives the order.
        reason: the reason, which refused calls and the history show.
        seconds: how long `open` and `disable` hold; until another order when not given.
        settings: the agents' settings; those of the environment when not given.
        new: accept a client that neither the store nor the history knows.
        create: create the store if it is a file that does not exist.

    Raises:
        ConfigurationError: the settings are not valid, or name a store that other processes cannot reach or that does not
            exist; or nothing knows the client.
        StoreError: the store cannot be used. Nothing was changed.
    """
    complete = _shared_settings(settings)
    if complete.circuit_store.missing_file and not create:
        msg = (
            f"there is no store of circuits at {complete.circuit_store.path}, so no agent would obey: go to the project's "
            "folder, or name the place with --at; --create gives the order all the same"
        )
        raise ConfigurationError(msg)
    history = await _readable_history(complete)
    opened = runtime.acquire(complete, _settings.breaker_policy(), _CLOCK)
    try:
        # Read before and after, because the reply to an order does not say whether it changed anything.
        before = await opened.breaker.peek()
        if not new:
            _refuse_unknown(client, {*before, *(history.clients if history else ())}, complete)
        view = await opened.breaker.operate(client, operation, actor=actor, reason=reason, seconds=seconds)
        # The sync thread hands the transition to the recorder shortly after the reply. So flush both, in this order.
        await asyncio.to_thread(opened.breaker.flush, _FLUSH_TIMEOUT)
        written = await opened.recorder.aflush(_FLUSH_TIMEOUT)
        # Every transition has a new epoch: an order that finds the circuit as it should be makes none.
        changed = client not in before or before[client].epoch != view.epoch
        return OrderResult(
            circuit=_from_view(view),
            changed=changed,
            store=complete.circuit_store.display,
            namespace=complete.namespace or "",
            processes=history.processes if history else None,
            unrecorded=_unrecorded(opened, written=written) if changed else "",
        )
    finally:
        await runtime.release(opened)


async def _readable_history(settings: Settings) -> transitions.CircuitHistory | None:
    """Return what the history says; None if it cannot be read or none is kept. It must not stop an order."""
    if not settings.keeps_history:
        return None
    try:
        return await asyncio.to_thread(_read_history, settings)
    except HistoryError:
        return None


def _refuse_unknown(client: str, known: Collection[str], settings: Settings) -> None:
    """Refuse an order for a client that nothing knows: most are slips in the name, and the agents would not notice it.

    Raises:
        ConfigurationError: naming the client, what is known, and the remedy.
    """
    if client in known:
        return
    place = f"namespace {settings.namespace!r} at {settings.circuit_store.display}"
    near = difflib.get_close_matches(client, known, 1)
    guess = f"did you mean {near[0]}? " if near else ""
    others = f"{place} has {', '.join(sorted(known))}" if known else f"{place} has none yet"
    msg = f"no client {client!r}: {guess}{others}; --new gives the order all the same"
    raise ConfigurationError(msg)


def _unrecorded(opened: runtime.Runtime, *, written: bool) -> str:
    """Return why the history does not have an order; empty if it does.

    Args:
        opened: the runtime the order went through.
        written: whether the flush ended in time.
    """
    if not opened.recorder.has_database:
        return "RESILIENCE_PRIVACY=off keeps no history"
    return "" if written and not opened.recorder.dropped else "the history cannot be written"


def _shared_settings(settings: Settings | None) -> Settings:
    """Return complete settings. Refuse a memory store: it would be empty here, and an order to it would reach no agent."""
    complete = (settings or Settings()).complete()
    # Without this, a memory store would answer "no circuits" and accept orders, and both would be wrong.
    if not complete.circuit_store.shared:
        msg = (
            "circuits at memory:// belong to one process, and no other can see or change them: set RESILIENCE_REDIS_URL, or "
            "RESILIENCE_STORE_URL to sqlite:///file, for the agents and here"
        )
        raise ConfigurationError(msg)
    return complete


async def _read_store(settings: Settings) -> Mapping[str, CircuitView]:
    """Return the circuits in the store, by client. A file that does not exist has none, and is not created."""
    if settings.circuit_store.missing_file:
        return {}
    opened = runtime.acquire(settings, _settings.breaker_policy(), _CLOCK)
    try:
        return await opened.breaker.peek()
    finally:
        await runtime.release(opened)


def _merge(views: Mapping[str, CircuitView], moves: Mapping[str, TransitionRecord]) -> Iterator[Circuit]:
    """Combine what the store and the history have of each client.

    The store decides. The history adds who closed a circuit and why, which the store does not keep, and the circuits that
    the store has forgotten: agents will restore these.

    Args:
        views: the circuits in the store, by client.
        moves: the last transition of each circuit in the history, by client.
    """
    for client in sorted({*views, *moves}):
        view, move = views.get(client), moves.get(client)
        # Epoch 0 is a circuit that never changed: new, or forgotten by the store and used again. Only then the history can
        # know better. With any other epoch the store has moved on since, and the order in the history is over.
        if view is None or view.epoch == 0:
            if move is not None and (circuit := _from_history(move)) is not None:
                yield circuit
                continue
            if view is None:
                continue
        circuit = _from_view(view)
        # The same epoch is the same transition. The store drops its reason when a circuit closes; the history has it.
        if move is not None and move.epoch == view.epoch and not circuit.reason:
            circuit = replace(circuit, reason=move.reason, actor=move.actor)
        yield circuit


def _from_view(view: CircuitView) -> Circuit:
    """Convert a view of the store into times of day."""
    # Instants of a view are of this process's monotonic clock. An epoch is the store's own time of the transition, in
    # milliseconds: it needs no conversion, and it is the same for every operator.
    monotonic = _CLOCK.monotonic()
    held = view.state is not CircuitState.CLOSED
    return Circuit(
        client=view.client,
        state=view.state,
        since=datetime.fromtimestamp(view.epoch / 1000, UTC) if view.epoch else None,
        until=_time_in(view.until - monotonic) if held else None,
        indefinite=math.isinf(view.until),
        reason=view.reason,
        actor=view.actor,
        cooldown_until=_time_in(view.cooldown_until - monotonic),
        cooldown_reason=view.cooldown_reason,
        calls=view.successes + view.failures,
        failures=view.failures,
        slow=view.slow,
        consecutive_failures=view.streak,
        retry_tokens=None if math.isinf(view.retry_tokens) else view.retry_tokens,
    )


def _from_history(move: TransitionRecord) -> Circuit | None:
    """Return the circuit that agents will restore from its last transition; None if there is nothing to restore."""
    seconds_left = transitions.remaining_hold(move, datetime.fromtimestamp(_CLOCK.time(), UTC))
    if seconds_left is None:
        return None
    return Circuit(
        client=move.client,
        state=CircuitState(move.to_state),
        since=move.occurred_at,
        until=_time_in(seconds_left),
        indefinite=math.isinf(seconds_left),
        reason=move.reason,
        actor=move.actor,
        from_history=True,
    )


def _time_in(seconds: float) -> datetime | None:
    """Return the time that is *seconds* from now; None if it is past or infinite."""
    return datetime.fromtimestamp(_CLOCK.time() + seconds, UTC) if 0 < seconds < math.inf else None
