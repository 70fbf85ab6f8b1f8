"""The one background thread between this process's ledgers and the store.

All store I/O happens on it, one `Store.step` a turn: results are written behind, failures at once, and each reply is the refresh of a
view. Callers never touch the store: they read a ledger, or wait on a future for a bounded time. When the store fails, the standby
circuits decide, without the thread and without waiting, until a look from the thread finds the store again.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from resilience.breaker import lifecycle
from resilience.breaker.ledger import Ask, Ledger
from resilience.breaker.messages import FAILURES, Cooldown, Outcome, StepReply, StepRequest, Transition
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.standby import Standby
from resilience.breaker.store import Store
from resilience.breaker.view import Permit, View
from resilience.clock import Clock
from resilience.errors import StoreError

FLUSH_SECONDS: Final = 0.1
"""Successes are told so late at most, while the store answers."""
_GAP_SECONDS: Final = 0.005  # between turns that only tell failures
_RETRY_SECONDS, _RETRY_MOST = (
    0.1,
    2.0,
)  # the store is looked for again after 0.1 * 2**n s, at most 2 s, give or take a half
_EXIT_SECONDS: Final = 0.25
_FORK_SECONDS: Final = 0.5

T = TypeVar("T")
Draw = Callable[[], float]
_logger = logging.getLogger("resilience")


@dataclass(slots=True)
class _Errand:
    """One request of a turn and those who wait for its reply."""

    ledger: Ledger
    request: StepRequest
    ask: Ask | None = None
    waiters: list[Future[None]] = field(default_factory=list)
    answer: Future[StepReply] | None = None
    """For an operator's order, which is never carried out locally."""
    restores: bool = False


@dataclass(slots=True)
class _Job:
    """Something else the thread is to do with the store, for a caller that wants its result or its error."""

    work: Callable[[Store], Any]
    future: Future[Any]


