"""The wait of a caller for the store, and the request for a probe lease that it may wait for."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from resilience.background import Latch
from resilience.breaker.messages import StepReply
from resilience.breaker.policy import BreakerPolicy


class StoreWait(Future[None]):
    """A future that a caller on a thread with signal handlers can wait for.

    Every method of a Future takes a lock in Python code, `done` included. An exception of a signal handler in there leaves the lock
    taken, and the sync thread would block for ever when it completes the future. So callers that block use `latch` alone.

    Attributes:
        latch: set when the future has a result.
    """

    def __init__(self) -> None:
        super().__init__()
        self.latch = Latch()

    def set_result(self, result: None) -> None:
        """Complete the future and end the waits of blocking callers."""
        super().set_result(result)
        self.latch.set()


@dataclass(slots=True, eq=False)
class ProbeRequest:
    """A request for a probe lease that is on its way to the store.

    Attributes:
        token: name of the lease.
        future: done when the reply is here or the process went offline. `reply` is set first.
        policy: the policy of the call that will probe.
        reply: what the store, or the offline circuit, replied.
        withdrawn: whether the caller has given up; a lease that arrives later is released at once.
        followers: futures of other callers that wait for the reply.
    """

    token: str
    future: StoreWait
    policy: BreakerPolicy
    reply: StepReply | None = None
    withdrawn: bool = False
    followers: list[StoreWait] = field(default_factory=list)
