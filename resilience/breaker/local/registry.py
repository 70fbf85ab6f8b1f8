"""Where callers and the exchange's thread meet: the ledgers, what is to be told and asked, and who waits for it.

All of it is guarded by one lock, held for moments only and never while the store is spoken to. While the store is away the
standby answers at the desk itself: nobody waits for the thread then.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Final

from resilience.breaker.local.circuit import LocalCircuit, ProbeRequest
from resilience.breaker.local.offline import OfflineCircuits
from resilience.breaker.local.pending_request import PendingRequest, finish, store_error
from resilience.breaker.messages import (
    FAILURES,
    Cooldown,
    EpochChange,
    Outcome,
    StepReply,
    StepRequest,
    Transition,
)
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.view import CircuitView, Permit
from resilience.clock import Clock

_LOOK_SECONDS: Final = 0.1  # an absent store is looked for again after so long, doubling each time,
_LOOK_MOST: Final = 2.0  # but no longer than this; both give or take a half

_logger = logging.getLogger("resilience")


class LocalCircuits:
    """The ledgers of one process, and the queue of what the thread is to do with them.

    Args:
        clock: time for durations.
        draw: random numbers from 0 to 1.
        hire: called under the lock when there is work and no thread that does it.
    """

    def __init__(self, clock: Clock, draw: Callable[[], float], hire: Callable[[], bool]) -> None:
        self.ledgers: dict[str, LocalCircuit] = {}
        self.closed = False
        self._clock = clock
        self._draw = draw
        self._hire = hire
        self.begin()

    def begin(self) -> None:
        """Start afresh: at first, and in the child of a fork, which inherits no lock, lease, view or untold result."""
        self.ledgers.clear()
        self.lock = threading.Lock()
        self.wake = threading.Condition(self.lock)
        self.away = self.closed
        self.due = math.inf
        self.last_turn = -math.inf
        self.moves: list[Transition] = []
        self.sightings: list[EpochChange] = []
        self._seen: dict[str, int] = {}
        self._dirty: dict[LocalCircuit, None] = {}
        self._errands: list[PendingRequest] = []
        self._standby = OfflineCircuits(self._clock)
        self._away_since = 0.0
        self._looks = 0

    # -- for callers, who hold no lock ------------------------------------------------------------------------------------------

    def ledger(self, client: str, policy: BreakerPolicy) -> LocalCircuit:
        """The client's ledger, made on first use."""
        with self.lock:
            ledger = self.ledgers.get(client)
            if ledger is None:
                ledger = self.ledgers[client] = LocalCircuit(client, policy)
                if self.away:
                    self._step_locally(ledger)
            return ledger

    def decide(self, ledger: LocalCircuit, policy: BreakerPolicy) -> Permit | None:
        """Give a permit by the view; None when only the store can tell, by lending a probe.

        Raises:
            CircuitOpenError: the view forbids it.
        """
        with self.lock:
            return ledger.decide(self._clock.monotonic(), policy)

    def refresh(self, ledger: LocalCircuit) -> Future[None]:
        """Have the view refreshed; the future is done when it is."""
        future: Future[None] = Future()
        with self.lock:
            if not self.away:
                ledger.waiters.append(future)
                self._touch(ledger, -math.inf)
            if self.away and not future.done():
                future.set_result(None)
        return future

    def ask(self, ledger: LocalCircuit, policy: BreakerPolicy) -> ProbeRequest | None:
        """Ask for a probe lease; None when another caller of this process is asking."""
        with self.lock:
            if ledger.ask is not None:
                return None
            ask = ledger.ask = ProbeRequest(os.urandom(8).hex(), Future(), policy)
            if self.away:
                self._step_locally(ledger)
            else:
                self._touch(ledger, -math.inf)
        return ask

    def take(self, ask: ProbeRequest) -> bool:
        """Was the lease granted? Without a reply yet the ask is withdrawn: a lease that comes later goes straight back."""
        with self.lock:
            ask.withdrawn = ask.reply is None
            return ask.reply is not None and ask.reply.granted

    def withdraw(self, ledger: LocalCircuit, ask: ProbeRequest) -> None:
        """Give back the lease that a cancelled caller was granted, or may still be."""
        if self.take(ask):
            self.tell(
                ledger, Permit(ledger.client, ledger.epoch, ask.token, ask.policy), Outcome.IGNORED, None, ""
            )

    def tell(
        self,
        ledger: LocalCircuit,
        permit: Permit,
        outcome: Outcome,
        cooldown: Cooldown | None,
        reason: str,
        *,
        retry: bool = False,
    ) -> bool:
        """Note a result, a cool-down, a retry; returns True if the circuit has moved on since the permit was given."""
        now = self._clock.monotonic()
        with self.lock:
            late = permit.epoch != ledger.epoch
            if permit.token:
                late = late or permit.token not in ledger.tokens
                ledger.tokens.discard(permit.token)
            if cooldown is not None:
                ledger.cool(permit, cooldown, now)
            if not late and (permit.token or outcome is not Outcome.IGNORED):
                ledger.add(permit, outcome, reason)
            else:
                ledger.purse.attempts += 1
            if retry:
                ledger.purse.spend()
            if ledger.runs or ledger.cooldowns or retry:
                urgent, failed = bool(permit.token or cooldown), retry or outcome in FAILURES
                self._tell_soon(ledger, now, urgent=urgent, failed=failed)
        return late

    def order(self, ledger: LocalCircuit, request: StepRequest) -> Future[StepReply]:
        """Carry out an operator's order; the future carries the reply or a `StoreError`."""
        future: Future[StepReply] = Future()
        with self.lock:
            if self.closed:
                future.set_exception(store_error(RuntimeError("closed")))
            else:
                self._errands.append(PendingRequest(ledger, request, answer=future))
                self.wake_by(-math.inf)
        return future

    # -- for the thread, under the lock -----------------------------------------------------------------------------------------

    def wake_by(self, due: float) -> None:
        """Have a turn made by then."""
        if due < self.due:
            self.due = due
            self.wake.notify()
        if not self.closed and not self._hire():
            finish(self.go_local())

    def collect(self, now: float) -> list[PendingRequest]:
        """Take everything that is to be told and asked; while the store is away, a look at every circuit when it is time."""
        self.last_turn = now
        errands, self._errands = self._errands, []
        look = self.away and self.due <= now and not self.closed
        if look or not self.away:
            self.due = math.inf
        if look:
            errands += [
                PendingRequest(each, StepRequest(client=each.client, policy=each.policy))
                for each in self.ledgers.values()
            ]
        dirty, self._dirty = self._dirty, {}
        for ledger in dirty:
            requests = [PendingRequest(ledger, request) for request in ledger.collect(self._draw)]
            requests[-1].ask = ledger.ask
            requests[-1].waiters, ledger.waiters = ledger.waiters, []
            errands += requests
        return errands

    def accept(self, errands: Sequence[PendingRequest], replies: Sequence[StepReply], asked: float) -> None:
        """Take the store's replies. If it was away it is back, and its word counts; what was counted locally stays local."""
        if self.away and (errands or not self.ledgers) and not self.closed:
            self.away = False
            _logger.info(
                "the store of circuits is back after %.1f s", self._clock.monotonic() - self._away_since
            )
            self._seen.clear()
            for ledger in self.ledgers.values():
                ledger.doubt()
        for errand, reply in zip(errands, replies, strict=True):
            self._load(errand, reply, asked)

    def fall_back(
        self, errands: Sequence[PendingRequest], error: Exception, asked: float
    ) -> list[PendingRequest]:
        """Let the standby answer a turn that failed: its results are counted here, and never told again.

        Returns:
            Errands of others who wait, to be finished with those of the turn.
        """
        self.lose(error)
        if self.away:
            return []
        self.away = True
        for errand in errands:
            if errand.answer is None and not errand.restores:
                self._load(errand, self._standby.step(errand.request), asked)
        return self.go_local()

    def lose(self, error: Exception) -> None:
        """The store did not answer: say so once, and look for it again later."""
        now = self._clock.monotonic()
        if not self.away:
            self._away_since, self._looks = now, 0
            told = (
                "the store of circuits is away (%s: %s); calls go on with the circuits of this process alone"
            )
            _logger.warning(told, type(error).__name__, error)
        wait = min(_LOOK_MOST, _LOOK_SECONDS * 2.0 ** min(self._looks, 10))
        self._looks += 1
        self.due = now + wait * (0.5 + self._draw())

    def go_local(self) -> list[PendingRequest]:
        """Hand every ledger to the standby; returns the errands of those who waited."""
        self.away = True
        self._dirty.clear()
        errands = []
        for ledger in self.ledgers.values():
            errands.append(
                PendingRequest(ledger, StepRequest(client=ledger.client), ledger.ask, ledger.waiters)
            )
            ledger.waiters = []
            self._step_locally(ledger)
        return errands

    # -- inside -----------------------------------------------------------------------------------------------------------------

    def _touch(self, ledger: LocalCircuit, due: float) -> None:
        self._dirty[ledger] = None
        self.wake_by(due)

    def _tell_soon(self, ledger: LocalCircuit, now: float, *, urgent: bool, failed: bool) -> None:
        if urgent:
            ledger.refused_until = -math.inf
        if self.away:
            self._step_locally(ledger)
            if self.due <= now:
                self.wake_by(now)  # the thread may never have come to be
        elif urgent:
            self._touch(ledger, -math.inf)
        else:
            self._touch(ledger, ledger.tell_by(now, failed=failed, last_turn=self.last_turn))

    def _step_locally(self, ledger: LocalCircuit) -> None:
        ask, now = ledger.ask, self._clock.monotonic()
        for request in ledger.collect(self._draw):
            self._load(
                PendingRequest(ledger, request, ask if request.token else None),
                self._standby.step(request),
                now,
            )

    def _load(self, errand: PendingRequest, reply: StepReply, asked: float) -> None:
        """Take a reply into the ledger, unless it shows that the store forgot what we know: then that is put back first."""
        ledger, now = errand.ledger, self._clock.monotonic()
        ledger.purse.unconfirmed -= errand.request.retries
        if reply.transitions:
            self.moves += [replace(move, shared=not self.away) for move in reply.transitions]
            self.wake.notify()  # while the store is away no turn may be due for seconds
        lost = None if self.away or errand.restores else ledger.restoration(reply, now)
        self._sight(ledger, reply, now, lost)
        if lost is not None:
            self._errands.append(PendingRequest(ledger, lost, restores=True))
            self.wake_by(-math.inf)
        else:
            shared = not self.away
            view = CircuitView.from_reply(
                ledger.client, reply, policy=ledger.policy, asked=asked, now=now, shared=shared
            )
            ledger.pace.follow(errand.request, reply, ledger.policy.max_staleness)
            ledger.load(view, reply, now, self._draw)
            if not self.away:
                ledger.shared_epoch = reply.epoch
                self._standby.learn(errand.request, reply)
        if errand.ask is not None:
            self._answer(ledger, errand.ask, reply, now)

    def _sight(self, ledger: LocalCircuit, reply: StepReply, now: float, lost: StepRequest | None) -> None:
        if self.away or self._seen.get(ledger.client) == reply.epoch:
            return
        self._seen[ledger.client] = reply.epoch
        self.sightings.append(
            EpochChange(
                client=ledger.client,
                epoch=reply.epoch,
                now_ms=reply.now_ms,
                at=now,
                known_epoch=ledger.shared_epoch,
                order=lost.order if lost else None,
            )
        )

    def _answer(self, ledger: LocalCircuit, ask: ProbeRequest, reply: StepReply, now: float) -> None:
        ask.reply, ledger.ask = reply, None
        if not reply.granted or reply.wait_ms > 0:  # none was left, or none is
            ledger.deny(reply, now, self._draw)
        if not reply.granted:
            return
        if not ask.withdrawn:
            ledger.tokens.add(ask.token)
        else:
            ledger.add(Permit(ledger.client, reply.epoch, ask.token, ask.policy), Outcome.IGNORED, "")
            self._tell_soon(ledger, now, urgent=True, failed=False)
