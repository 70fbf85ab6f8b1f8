"""The rule for a circuit that this process knows nothing of yet: one attempt in flight, whose outcome the others wait for.

A process is uninformed about a client until the store has replied for its circuit. The client may be down, or an operator may have
forced its circuit open, and the fleet knows it. So an uninformed process makes one attempt at a time. A reply of the store, however
late, ends the trial. A success ends it too, but not while a store that is alive is about to reply: an operator may have forced the
circuit of a client open that is well.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from resilience.breaker.local.probe_request import StoreWait
from resilience.breaker.view import Permit

MAX_TRIALS: Final = 3
"""Attempts on one client that a process makes while its first look at the store is under way."""
LIMIT_SECONDS: Final = 3.0
"""Seconds of a first look after which that limit ends. A connection with TLS and a login takes 2 to 2.5 s at a round trip of 400 ms.
A server that accepts connections and hangs up looks the same, for ever."""
TRIAL_SECONDS: Final = 5.0
"""Seconds after which an attempt without a result gives its place to another."""


@dataclass(slots=True, eq=False)
class Trial:
    """The attempts of an uninformed process on one client. The caller holds the lock of the `LocalCircuits`.

    Attributes:
        permit: the permit of the attempt in flight; None without one.
        since: when it was given, in seconds of the monotonic clock.
        attempts: attempts so far.
        succeeded: whether one of them was a success.
        waiters: futures of callers that wait for an outcome.
    """

    permit: Permit | None = None
    since: float = 0.0
    attempts: int = 0
    succeeded: bool = False
    waiters: list[StoreWait] = field(default_factory=list)

    def is_free(self, now: float, *, limited: bool) -> bool:
        """Return whether an attempt may begin now.

        Args:
            now: current time.
            limited: whether the first look is still under way, so that the number of attempts is limited.
        """
        if limited and self.attempts >= MAX_TRIALS:
            return False
        return self.permit is None or now - self.since >= TRIAL_SECONDS

    def begin(self, permit: Permit, now: float, *, limited: bool) -> Permit | StoreWait:
        """Return the permit of the next attempt, or the future of a wait for the one in flight.

        Args:
            permit: the permit that an informed process would give.
            now: current time.
            limited: as in `is_free`.
        """
        if not self.is_free(now, limited=limited):
            waiter = StoreWait()
            self.waiters.append(waiter)
            return waiter
        self.attempts += 1
        self.since = now
        # A copy: `end` knows the attempt by the identity of its permit.
        self.permit = replace(permit)
        return self.permit

    def end(self) -> list[StoreWait]:
        """End the attempt in flight. Return the futures of the callers that wait for it, to be completed without the lock."""
        self.permit = None
        return self.take_waiters()

    def take_waiters(self) -> list[StoreWait]:
        """Return the futures of the callers that wait, to be completed without the lock."""
        waiters, self.waiters = self.waiters, []
        return waiters
