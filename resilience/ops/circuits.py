"""The circuits of a fleet as operators see them: what the store has, completed by the history. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from resilience.breaker import CircuitState, CircuitView
from resilience.history import TransitionRecord
from resilience.records.transitions import remaining_hold


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


@dataclass(frozen=True, slots=True)
class Present:
    """One moment on both clocks of this process: instants of views are monotonic, and people read the time of day.

    Attributes:
        monotonic: seconds of the monotonic clock.
        time: seconds since the epoch.
    """

    monotonic: float
    time: float

    def at(self, seconds: float) -> datetime | None:
        """Return the time that is *seconds* from now; None if it is past or infinite."""
        return datetime.fromtimestamp(self.time + seconds, UTC) if 0 < seconds < math.inf else None


def merge(
    views: Mapping[str, CircuitView], moves: Mapping[str, TransitionRecord], present: Present
) -> Iterator[Circuit]:
    """Combine what the store and the history have of each client, in the order of their names.

    The store decides. The history adds who closed a circuit and why, which the store does not keep, and the circuits that
    the store has forgotten: agents will restore these.

    Args:
        views: the circuits in the store, by client.
        moves: the last transition of each circuit in the history, by client.
        present: the present.
    """
    for client in sorted({*views, *moves}):
        view, move = views.get(client), moves.get(client)
        # Epoch 0 is a circuit that never changed: new, or forgotten by the store and used again. Only then the history can
        # know better. With any other epoch the store has moved on since, and the order in the history is over.
        if view is None or view.epoch == 0:
            if move is not None and (circuit := _from_history(move, present)) is not None:
                yield circuit
                continue
            if view is None:
                continue
        circuit = from_view(view, present)
        # The same epoch is the same transition. The store drops its reason when a circuit closes; the history has it.
        if move is not None and move.epoch == view.epoch and not circuit.reason:
            circuit = replace(circuit, reason=move.reason, actor=move.actor)
        yield circuit


def expired_orders(
    circuits: Iterable[Circuit], moves: Mapping[str, TransitionRecord], now: datetime
) -> dict[str, datetime]:
    """Return when the last order for a client expired, by client, where no call has noticed it yet.

    An order that expires makes no transition until the next step with its circuit. Until then the history has the order as the
    last transition, and the store shows a circuit that closed at the moment of reading.

    Args:
        circuits: the circuits, as `merge` returns them.
        moves: as for `merge`.
        now: the present.
    """
    found = dict[str, datetime]()
    for circuit in circuits:
        move = moves.get(circuit.client)
        if circuit.state is not CircuitState.CLOSED or move is None or move.wait is None or not move.actor:
            continue
        end = move.occurred_at + timedelta(seconds=move.wait)
        if move.to_state != CircuitState.CLOSED and end <= now:
            found[circuit.client] = end
    return found


def from_view(view: CircuitView, present: Present) -> Circuit:
    """Convert a view of the store into times of day."""
    # An epoch is the store's own time of the transition, in milliseconds: it needs no conversion, and it is the same for
    # every operator.
    held = view.state is not CircuitState.CLOSED
    return Circuit(
        client=view.client,
        state=view.state,
        since=datetime.fromtimestamp(view.epoch / 1000, UTC) if view.epoch else None,
        until=present.at(view.until - present.monotonic) if held else None,
        indefinite=math.isinf(view.until),
        reason=view.reason,
        actor=view.actor,
        cooldown_until=present.at(view.cooldown_until - present.monotonic),
        cooldown_reason=view.cooldown_reason,
        calls=view.successes + view.failures,
        failures=view.failures,
        slow=view.slow,
        consecutive_failures=view.streak,
        retry_tokens=None if math.isinf(view.retry_tokens) else view.retry_tokens,
    )


def _from_history(move: TransitionRecord, present: Present) -> Circuit | None:
    """Return the circuit that agents will restore from its last transition; None if there is nothing to restore."""
    seconds_left = remaining_hold(move, datetime.fromtimestamp(present.time, UTC))
    if seconds_left is None:
        return None
    return Circuit(
        client=move.client,
        state=CircuitState(move.to_state),
        since=move.occurred_at,
        until=present.at(seconds_left),
        indefinite=math.isinf(seconds_left),
        reason=move.reason,
        actor=move.actor,
        from_history=True,
    )
