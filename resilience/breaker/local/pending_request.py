"""Requests on their way to the store, with the callers that wait for the replies."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from resilience.breaker.local.circuit import LocalCircuit
from resilience.breaker.local.cooldown_event import cooldown_event
from resilience.breaker.local.probe_request import ProbeRequest, StoreWait
from resilience.breaker.messages import StepReply, StepRequest, Transition
from resilience.breaker.stores.remedies import remedy
from resilience.errors import StoreError


@dataclass(slots=True)
class PendingRequest:
    """One request to the store, and what waits for its reply.

    Attributes:
        circuit: the local circuit that the reply updates.
        request: the results and orders to send.
        probe_request: the request for a probe lease that is part of it.
        waiters: futures of callers that wait for a fresh view.
        order_reply: future for the reply to an operator's order; orders are never carried out locally.
        restores: whether the request restores a circuit that the store has forgotten.
    """

    circuit: LocalCircuit
    request: StepRequest
    probe_request: ProbeRequest | None = None
    waiters: list[Future[None]] = field(default_factory=list)
    order_reply: Future[StepReply] | None = None
    restores: bool = False


def complete(
    pending: Sequence[PendingRequest], replies: Sequence[StepReply] = (), error: Exception | None = None
) -> None:
    """Complete all futures of *pending*. Call it without the lock: it wakes event loops, and callbacks may run here.

    Args:
        pending: the requests.
        replies: their replies in the same order; may be shorter if *error* is given.
        error: what kept the store from replying.
    """
    for position, item in enumerate(pending):
        probe_futures = (
            (item.probe_request.future, *item.probe_request.followers) if item.probe_request else ()
        )
        for future in (*item.waiters, *probe_futures):
            # A waiter may have cancelled its future, or it is done already because the process went offline. Setting
            # a result would raise in both cases, and the futures behind it would never be completed.
            if not future.done() and future.set_running_or_notify_cancel():
                future.set_result(None)
        order_reply = item.order_reply
        # Only the requests of a sync carry orders, and `replies` is complete unless *error* is given.
        if order_reply is not None and order_reply.set_running_or_notify_cancel():
            if error is not None:
                order_reply.set_exception(store_error(error))
            elif replies[position].refused:
                order_reply.set_exception(StoreError(replies[position].refused))
            else:
                order_reply.set_result(replies[position])


def complete_waits(waits: Sequence[StoreWait]) -> None:
    """Complete futures that were released. Call it without the lock."""
    for wait in waits:
        if not wait.done() and wait.set_running_or_notify_cancel():
            wait.set_result(None)


def store_error(cause: Exception) -> StoreError:
    """Return the error that operators' commands raise when the store cannot be used because of *cause*."""
    text = f"{type(cause).__name__}: {cause}"
    error = StoreError(f"the store of circuits cannot be used ({text}): {remedy(cause)}")
    error.__cause__ = cause
    return error


def events_of(item: PendingRequest, reply: StepReply, *, shared: bool) -> list[Transition]:
    """Return the transitions of a reply, and the cool-down that its request began."""
    cooldown = cooldown_event(item.request, reply, item.circuit.cooldown_end_ms)
    if not reply.transitions and cooldown is None:
        return []
    events = (*reply.transitions, *([cooldown] if cooldown else ()))
    return [replace(event, shared=shared) for event in events]


def question(circuit: LocalCircuit) -> PendingRequest:
    """Return the request that asks how a circuit stands after an outage.

    A probe that this process began alone is named in it, because the store may have granted its lease before it fell silent. Asking
    again under one token grants one lease. A probe in flight keeps it, and that of a probe which has ended is released at once.
    """
    probe = circuit.local_probe
    request = StepRequest(client=circuit.client, policy=circuit.policy, token=probe.token if probe else "")
    return PendingRequest(circuit, request, probe)
