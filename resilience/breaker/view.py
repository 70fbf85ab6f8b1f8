"""What a process knows of a circuit, and the leave it gives to an attempt: plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from resilience.breaker import retry_budget
from resilience.breaker.messages import StepReply
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitState


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one attempt. Give it back with `Breaker.settle`, once, whatever happens.

    Attributes:
        client: whom to ask.
        epoch: the circuit's epoch; a result of another epoch changes nothing.
        token: the probe's lease; empty for an ordinary permit.
        policy: the thresholds its result is judged by.
    """

    client: str
    epoch: int = 0
    token: str = ""
    policy: BreakerPolicy = field(default_factory=BreakerPolicy, repr=False)

    @property
    def probe(self) -> bool:
        """Is this the call, or one of the few, that finds out whether the client is back?"""
        return bool(self.token)


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitView:
    """This process's copy of a circuit. Instants are seconds of this process's monotonic clock.

    Attributes:
        client: whose circuit.
        state: where it stands.
        epoch: grows with every transition.
        at: how old the copy is: when it was asked for.
        until: when the state may change by itself; infinite when only an operator ends it.
        blocked_until: the end of the cool-down.
        reason: the failure category, or the operator's reason, behind the state.
        blocked_by: the failure category behind the cool-down; empty without one.
        actor: the operator behind the state, if any.
        successes: calls of the whole fleet that succeeded within the window.
        failures: calls of the whole fleet that failed within the window.
        slow: calls of the whole fleet that were slow within the window.
        streak: failures in a row.
        retry_tokens: retries the whole fleet had left; below 0 when several processes took the same ones, infinite when there is
            no budget.
        shared: False when the store was away and this process's own circuit answered.
    """

    client: str
    state: CircuitState
    epoch: int
    at: float
    until: float
    blocked_until: float
    reason: str = ""
    blocked_by: str = ""
    actor: str = ""
    successes: int = 0
    failures: int = 0
    slow: int = 0
    streak: int = 0
    retry_tokens: float = math.inf
    shared: bool = True

    @classmethod
    def of(
        cls,
        client: str,
        reply: StepReply,
        *,
        policy: BreakerPolicy,
        asked: float,
        now: float,
        shared: bool,
    ) -> CircuitView:
        """Read a reply that was *asked* for and arrived *now*: durations count from its arrival, so none ends too early."""
        return cls(
            client=client,
            state=reply.state,
            epoch=reply.epoch,
            at=asked,
            until=math.inf if reply.wait_ms < 0 else now + reply.wait_ms / 1000,
            blocked_until=now + reply.blocked_ms / 1000,
            reason=reply.reason,
            blocked_by=reply.blocked_by,
            actor=reply.actor,
            successes=reply.successes,
            failures=reply.failures,
            slow=reply.slow,
            streak=reply.streak,
            retry_tokens=retry_budget.left(reply.owed, policy),
            shared=shared,
        )
