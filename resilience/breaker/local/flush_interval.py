"""How soon a process tells a circuit what there is to tell: a pace that follows what the replies say.

While replies are healthy, the interval between tellings of successes doubles, from FLUSH_SECONDS to what keeps the view fresh; a
failure, a transition or a cool-down brings it back. Failures are told GAP_SECONDS apart at first; when eight tellings of them have
moved nothing the gap doubles with each, up to FLUSH_SECONDS; a telling without one brings it back. So a process sends a circuit some
ten steps a second, however many calls it makes and however many of them fail.

While failures are told promptly, the next call of the process waits for the answer to them, a round trip: others may have failed too,
and the circuit be open. That keeps late calls out when a fleet meets an outage. The price of the slower gap: in a long stream of
failures, the one that opens the circuit may be told FLUSH_SECONDS late, and calls are admitted until then; unless this process can
tell by itself that it opens, for then its next call asks before it goes.
"""

from __future__ import annotations

from typing import Final

from resilience.breaker.messages import FAILURES, StepReply, StepRequest
from resilience.breaker.state import CircuitState

FLUSH_SECONDS: Final = 0.1
"""Successes are told so late, until replies are healthy; failures never later, while the store answers."""
FLUSH_MOST: Final = 2.0
"""Successes are told so late at most, where `max_staleness` allows it."""
GAP_SECONDS: Final = 0.005
"""The gap between turns that only tell failures, until they go on and on."""
_FRESH: Final = 0.8  # of max_staleness: a telling after so long still renews the view in time
_PROMPT: Final = 8  # tellings of failures in a row for which the gap stays so: enough to trip
_STEADY: Final = 100  # by then the gap has long ceased to grow


class FlushInterval:
    """The pace of one process's tellings to one circuit.

    Attributes:
        interval: seconds between tellings of successes.
        failing: tellings of failures in a row that moved nothing.
    """

    __slots__ = ("failing", "interval")

    def __init__(self) -> None:
        self.interval = FLUSH_SECONDS
        self.failing = 0

    @property
    def gap(self) -> float:
        """Seconds between turns that tell failures."""
        return min(FLUSH_SECONDS, GAP_SECONDS * 2.0 ** max(0, self.failing - _PROMPT))

    @property
    def prompt(self) -> bool:
        """Are failures so rare, or so new, that a call may wait for the answer to the last one?"""
        return self.failing < _PROMPT

    def follow(self, told: StepRequest, reply: StepReply, max_staleness: float) -> None:
        """Choose the pace by what was told and what was replied; a circuit that has moved asks for a new `Pace` instead."""
        failed = any(outcome in FAILURES for batch in told.batches for outcome, _ in batch.runs)
        self.failing = min(self.failing + 1, _STEADY) if failed else 0
        calm = reply.state is CircuitState.CLOSED and not (failed or reply.cooldown_ms or reply.streak)
        longest = max(FLUSH_SECONDS, min(FLUSH_MOST, _FRESH * max_staleness))
        self.interval = min(2 * self.interval, longest) if calm else FLUSH_SECONDS
