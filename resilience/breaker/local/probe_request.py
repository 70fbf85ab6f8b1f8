"""A request for a probe lease, from the caller that needs it to the reply of the store."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

from resilience.breaker.messages import StepReply
from resilience.breaker.policy import BreakerPolicy


@dataclass(slots=True, eq=False)
class ProbeRequest:
    """A request for a probe lease that is on its way to the store.

    Attributes:
        token: name of the lease.
        future: done when the reply is here or the process went offline. `reply` is set first.
        policy: the policy of the call that will probe.
        reply: what the store, or the offline circuit, replied.
        withdrawn: whether the caller has given up; a lease that arrives later is released at once.
    """

    token: str
    future: Future[None]
    policy: BreakerPolicy
    reply: StepReply | None = None
    withdrawn: bool = False
