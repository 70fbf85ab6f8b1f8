"""A bench for circuits: one data with a time that tests hold, stores that fail on command, and processes driven by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from resilience.breaker import Breaker, Permit, Store
from resilience.breaker.circuit import step
from resilience.breaker.messages import (
    Batch,
    Cooldown,
    Operation,
    Order,
    Outcome,
    StepReply,
    StepRequest,
    Transition,
)
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitData
from resilience.errors import CircuitOpenError
from resilience.testing import ManualClock

START = 1_700_000_000_000
LENGTHS: dict[str, Any] = {"open_for": 30.0, "open_growth": 2.0, "open_max": 300.0, "open_jitter": 0.0}
"""Lengths of openings that are easy to follow: each twice as long as the one before."""

T = TypeVar("T")


class Bench:
    """One circuit, driven by hand. Every verb is one step, as a process would take it."""

    def __init__(self, **policy: Any) -> None:
        self.policy = BreakerPolicy(**{**LENGTHS, **policy})
        self.data = CircuitData()
        self.now = START
        self.replies: list[StepReply] = []

    def step(self, **request: Any) -> StepReply:
        request.setdefault("policy", self.policy)
        self.data, reply = step(self.data, self.now, StepRequest(client="A", **request))
        self.replies.append(reply)
        return reply

    def later(self, seconds: float) -> Bench:
        self.now += round(1000 * seconds)
        return self

    def view(self) -> StepReply:
        return self.step()

    def tell(
        self, *runs: tuple[Outcome, int], epoch: int | None = None, lease: str = "", reason: str = "timeout"
    ) -> StepReply:
        return self.step(batches=(Batch(self.data.epoch if epoch is None else epoch, runs, lease, reason),))

    def fail(self, count: int = 1, **fields: Any) -> StepReply:
        return self.tell((Outcome.FAILURE, count), **fields)

    def succeed(self, count: int = 1, **fields: Any) -> StepReply:
        return self.tell((Outcome.SUCCESS, count), **fields)

    def ask(self, token: str) -> StepReply:
        return self.step(token=token)

    def cool(
        self,
        seconds: float,
        *,
        max_seconds: float = 300.0,
        doubling: bool = False,
        reason: str = "rate_limit",
        epoch: int | None = None,
    ) -> StepReply:
        cooldown = Cooldown(seconds=seconds, max_seconds=max_seconds, doubling=doubling, reason=reason)
        return self.step(cooldowns=((self.data.epoch if epoch is None else epoch, cooldown),))

    def order(self, operation: Operation, seconds: float | None = None, **order: Any) -> StepReply:
        return self.step(
            order=Order(
                **{"operation": operation, "actor": "ann", "reason": "bill", "seconds": seconds, **order}
            )
        )

    def trip(self) -> StepReply:
        return self.fail(self.policy.consecutive_failures)

    def half_open(self, lease: str = "t1") -> StepReply:
        self.trip()
        self.later(self.policy.open_for)
        return self.ask(lease)


class FragileStore:
    """Another store, that fails on command and remembers what it was asked."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.shared = inner.shared
        self.error: Exception | None = None
        self.single: Exception | None = None
        self.asked: list[StepRequest] = []
        self.steps = 0
        self.disconnected = 0
        self.closed = 0

    def step(self, requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]:
        self.steps += 1
        if self.error is not None:
            raise self.error
        self.asked += requests
        return [self.single] if self.single is not None else self.inner.step(requests)

    def transitions(self, after: str = "") -> list[Transition]:
        if self.error is not None:
            raise self.error
        return self.inner.transitions(after)

    def names(self) -> list[str]:
        return self.inner.names()

    def forget(self, client: str) -> bool:
        return self.inner.forget(client)

    def disconnect(self) -> None:
        self.disconnected += 1
        self.inner.disconnect()

    def close(self) -> None:
        self.closed += 1
        self.inner.close()


class Agent:
    """A process of the fleet, whose background thread the test plays: a turn is made when one is due, and not otherwise."""

    def __init__(self, store: Store, clock: ManualClock, jitter_sample: float = 0.5, **breaker: Any) -> None:
        breaker.setdefault("policy", BreakerPolicy(open_jitter=0.0))
        self.clock = clock
        self.moves: list[Transition] = []
        self.breaker = Breaker(
            store, clock=clock, random=lambda: jitter_sample, on_transition=self.moves.append, **breaker
        )
        self.breaker._circuits._start_thread = lambda: None

    def turn(self) -> None:
        self.breaker._sync_worker.sync_once()

    def settle(self, permit: Permit, outcome: Outcome = Outcome.SUCCESS, **fields: Any) -> bool:
        """Settle, and let the thread tell what it would tell within a few milliseconds."""
        late = self.breaker.settle(permit, outcome, **fields)
        if self.breaker._circuits.due <= self.clock.monotonic() + 0.005:
            self.turn()
        return late

    def turn_if_due(self) -> None:
        while self.breaker._circuits.due <= self.clock.monotonic():
            self.turn()

    async def drive(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, making the turns it waits for."""
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.sleep(0)
            self.turn_if_due()
        return task.result()

    async def admit(self, client: str = "A", policy: BreakerPolicy | None = None) -> Permit:
        # As a call does: it waits, and needs turns, only where the permit is not free.
        if policy is None and (permit := self.breaker.free_permit(client)) is not None:
            return permit
        return await self.drive(self.breaker.admit(client, policy))

    async def refusal(self, client: str = "A") -> CircuitOpenError | None:
        """The refusal a call gets; None when it is admitted, and then it is settled as ignored."""
        try:
            permit = await self.admit(client)
        except CircuitOpenError as refusal:
            return refusal
        self.settle(permit, Outcome.IGNORED)
        return None

    async def fail(self, count: int = 1, reason: str = "timeout") -> None:
        for _ in range(count):
            self.settle(await self.admit(), Outcome.FAILURE, reason=reason)
