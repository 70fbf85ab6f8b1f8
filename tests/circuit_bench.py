"""A bench for circuits: one document, a time that tests hold, and short words for what processes tell it."""

from __future__ import annotations

from typing import Any

from resilience.breaker.circuit import step
from resilience.breaker.document import Document
from resilience.breaker.messages import Batch, Cooldown, Operation, Order, Outcome, StepReply, StepRequest
from resilience.breaker.policy import BreakerPolicy

START = 1_700_000_000_000


class Bench:
    """One circuit, driven by hand. Every verb is one step, as a process would take it."""

    def __init__(self, **policy: Any) -> None:
        self.policy = BreakerPolicy(**{"open_jitter": 0.0, **policy})
        self.document = Document()
        self.now = START
        self.replies: list[StepReply] = []

    def step(self, **request: Any) -> StepReply:
        request.setdefault("policy", self.policy)
        self.document, reply = step(self.document, self.now, StepRequest(client="A", **request))
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
        return self.step(
            batches=(Batch(self.document.epoch if epoch is None else epoch, runs, lease, reason),)
        )

    def fail(self, count: int = 1, **told: Any) -> StepReply:
        return self.tell((Outcome.FAILURE, count), **told)

    def succeed(self, count: int = 1, **told: Any) -> StepReply:
        return self.tell((Outcome.SUCCESS, count), **told)

    def ask(self, token: str) -> StepReply:
        return self.step(token=token)

    def cool(
        self,
        seconds: float,
        *,
        cap: float = 300.0,
        growing: bool = False,
        reason: str = "rate_limit",
        epoch: int | None = None,
    ) -> StepReply:
        cooldown = Cooldown(seconds=seconds, cap=cap, growing=growing, reason=reason)
        return self.step(cooldowns=((self.document.epoch if epoch is None else epoch, cooldown),))

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
