"""The fleet's circuits for an operator: a report of their states, and orders that override them.

An operator's process is short-lived and makes no calls. It opens the same store and history as the agents, does one thing and
closes them. So it needs the agents' settings, and a store that other processes can reach.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from resilience import runtime
from resilience.breaker import Operation
from resilience.clock import SystemClock
from resilience.config import settings as _settings
from resilience.config.settings import Settings
from resilience.errors import ConfigurationError, HistoryError
from resilience.history.schema import urls
from resilience.history.store import transitions
from resilience.ops import reading
from resilience.ops.circuits import Circuit, Present, from_view
from resilience.ops.fleet import ClientOutage

_FLUSH_TIMEOUT: Final = 15.0
"""Seconds an order waits for the history. On a busy machine the first write, which creates the tables, takes several."""
_CLOCK: Final = SystemClock()


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
        other_namespaces: the namespaces that the store has besides; only if this one has no circuits.
        outages: the periods of the last 24 hours in which a circuit was not closed, newest first.
    """

    namespace: str
    circuits: tuple[Circuit, ...]
    store: str = ""
    other_namespaces: tuple[str, ...] = ()
    store_error: str = ""
    degraded_processes: int = 0
    history_error: str = ""
    outages: tuple[ClientOutage, ...] = ()


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
    fleet = await asyncio.to_thread(reading.read, _shared_settings(settings), with_calls=False)
    return CircuitsReport(
        namespace=fleet.namespace,
        circuits=fleet.circuits,
        store=fleet.store,
        other_namespaces=fleet.other_namespaces,
        store_error=fleet.store_error,
        degraded_processes=fleet.degraded_processes,
        history_error=fleet.history_error,
        outages=fleet.outages,
    )


def _read_history(settings: Settings) -> transitions.CircuitHistory:
    url = settings.database_url if settings.keeps_history else None
    return transitions.read_circuit_history(url, settings.namespace or "")


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
        create: create the store if it is a file that does not exist, and the folder of the history.

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
    missing = "" if create else _missing_history(complete)
    recorded = replace(complete, database_url=None) if missing else complete
    opened = runtime.acquire(recorded, _settings.breaker_policy(), _CLOCK)
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
            circuit=from_view(view, Present(_CLOCK.monotonic(), _CLOCK.time())),
            changed=changed,
            store=complete.circuit_store.display,
            namespace=complete.namespace or "",
            processes=history.processes if history else None,
            unrecorded=(missing or _unrecorded(opened, written=written)) if changed else "",
        )
    finally:
        await runtime.release(opened)


async def forget_circuit(
    client: str, *, actor: str, reason: str = "", settings: Settings | None = None
) -> OrderResult:
    """Reset a circuit and delete it from the store, such as that of a slip in a name or of a client that is no longer used.

    The reset comes first: a store that lost a circuit gets its last state back from the history, and that of a reset is none.

    Args:
        client: the client whose circuit is deleted. One that is still used gets a new circuit, closed.
        actor: the person or program that gives the order.
        reason: the reason, which the history shows.
        settings: the agents' settings; those of the environment when not given.

    Returns:
        The circuit after the reset; `changed` is whether the store had it.

    Raises:
        ConfigurationError: as `apply_order`.
        StoreError: the store cannot be used, or refuses to delete.
    """
    complete = _shared_settings(settings)
    result = await apply_order(client, Operation.RESET, actor=actor, reason=reason, settings=complete)
    store = complete.circuit_store.open(namespace=complete.namespace)
    try:
        forgotten = await asyncio.to_thread(store.forget, client)
    except Exception as exc:
        raise reading.store_error(exc) from exc
    finally:
        store.close()
    return replace(result, changed=forgotten)


async def _readable_history(settings: Settings) -> transitions.CircuitHistory | None:
    """Return what the history says; None if it cannot be read or none is kept. It must not stop an order."""
    if not settings.keeps_history:
        return None
    try:
        return await asyncio.to_thread(_read_history, settings)
    except HistoryError:
        return None


def _missing_history(settings: Settings) -> str:
    """Return why an order would be recorded where no agent reads; empty if it would not.

    The store may be a server, and the order be given in any folder. A history must not begin there.
    """
    url = settings.database_url if settings.keeps_history else None
    parsed = None if url is None else urls.parse(url)
    if parsed is None or not urls.is_sqlite(parsed) or urls.path(parsed).parent.is_dir():
        return ""
    return f"there is no history at {urls.path(parsed)}"


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
    if not known and (namespaces := reading.other_namespaces(settings)):
        others += f", and others are in {', '.join(namespaces)}: see --namespace"
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
