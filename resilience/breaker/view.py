"""What a process knows of a circuit, and the permission that it gives to an attempt: plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from resilience.breaker import retry_budget
from resilience.breaker.messages import StepReply
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitState


@dataclass(frozen=True, slots=True)
class Permit:
    """Permission to make one attempt. Give it back with `Breaker.settle`, once, whatever happens.

    Attributes:
        client: the client to ask.
        epoch: the circuit's epoch; a result of another epoch changes nothing.
        token: the probe's lease; empty for an ordinary permit.
        policy: the thresholds that its result is judged by.
    """

    # All calls of one epoch and policy share one permit. `Breaker.settle` compares permits by identity, to count a
    # success without a search. So a permit must not be copied: the copy would start a run of results of its own.
    client: str
    epoch: int = 0
    token: str = ""
    policy: BreakerPolicy = field(default_factory=BreakerPolicy, repr=False)

    @property
    def probe(self) -> bool:
        """Whether the attempt is a probe: one of the few that find out whether the client works again."""
        return bool(self.token)


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitView:
    """This process's copy of a circuit. Instants are seconds of this process's monotonic clock.

    Attributes:
        client: the client whose circuit it is.
        state: the state.
        epoch: grows with every transition.
        at: when the copy was asked for; its age counts from then.
        until: when the state may change by itself; infinite if only an operator ends it.
        cooldown_until: the end of the cool-down.
        reason: the failure category, or the operator's reason, behind the state.
        cooldown_reason: the failure category behind the cool-down; empty without one.
        actor: the operator behind the state, if any.
        successes: calls of the whole fleet that succeeded within the window.
        failures: calls of the whole fleet that failed within the window.
        slow: calls of the whole fleet that were slow within the window.
        streak: failures in a row.
        ramp_until: when the next step of the ramp begins; minus infinity if the ramp has not begun, None without a ramp.
        rejected: requests in a row that the provider refused as wrong; see `rejections.py`.
        rejected_functions: the most different functions that one process has seen among them.
        rejected_requests: the most different requests that one process has seen among them.
        retry_tokens: retries that the whole fleet had left; below 0 if the budget is overdrawn, infinite if there is none.
        born_at: when the circuit made its first transition, in milliseconds of the store's clock; 0 before.
        shared: False if the store was away and this process's own circuit answered.
    """

    client: str
    state: CircuitState
    epoch: int
    at: float
    until: float
    cooldown_until: float
    reason: str = ""
    cooldown_reason: str = ""
    actor: str = ""
    successes: int = 0
    failures: int = 0
    slow: int = 0
    streak: int = 0
    ramp_until: float | None = None
    rejected: int = 0
    rejected_functions: int = 0
    rejected_requests: int = 0
    retry_tokens: float = math.inf
    born_at: int = 0
    shared: bool = True

    @classmethod
    def from_reply(
        cls,
        client: str,
        reply: StepReply,
        *,
        policy: BreakerPolicy,
        asked: float,
        now: float,
        shared: bool,
    ) -> CircuitView:
        """Return the view that a reply shows.

        Args:
            client: the client whose circuit it is.
            reply: the store's reply.
            policy: the thresholds, for the size of the retry budget.
            asked: when the reply was asked for; the view is as old as this.
            now: when the reply arrived. Its durations count from here, so that none ends too early.
            shared: whether the reply is the store's.
        """
        return cls(
            client=client,
            state=reply.state,
            epoch=reply.epoch,
            at=asked,
            until=math.inf if reply.wait_ms < 0 else now + reply.wait_ms / 1000,
            cooldown_until=now + reply.cooldown_ms / 1000,
            reason=reply.reason,
            cooldown_reason=reply.cooldown_reason,
            actor=reply.actor,
            successes=reply.successes,
            failures=reply.failures,
            slow=reply.slow,
            streak=reply.streak,
            ramp_until=_ramp_until(reply.ramp_ms, now),
            rejected=reply.rejected,
            rejected_functions=reply.rejected_functions,
            rejected_requests=reply.rejected_requests,
            retry_tokens=retry_budget.tokens_left(reply.budget_used, policy),
            born_at=reply.born_at,
            shared=shared,
        )


def _ramp_until(ramp_ms: int, now: float) -> float | None:
    if not ramp_ms:
        return None
    return -math.inf if ramp_ms < 0 else now + ramp_ms / 1000
