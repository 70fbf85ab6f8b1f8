"""An errand: one request on its way to the store, and those who wait for what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from resilience.breaker.local.circuit import LocalCircuit, ProbeRequest
from resilience.breaker.messages import StepReply, StepRequest
from resilience.errors import StoreError


@dataclass(slots=True)
class PendingRequest:
    """One request to the store, and who waits for its reply.

    Attributes:
        ledger: whose it is.
        request: what is told and asked.
        ask: the probe it asks for.
        waiters: callers who wait for the view.
        answer: where an operator's order wants its reply; orders are never carried out locally.
        restores: it puts back what the store forgot.
    """

    ledger: LocalCircuit
    request: StepRequest
    ask: ProbeRequest | None = None
    waiters: list[Future[None]] = field(default_factory=list)
    answer: Future[StepReply] | None = None
    restores: bool = False


def finish(
    errands: Sequence[PendingRequest], replies: Sequence[StepReply] = (), error: Exception | None = None
) -> None:
    """Release those who wait. Their futures run no code of ours, but waking a loop costs, so better not under the lock."""
    for place, errand in enumerate(errands):
        for future in (*errand.waiters, *((errand.ask.future,) if errand.ask else ())):
            if not future.done() and future.set_running_or_notify_cancel():
                future.set_result(None)
        answer = errand.answer
        if answer is not None and answer.set_running_or_notify_cancel():
            if error is None:
                answer.set_result(replies[place])
            else:
                answer.set_exception(store_error(error))


def store_error(cause: Exception) -> StoreError:
    """What an operator's command gets when the store cannot be used."""
    error = StoreError(f"the store of circuits cannot be used ({type(cause).__name__}: {cause})")
    error.__cause__ = cause
    return error
