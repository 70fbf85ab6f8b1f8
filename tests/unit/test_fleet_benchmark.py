"""What the fleet's benchmark counts: when a lease may end, and when its prober may begin."""

from __future__ import annotations

from benchmarks.fleet import next_probe
from benchmarks.guards import Work
from benchmarks.players import Call, open_circuit
from resilience.errors import CircuitOpenError


class SlowToHear:
    """A guard whose circuit opens long before this process hears of it."""

    refusals: tuple[type[BaseException], ...] = (CircuitOpenError,)

    def __init__(self, admitted: int) -> None:
        self.admitted = admitted

    async def warm(self) -> None:
        """Do nothing."""

    async def call(self, work: Work) -> None:
        """Admit the first calls, refuse the others."""
        self.admitted -= 1
        if self.admitted < 0:
            client = "A"
            raise CircuitOpenError(client, reason="overloaded")
        await work()

    async def close(self) -> None:
        """Do nothing."""


async def test_the_prober_waits_for_a_refusal() -> None:
    """It fails until a call is refused, however late its process hears that the circuit is open: before, no call is a probe."""
    guard = SlowToHear(60)
    await open_circuit(guard)

    assert guard.admitted == -1


def test_a_call_is_early_if_the_lease_was_certainly_held() -> None:
    """The next call counts from the earliest end of the lease. What began more than the grace before that was let in too early."""
    calls = [Call(1, began, began + 0.01, answered=True) for began in (9.5, 9.995, 10.25)]

    assert next_probe(calls, 10.0) == (0.0, 1)
    assert next_probe(calls[2:], 10.0) == (0.25, 0)
    assert next_probe([], 10.0) == (None, 0)
