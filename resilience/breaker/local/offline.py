"""This process's own circuits, by the same algorithm: they decide while the store is away, and are kept warm while it is not."""

from __future__ import annotations

from resilience.breaker.circuit import observe, step
from resilience.breaker.messages import StepReply, StepRequest
from resilience.breaker.state import FRESH, CircuitData, CircuitState
from resilience.clock import Clock


class OfflineCircuits:
    """One document a client, in milliseconds of the monotonic clock. Whoever uses it holds the exchange's lock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._documents: dict[str, CircuitData] = {}

    def learn(self, request: StepRequest, reply: StepReply) -> None:
        """Follow what the store replied, and count what it was told in the window of this process."""
        now = self._now()
        document = self._documents.get(request.client)
        if document is None or document.epoch != reply.epoch:
            document = _seed(reply, now)
        document = observe(document, now, request)
        document.cooldown_until, document.cooldown_reason = now + reply.cooldown_ms, reply.cooldown_reason
        document.budget_used, document.budget_used_at = reply.budget_used, now if reply.budget_used else 0
        self._documents[request.client] = document

    def step(self, request: StepRequest) -> StepReply:
        """Decide in the store's place."""
        document, reply = step(self._documents.get(request.client, FRESH), self._now(), request)
        self._documents[request.client] = document
        return reply

    def _now(self) -> int:
        return round(1000 * self._clock.monotonic())


def _seed(reply: StepReply, now: int) -> CircuitData:
    # Leases are the store's: a half-open circuit goes on as an open one whose time is over, and lends its own probe.
    half_open = reply.state is CircuitState.HALF_OPEN
    ends = reply.wait_ms > 0 and reply.state is not CircuitState.CLOSED and not half_open
    return CircuitData(
        state=CircuitState.OPEN if half_open else reply.state,
        epoch=reply.epoch,
        state_until=now + reply.wait_ms if ends else 0,
        open_count=int(half_open or reply.state is CircuitState.OPEN),
        reason=reply.reason,
        actor=reply.actor,
        at=now,
    )
