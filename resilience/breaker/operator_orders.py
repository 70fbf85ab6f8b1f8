"""Operators' orders, and the restoration of what a store has forgotten. Pure."""

from __future__ import annotations

from typing import Final

from resilience.breaker import ramp
from resilience.breaker.messages import Operation, Order, TransitionRule
from resilience.breaker.state import LARGEST, CircuitState
from resilience.breaker.working_copy import WorkingCopy

_ORDERED_STATES: Final = {Operation.OPEN: CircuitState.FORCED_OPEN, Operation.DISABLE: CircuitState.DISABLED}
OVERRIDES: Final = frozenset(_ORDERED_STATES.values())
"""The states that an operator orders, which no result ends."""


def apply_order(copy: WorkingCopy, order: Order) -> None:
    """Carry out an operator's order, or restore what the store has forgotten."""
    wait = -1 if order.seconds is None else max(1, round(1000 * order.seconds))
    if order.operation is Operation.RESTORE:
        _restore(copy, order, wait)
        return
    if state := _ORDERED_STATES.get(order.operation):
        copy.move(state, TransitionRule.OPERATOR, reason=order.reason, actor=order.actor, wait=wait)
    else:
        _close(copy, order, forget=order.operation is Operation.RESET)
    copy.draft.ordered_epoch = copy.draft.epoch


def _restore(copy: WorkingCopy, order: Order, wait: int) -> None:
    """Restore the state that a process saw in a later epoch than this circuit remembers.

    In an older copy of the circuit that the process saw, the later epoch wins. Another circuit, which began after the store was emptied, is
    told apart by its birth: in there an operator's order wins, whatever the epochs, for the store's clock may be behind. Half-open is never restored: its leases are lost. A process that saw it restores an opening whose time
    is over. An epoch that no clock reaches is damaged or planted, and would outlive every order.
    """
    draft, state = copy.draft, order.state
    already_closed = state is draft.state is CircuitState.CLOSED
    ordered = draft.epoch == draft.ordered_epoch > 0 and draft.born_at != order.born_at
    older = not draft.epoch < order.epoch < LARGEST
    if older or ordered or state is CircuitState.HALF_OPEN or already_closed:
        return
    draft.epoch = order.epoch
    wait = 0 if state is CircuitState.CLOSED else wait
    copy.move(state, TransitionRule.RESTORED, reason=order.reason, actor=order.actor, wait=wait)
    draft.open_count = int(state is CircuitState.OPEN)


def _close(copy: WorkingCopy, order: Order, *, forget: bool) -> None:
    """Admit calls again. Do nothing if there is nothing to end or to forget.

    A circuit without memory (epoch 0) moves even if it is closed already: it needs an epoch of its own, because otherwise a process that
    remembers an opening would restore it over this order.
    """
    draft = copy.draft
    cooling = draft.cooldown_until > copy.now
    history = draft.open_count or draft.cooldown_count or draft.buckets or draft.rejected
    idle = draft.state is CircuitState.CLOSED and not cooling and not (forget and history)
    if idle and draft.epoch:
        return
    copy.move(CircuitState.CLOSED, TransitionRule.OPERATOR, reason=order.reason, actor=order.actor)
    draft.closed_at = copy.now
    draft.cooldown_until, draft.cooldown_reason = 0, ""
    ramp.begin(draft, 0)
    if forget:
        draft.open_count = draft.cooldown_count = draft.closed_at = 0
