"""What an operator sees of the fleet's circuits and does to them, from a process that comes and goes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from resilience import runtime
from resilience.breaker import CircuitState, CircuitView, Operation
from resilience.clock import SystemClock
from resilience.config import settings as _settings
from resilience.config.settings import Settings
from resilience.errors import ConfigurationError, HistoryError, StoreError
from resilience.history import TransitionRecord
from resilience.history.store import transitions

_KEPT_WITHIN: Final = 3.0
"""Seconds an order waits for the history."""
_CLOCK: Final = SystemClock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """One client's circuit, as an operator sees it. Times are UTC.

    Attributes:
        client: whose circuit.
        state: where it stands.
        since: when it went there; None when it never moved.
        until: when the state may end by itself; None when time does not end it.
        endless: only another order ends it.
        reason: the failure category, or the operator's words, behind the state.
        actor: the operator behind it, also of a circuit that was closed by one; empty when there is none.
        cooling_until: the end of the cool-down that stands beside the state; None without one.
        cooled_by: the failure category behind the cool-down.
        calls: calls of the whole fleet within the window.
        failures: those of them that failed.
        slow: those of them that were slow.
        streak: failures in a row.
        retry_tokens: retries the whole fleet has left; None when there is no budget.
        remembered: the store has forgotten it, the history has not: it will be put back when the client is next used.
    """

    client: str
    state: CircuitState
    since: datetime | None
    until: datetime | None
    endless: bool
    reason: str
    actor: str
    cooling_until: datetime | None = None
    cooled_by: str = ""
    calls: int = 0
    failures: int = 0
    slow: int = 0
    streak: int = 0
    retry_tokens: float | None = None
    remembered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitsReport:
    """All circuits of a deployment.

    Attributes:
        namespace: the deployment.
        circuits: by client's name.
        away: why the store cannot be read; the circuits are what the history remembers then. Empty when it can.
        degraded: processes that lately said the store was away for them.
        unread: why the history cannot be read; empty when it can.
    """

    namespace: str
    circuits: tuple[Circuit, ...]
    away: str = ""
    degraded: int = 0
    unread: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderResult:
    """An order that was carried out.

    Attributes:
        circuit: how the circuit stands now.
        changed: did the order change it?
        others: the clients the store knew before, when this one was not among them; else empty.
        unkept: why the history does not have the order; empty when it does.
    """

    circuit: Circuit
    changed: bool
    others: tuple[str, ...] = ()
    unkept: str = ""


async def survey(settings: Settings | None = None) -> CircuitsReport:
    """Look at every circuit. Writes nothing, and makes no file that is not there.

    Raises:
        ConfigurationError: the settings cannot work, or name a store that other processes cannot see.
    """
    complete = _shared(settings)
    namespace = complete.namespace or ""
    views: Mapping[str, CircuitView] = {}
    away = unread = ""
    try:
        views = await _peek(complete)
    except StoreError as exc:
        away = str(exc)
    moves: Mapping[str, TransitionRecord] = {}
    degraded = 0
    try:
        kept = complete.database_url if complete.keeps_history else None
        moves, degraded = await asyncio.to_thread(transitions.remembered, kept, namespace)
    except HistoryError as exc:
        unread = str(exc)
    return CircuitsReport(
        namespace=namespace,
        circuits=tuple(_joined(views, moves)),
        away=away,
        degraded=degraded,
        unread=unread,
    )


async def order(
    client: str,
    operation: Operation,
    *,
    actor: str,
    reason: str = "",
    seconds: float | None = None,
    settings: Settings | None = None,
) -> OrderResult:
    """Carry out an operator's order for the whole fleet, and wait until the history has it.

    Args:
        client: whose circuit.
        operation: `open`, `disable`, `close` or `reset`.
        actor: who orders it.
        reason: why.
        seconds: how long `open` and `disable` last; None: until another order.
        settings: where the fleet's circuits are; from the environment when not given.

    Raises:
        ConfigurationError: the settings cannot work, or name a store that other processes cannot see.
        StoreError: the store cannot be used; nothing was changed.
    """
    opened = runtime.acquire(_shared(settings), _settings.breaker_policy(), _CLOCK)
    try:
        before = await opened.breaker.peek()
        view = await opened.breaker.operate(client, operation, actor=actor, reason=reason, seconds=seconds)
        # The move is recorded on the thread that carried it out, a moment after the reply.
        await asyncio.to_thread(opened.breaker.flush, _KEPT_WITHIN)
        written = await opened.recorder.aflush(_KEPT_WITHIN)
        changed = client not in before or before[client].epoch != view.epoch
        return OrderResult(
            circuit=_seen(view),
            changed=changed,
            others=() if client in before else tuple(sorted(before)),
            unkept=_unkept(opened, written=written) if changed else "",
        )
    finally:
        await runtime.release(opened)


def _unkept(opened: runtime.Runtime, *, written: bool) -> str:
    if not opened.recorder.keeps:
        return "RESILIENCE_PRIVACY=off keeps no history"
    return "" if written and not opened.recorder.dropped else "the history cannot be written"


def _shared(settings: Settings | None) -> Settings:
    complete = (settings or Settings()).complete()
    if not complete.redis_url and complete.store_url == "memory://":
        msg = (
            "circuits at memory:// belong to one process, and no other can see or change them: set RESILIENCE_REDIS_URL, or "
            "RESILIENCE_STORE_URL to sqlite:///file, for the agents and here"
        )
        raise ConfigurationError(msg)
    return complete


async def _peek(settings: Settings) -> Mapping[str, CircuitView]:
    if _absent(settings.redis_url or settings.store_url or ""):
        return {}
    opened = runtime.acquire(settings, _settings.breaker_policy(), _CLOCK)
    try:
        return await opened.breaker.peek()
    finally:
        await runtime.release(opened)


def _joined(views: Mapping[str, CircuitView], moves: Mapping[str, TransitionRecord]) -> Iterator[Circuit]:
    """What the store says, completed by the history: who closed a circuit and why, and what the store has forgotten."""
    for client in sorted({*views, *moves}):
        view, move = views.get(client), moves.get(client)
        if view is None or view.epoch == 0:
            if move is not None and (circuit := _remembered(move)) is not None:
                yield circuit
                continue
            if view is None:
                continue
        seen = _seen(view)
        if move is not None and move.epoch == view.epoch and not seen.reason:
            seen = replace(seen, reason=move.reason, actor=move.actor)
        yield seen


def _absent(place: str) -> bool:
    """Is it a file that is not there? Opening the store would make it."""
    kind, _, path = place.partition(":///")
    return kind == "sqlite" and not Path(path.partition("?")[0]).exists()


def _seen(view: CircuitView) -> Circuit:
    """A view with its instants as times of day. An epoch is the store's time of the move, in milliseconds."""
    monotonic = _CLOCK.monotonic()
    held = view.state is not CircuitState.CLOSED
    return Circuit(
        client=view.client,
        state=view.state,
        since=datetime.fromtimestamp(view.epoch / 1000, UTC) if view.epoch else None,
        until=_at(view.until - monotonic) if held else None,
        endless=math.isinf(view.until),
        reason=view.reason,
        actor=view.actor,
        cooling_until=_at(view.blocked_until - monotonic),
        cooled_by=view.blocked_by,
        calls=view.successes + view.failures,
        failures=view.failures,
        slow=view.slow,
        streak=view.streak,
        retry_tokens=None if math.isinf(view.retry_tokens) else view.retry_tokens,
    )


def _remembered(move: TransitionRecord) -> Circuit | None:
    """What the history would have put back after the store forgot it; None when nothing."""
    left = transitions.lasting(move, datetime.fromtimestamp(_CLOCK.time(), UTC))
    if left is None:
        return None
    return Circuit(
        client=move.client,
        state=CircuitState(move.to_state),
        since=move.occurred_at,
        until=_at(left),
        endless=math.isinf(left),
        reason=move.reason,
        actor=move.actor,
        remembered=True,
    )


def _at(seconds: float) -> datetime | None:
    """The time of day so many seconds from now; None for what is over or has no end."""
    return datetime.fromtimestamp(_CLOCK.time() + seconds, UTC) if 0 < seconds < math.inf else None