class Exchange:
    """Owns the store, the ledgers and the thread.

    Args:
        store: the store; closed with the exchange.
        clock: time for durations; the store has its own.
        draw: random numbers from 0 to 1.
        budget: how long a caller waits for the store at most, in seconds.
        on_transition: told of each transition this process caused, on the thread.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        draw: Draw,
        budget: float,
        on_transition: Callable[[Transition], None] | None,
    ) -> None:
        self.ledgers: dict[str, Ledger] = {}
        self.away = False
        self.closed = False
        self._store = store
        self._clock = clock
        self._draw = draw
        self._budget = budget
        self._on_transition = on_transition
        self._begin()
        lifecycle.watch(self)

    def _begin(self) -> None:
        """Everything that must not outlive a fork."""
        self.ledgers.clear()
        self.away = self.closed
        self.lock = threading.Lock()
        self._io = threading.Lock()
        self._wake = threading.Condition(self.lock)
        self._thread: threading.Thread | None = None
        self._dirty: dict[Ledger, None] = {}
        self._jobs: list[_Job] = []
        self._errands: list[_Errand] = []
        self._held: dict[int, list[threading.Lock]] = {}
        self._moves: list[Transition] = []
        self._standby = Standby(self._clock)
        self._due = math.inf
        self._turn_began: float | None = None
        self._turn_ended = -math.inf
        self._failed_looks = 0
        self._away_since = 0.0
        self._look_at = math.inf

    # -- for callers ------------------------------------------------------------------------------------------------------------

    def ledger(self, client: str, policy: BreakerPolicy) -> Ledger:
        """The client's ledger, made on first use."""
        with self.lock:
            ledger = self.ledgers.get(client)
            if ledger is None:
                ledger = self.ledgers[client] = Ledger(client, policy)
                if self.away:
                    self._step_locally(ledger)
            return ledger

    def decide(self, ledger: Ledger, policy: BreakerPolicy) -> Permit | None:
        """Give a permit by the view; None when only the store can tell, by lending a probe.

        Raises:
            CircuitOpenError: the view forbids it.
        """
        with self.lock:
            return ledger.decide(self._clock.monotonic(), policy)

    def patience(self) -> float:
        """How long a caller may still wait: the budget, less what the turn under way has used of it."""
        began = self._turn_began
        return self._budget if began is None else max(0.0, began + self._budget - self._clock.monotonic())

    def refresh(self, ledger: Ledger) -> Future[None]:
        """Have the view refreshed; the future is done when it is."""
        future: Future[None] = Future()
        with self.lock:
            if self.away:
                future.set_result(None)
            else:
                ledger.waiters.append(future)
                self._touch(ledger, -math.inf)
        return future

    def ask(self, ledger: Ledger, policy: BreakerPolicy) -> Ask | None:
        """Ask for a probe lease; None when another caller of this process is asking."""
        with self.lock:
            if ledger.ask is not None:
                return None
            ask = ledger.ask = Ask(os.urandom(8).hex(), Future(), policy)
            if self.away:
                self._step_locally(ledger)
            else:
                self._touch(ledger, -math.inf)
        return ask

    def take(self, ask: Ask) -> bool:
        """Was the lease granted? Without a reply yet the ask is withdrawn: a lease that comes later goes straight back."""
        with self.lock:
            ask.withdrawn = ask.reply is None
            return ask.reply is not None and ask.reply.permit

    def withdraw(self, ledger: Ledger, ask: Ask) -> None:
        """Give back the lease that a cancelled caller was granted, or may still be."""
        if self.take(ask):
            self.tell(
                ledger, Permit(ledger.client, ledger.epoch, ask.token, ask.policy), Outcome.IGNORED, None, ""
            )

    def tell(
        self, ledger: Ledger, permit: Permit, outcome: Outcome, cooldown: Cooldown | None, reason: str
    ) -> bool:
        """Note a result, and a cool-down; returns True if the circuit has moved on since the permit was given."""
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
            if ledger.runs or ledger.cooldowns:
                self._tell_soon(
                    ledger, now, urgent=bool(permit.token or cooldown), failed=outcome in FAILURES
                )
        return late

    def run(self, work: Callable[[Store], T]) -> Future[T]:
        """Do something else with the store, on the thread; the future carries its result or a `StoreError`."""
        future: Future[T] = Future()
        with self.lock:
            if self.closed:
                future.set_exception(_store_error(RuntimeError("closed")))
            else:
                self._jobs.append(_Job(work, future))
                self._wake_by(-math.inf)
        return future

    def order(self, ledger: Ledger, request: StepRequest) -> Future[StepReply]:
        """Carry out an operator's order; the future carries the reply or a `StoreError`."""
        future: Future[StepReply] = Future()
        with self.lock:
            if self.closed:
                future.set_exception(_store_error(RuntimeError("closed")))
            else:
                self._errands.append(_Errand(ledger, request, answer=future))
                self._wake_by(-math.inf)
        return future

    def flush(self, timeout: float) -> bool:
        """Wait until everything told so far has reached the store; False when it has not within *timeout* seconds."""
        if self._thread is None or self.away or self._thread is threading.current_thread():
            return not self.away
        try:
            self.run(_nothing).result(timeout)
        except (TimeoutError, StoreError):
            return False
        return True

    def close(self) -> None:
        """Tell what is left, within a quarter of a second, end the thread and close the store. Calls go on locally."""
        if self.closed:
            return
        self.flush(_EXIT_SECONDS)
        with self.lock:
            self.closed, thread = True, self._thread
            self._wake.notify()
        if thread is None:
            self._store.close()
        elif thread is not threading.current_thread():
            thread.join(_EXIT_SECONDS)
        with self.lock:
            finished = self._go_local()
        _finish(finished)

    # -- under the lock ---------------------------------------------------------------------------------------------------------

    def _tell_soon(self, ledger: Ledger, now: float, *, urgent: bool, failed: bool) -> None:
        if self.away:
            self._step_locally(ledger)
            if self._thread is None and now >= self._look_at:
                self._wake_by(now)
        elif urgent:
            ledger.refused_until = -math.inf
            self._touch(ledger, -math.inf)
        else:
            self._touch(ledger, self._turn_ended + _GAP_SECONDS if failed else now + FLUSH_SECONDS)

    def _touch(self, ledger: Ledger, due: float) -> None:
        self._dirty[ledger] = None
        self._wake_by(due)

    def _wake_by(self, due: float) -> None:
        if due < self._due:
            self._due = due
            self._wake.notify()
        if self._thread is None and not self.closed:
            self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._serve, name="resilience-exchange", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:  # no more threads, or the interpreter is shutting down
            self._lose(exc)
            _finish(self._go_local())
        else:
            self._thread = thread
            lifecycle.close_at_exit()

    def _load(self, errand: _Errand, reply: StepReply, *, asked: float) -> None:
        """Take a reply into the ledger, unless it shows that the store forgot what we know: then that is put back first."""
        ledger, now = errand.ledger, self._clock.monotonic()
        self._moves += (
            reply.transitions
            if not self.away
            else [replace(move, shared=False) for move in reply.transitions]
        )
        lost = None if self.away or errand.restores else ledger.restoration(reply, now)
        if lost is not None:
            self._errands.append(_Errand(ledger, lost, restores=True))
            self._wake_by(-math.inf)
        else:
            view = View.of(ledger.client, reply, asked=asked, now=now, shared=not self.away)
            ledger.load(view, reply, now, self._draw)
            if not self.away:
                ledger.shared_epoch = reply.epoch
                self._standby.learn(errand.request, reply)
        if errand.ask is not None:
            self._answer(ledger, errand.ask, reply, now)

    def _answer(self, ledger: Ledger, ask: Ask, reply: StepReply, now: float) -> None:
        ask.reply, ledger.ask = reply, None
        if not reply.permit:
            ledger.deny(reply, now, self._draw)
            return
        ledger.tokens.add(ask.token)
        if ask.withdrawn:
            ledger.tokens.discard(ask.token)
            ledger.add(Permit(ledger.client, reply.epoch, ask.token, ask.policy), Outcome.IGNORED, "")
            self._tell_soon(ledger, now, urgent=True, failed=False)

    # -- while the store is away, under the lock --------------------------------------------------------------------------------

    def _lose(self, error: Exception) -> None:
        """The store did not answer: the standby decides from now on, and the thread looks for the store again later."""
        now = self._clock.monotonic()
        if not self.away:
            self._away_since, self._failed_looks = now, 0
            _logger.warning(
                "the store of circuits is away (%s: %s); calls go on with the circuits of this process alone",
                type(error).__name__,
                error,
            )
        wait = min(_RETRY_MOST, _RETRY_SECONDS * 2.0 ** min(self._failed_looks, 10)) * (0.5 + self._draw())
        self._failed_looks += 1
        self._look_at = now + wait

    def _go_local(self) -> list[_Errand]:
        """Hand every ledger to the standby; returns the errands of those who waited, to be finished outside the lock."""
        self.away = True
        self._dirty.clear()
        errands = []
        for ledger in self.ledgers.values():
            errands.append(_Errand(ledger, StepRequest(client=ledger.client), ledger.ask, ledger.waiters))
            ledger.waiters = []
            self._step_locally(ledger)
        return errands

    def _step_locally(self, ledger: Ledger) -> None:
        ask, now = ledger.ask, self._clock.monotonic()
        for request in ledger.collect(self._draw):
            reply = self._standby.step(request)
            self._load(_Errand(ledger, request, ask if request.token else None), reply, asked=now)
        if self._moves and self._thread is not None:
            self._wake_by(-math.inf)

    def _return(self) -> None:
        """The store answered again: its word counts, and what this process counted alone stays its own."""
        self.away, self._look_at = False, math.inf
        for ledger in self.ledgers.values():
            ledger.doubt()
        _logger.info("the store of circuits is back after %.1f s", self._clock.monotonic() - self._away_since)

    # -- the thread -------------------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while self._awaited():
            self.turn()
        if self._dirty:
            self.turn()
        with contextlib.suppress(Exception):
            self._store.close()

    def _awaited(self) -> bool:
        """Wait until a turn is due; False when the exchange is closed."""
        with self.lock:
            while not self.closed:
                left = min(self._due, self._look_at if self.away else math.inf) - self._clock.monotonic()
                if left <= 0:
                    return True
                self._wake.wait(None if math.isinf(left) else left)
            return False

    def turn(self) -> None:
        """Tell and ask everything that is due, once."""
        with self.lock:
            asked = self._turn_began = self._clock.monotonic()
            errands, jobs = self._collect(asked)
        error, replies = self._consult([errand.request for errand in errands], jobs)
        with self.lock:
            if error is None:
                if self.away and errands and not self.closed:
                    self._return()
                for errand, reply in zip(errands, replies, strict=True):
                    self._load(errand, reply, asked=asked)
            else:
                errands += self._fall_back(errands, error, asked)
            self._turn_began, self._turn_ended = None, self._clock.monotonic()
            moves, self._moves = self._moves, []
        _finish(errands, replies, error)
        for move in moves:
            self._announce(move)

    def _collect(self, now: float) -> tuple[list[_Errand], list[_Job]]:
        errands, self._errands = self._errands, []
        jobs, self._jobs = self._jobs, []
        self._due = math.inf
        if self.away:
            if now >= self._look_at:
                errands += [
                    _Errand(each, StepRequest(client=each.client, policy=each.policy))
                    for each in self.ledgers.values()
                ]
            return errands, jobs
        dirty, self._dirty = self._dirty, {}
        for ledger in dirty:
            requests = [_Errand(ledger, request) for request in ledger.collect(self._draw)]
            requests[-1].ask = ledger.ask
            requests[-1].waiters, ledger.waiters = ledger.waiters, []
            errands += requests
        return errands, jobs

    def _consult(
        self, requests: Sequence[StepRequest], jobs: Sequence[_Job]
    ) -> tuple[Exception | None, Sequence[StepReply]]:
        error: Exception | None = None
        replies: list[StepReply] = []
        with self._io:
            try:
                for reply in self._store.step(requests) if requests else ():
                    if isinstance(reply, Exception):
                        raise reply  # noqa: TRY301 - one circuit's error is the store's error
                    replies.append(reply)
            except Exception as exc:  # noqa: BLE001 - whatever a store raises, calls go on
                error = exc
            for job in jobs:
                self._do(job, error)
        return error, replies

    def _do(self, job: _Job, error: Exception | None) -> None:
        if not job.future.set_running_or_notify_cancel():
            return
        if error is not None:
            job.future.set_exception(_store_error(error))
            return
        try:
            job.future.set_result(job.work(self._store))
        except Exception as exc:  # noqa: BLE001 - the one who asked gets it
            job.future.set_exception(_store_error(exc))

    def _fall_back(self, errands: list[_Errand], error: Exception, asked: float) -> list[_Errand]:
        """Let the standby answer a turn that failed; its results are counted here and never told again."""
        was_away = self.away
        self._lose(error)
        if was_away:
            return []
        self.away = True
        for errand in errands:
            if errand.answer is None and not errand.restores:
                self._load(errand, self._standby.step(errand.request), asked=asked)
        return self._go_local()

    def _announce(self, move: Transition) -> None:
        if self._on_transition is None:
            return
        try:
            self._on_transition(move)
        except Exception:
            _logger.exception("the on_transition hook failed for %s", move.client)

    # -- forks ------------------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Let the store go and hold still; a store that hangs is not waited for."""
        held = self._held[threading.get_ident()] = []
        if self._io.acquire(timeout=_FORK_SECONDS):
            held.append(self._io)
            with contextlib.suppress(Exception):
                self._store.park()
        if self.lock.acquire(timeout=_FORK_SECONDS):
            held.append(self.lock)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        for lock in self._held.pop(threading.get_ident(), ()):
            lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew: the parent keeps its thread, its leases and what it has not told yet."""
        self._begin()


def _finish(
    errands: Sequence[_Errand], replies: Sequence[StepReply] = (), error: Exception | None = None
) -> None:
    """Release those who wait. Their futures run no code of ours, but waking a loop costs, so not under the lock."""
    for place, errand in enumerate(errands):
        for future in [*errand.waiters, *([errand.ask.future] if errand.ask else ())]:
            if not future.done() and future.set_running_or_notify_cancel():
                future.set_result(None)
        answer = errand.answer
        if answer is not None and answer.set_running_or_notify_cancel():
            if error is None:
                answer.set_result(replies[place])
            else:
                answer.set_exception(_store_error(error))


def _store_error(cause: Exception) -> StoreError:
    error = StoreError(f"the store of circuits cannot be used ({type(cause).__name__}: {cause})")
    error.__cause__ = cause
    return error


def _nothing(_: Store) -> None:
    """A job that only waits for its turn."""
