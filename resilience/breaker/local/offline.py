"""Circuits of this process alone, by the same state machine: they decide while the store is away.

They are kept up to date while the store answers, so that they take over with what was counted before the outage.
"""

from __future__ import annotations

from resilience.breaker import ramp
from resilience.breaker.circuit import observe, step
from resilience.breaker.messages import StepReply, StepRequest
from resilience.breaker.state import FRESH, CircuitData, CircuitState
from resilience.clock import Clock


class OfflineCircuits:
    """The data of each circuit, in milliseconds of the monotonic clock. The caller holds the lock of the `LocalCircuits`.

    Args:
        clock: time for durations.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._data: dict[str, CircuitData] = {}

    def observe(self, request: StepRequest, reply: StepReply) -> None:
        """Follow a reply of the store, and count the results of *request* in the local window.

        The local window has the results of this process alone: a reply has the totals of the shared window, but not their times.
        """
        now = self._now()
        data = self._data.get(request.client)
        if data is None or data.epoch != reply.epoch:
            data = _from_reply(reply, now)
        self._follow(request.client, observe(data, now, request), reply, now)

    def adopt(self, client: str, reply: StepReply) -> None:
        """Take the state of a late reply of the store, in place of what was counted here."""
        now = self._now()
        self._follow(client, _from_reply(reply, now), reply, now)

    def _follow(self, client: str, data: CircuitData, reply: StepReply, now: int) -> None:
        data.cooldown_until, data.cooldown_reason = now + reply.cooldown_ms, reply.cooldown_reason
        # Only the store knows how far its ramp is. Without it this process begins one of its own.
        ramp.begin(data, ramp.AFTER_COOLDOWN if reply.ramp_ms else 0)
        data.rejected = reply.rejected
        data.rejected_functions, data.rejected_requests = reply.rejected_functions, reply.rejected_requests
        data.budget_used, data.budget_used_at = reply.budget_used, now if reply.budget_used else 0
        self._data[client] = data

    def step(self, request: StepRequest) -> StepReply:
        """Carry out *request* in place of the store, and return the reply."""
        data, reply = step(self._data.get(request.client, FRESH), self._now(), request)
        self._data[request.client] = data
        return reply

    def _now(self) -> int:
        return round(1000 * self._clock.monotonic())


def _from_reply(reply: StepReply, now: int) -> CircuitData:
    # Probe leases belong to the store. A half-open circuit goes on as an open one whose time is over, so that this
    # process can lease its own probe at once.
    half_open = reply.state is CircuitState.HALF_OPEN
    has_end = reply.wait_ms > 0 and reply.state is not CircuitState.CLOSED and not half_open
    return CircuitData(
        state=CircuitState.OPEN if half_open else reply.state,
        epoch=reply.epoch,
        state_until=now + reply.wait_ms if has_end else 0,
        open_count=int(half_open or reply.state is CircuitState.OPEN),
        reason=reply.reason,
        actor=reply.actor,
        at=now,
    )
