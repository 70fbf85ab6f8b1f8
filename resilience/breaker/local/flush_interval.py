"""How long a process waits before it sends pending results of a circuit: an interval that adapts to the replies.

While replies are healthy, the interval between flushes of successes doubles, from FLUSH_SECONDS to the longest that keeps the
view fresh. A failure, a transition or a cool-down resets it. Failures are flushed FAILURE_GAP apart at first. After eight
flushes with failures that did not move the circuit, the gap doubles with each further one, up to FLUSH_SECONDS. A flush
without a failure resets it. So a process sends about ten steps a second for each circuit, independent of how many calls it
makes and how many of them fail.

While failures are flushed promptly, the next call of the process waits one round trip for the reply to them, because other
processes may have failed too and the circuit may be open. That keeps late calls out when a fleet runs into an outage. The
longer gap has a price: in a long stream of failures, the one that opens the circuit may be sent FLUSH_SECONDS late, and calls
are admitted until then. The exception is an opening that this process can foresee, for then its next call waits for the reply.
"""

from __future__ import annotations

from typing import Final

from resilience.breaker.messages import FAILURES, StepReply, StepRequest
from resilience.breaker.state import CircuitState

FLUSH_SECONDS: Final = 0.1
"""Delay of successes until replies are healthy, and the longest delay of failures while the store answers, in seconds."""
FLUSH_MAX: Final = 2.0
"""Longest delay of successes in seconds, where `max_staleness` allows it."""
FAILURE_GAP: Final = 0.005
"""Shortest time between flushes that only send failures, in seconds."""
_FRESH_SHARE: Final = (
    0.8  # of max_staleness: a flush after that time still renews the view before it is stale
)
_PROMPT_FLUSHES: Final = 8  # consecutive flushes with failures at the shortest gap: enough to open a circuit
_FAILING_MAX: Final = 100  # keeps the exponent small; the gap reached its maximum long before


class FlushInterval:
    """The adaptive flush interval of one process for one circuit.

    Attributes:
        interval: seconds between flushes of successes.
        failing_flushes: consecutive flushes with failures that did not move the circuit.
    """

    __slots__ = ("failing_flushes", "interval")

    def __init__(self) -> None:
        self.interval = FLUSH_SECONDS
        self.failing_flushes = 0

    @property
    def failure_gap(self) -> float:
        """Seconds between flushes of failures."""
        return min(FLUSH_SECONDS, FAILURE_GAP * 2.0 ** max(0, self.failing_flushes - _PROMPT_FLUSHES))

    @property
    def prompt(self) -> bool:
        """Whether failures are rare or recent enough that a call may wait for the reply to the last one."""
        return self.failing_flushes < _PROMPT_FLUSHES

    def update(self, request: StepRequest, reply: StepReply, max_staleness: float) -> None:
        """Adapt to a flush and its reply. A circuit whose epoch has changed gets a new `FlushInterval` instead.

        Args:
            request: what was sent.
            reply: what the store replied.
            max_staleness: seconds for which a view decides without a refresh.
        """
        failed = any(outcome in FAILURES for batch in request.batches for outcome, _ in batch.runs)
        self.failing_flushes = min(self.failing_flushes + 1, _FAILING_MAX) if failed else 0
        healthy = reply.state is CircuitState.CLOSED and not (failed or reply.cooldown_ms or reply.streak)
        longest = max(FLUSH_SECONDS, min(FLUSH_MAX, _FRESH_SHARE * max_staleness))
        self.interval = min(2 * self.interval, longest) if healthy else FLUSH_SECONDS
