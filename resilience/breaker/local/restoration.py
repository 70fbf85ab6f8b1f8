"""What a process puts back after the store has forgotten a circuit. Pure."""

from __future__ import annotations

import math

from resilience.breaker.messages import Cooldown, Operation, Order, StepReply, StepRequest
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitState
from resilience.breaker.view import CircuitView


def restore_request(
    view: CircuitView, reply: StepReply, now: float, *, policy: BreakerPolicy, epoch: int
) -> StepRequest | None:
    """Return the request that restores the circuit of *view*, or None if nothing of importance is lost.

    A store that was emptied, or that restarted with an old copy, replies an epoch older than one it has replied before.

    Args:
        view: what this process knew of the circuit.
        reply: what the store replies now.
        now: current time, in seconds of the monotonic clock.
        policy: thresholds of the circuit.
        epoch: the latest epoch that the store had replied.
    """
    order = cooldown = None
    # A circuit that is closed on both sides lost only counts, which fill again by themselves.
    if {view.state, reply.state} != {CircuitState.CLOSED}:
        # The leases are lost with the store's memory. A half-open circuit is restored as an open one whose time is over, so
        # that the next caller probes.
        probing = view.state is CircuitState.HALF_OPEN
        order = Order(
            operation=Operation.RESTORE,
            actor=view.actor,
            reason=view.reason,
            seconds=0.0 if probing else None if math.isinf(view.until) else max(0.0, view.until - now),
            state=CircuitState.OPEN if probing else view.state,
            epoch=epoch,
            born_at=view.born_at,
        )
    if (left := view.cooldown_until - now) > 0:
        cooldown = Cooldown(seconds=left, max_seconds=left, reason=view.cooldown_reason)
    if order is None and cooldown is None:
        return None
    return StepRequest(
        client=view.client,
        policy=policy,
        order=order,
        cooldowns=((0, cooldown),) if cooldown else (),
    )
