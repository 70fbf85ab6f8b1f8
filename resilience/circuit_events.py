"""Keeps SQL's account of the circuits whole, and gives back to the store what it forgot.

Two threads do it, and neither waits for the other: SQL work is the recorder's, store work the exchange's. What needs both is a
chain of steps, each of which hands its result to the next thread; a step that fails ends its chain, and a later one begins anew.

- A move this process caused is a record at once.
- When a reply shows an epoch that is new here, some process moved the circuit, and may have been killed before it wrote that down:
  a second or so later this process asks for the turn to copy the store's log into SQL. Only one a second gets it. Once in a while
  each process asks anyway, so that a fleet that has gone quiet is complete too, and signs that it lives.
- When a reply shows a circuit without memory, or with an older one than this process saw before, SQL is asked for its last move. An
  order of an operator that still holds, or an opening with time left, is put back; the store accepts that only from the first who
  comes.
"""

from __future__ import annotations

import logging
import math
import os
import random as _random
from collections.abc import Generator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from resilience.breaker import Breaker, CircuitState, EpochChange, Operation, Order, Transition
from resilience.clock import Clock
from resilience.errors import HistoryError, StoreError
from resilience.history import Recorder, TransitionRecord
from resilience.history.store import transitions
from resilience.redaction import redact

Steps = Generator[Future[Any], Any, None]

_OVERRIDES: Final = {
    CircuitState.FORCED_OPEN: Operation.OPEN,
    CircuitState.DISABLED: Operation.DISABLE,
}

_logger = logging.getLogger("resilience")


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySchedule:
    """How often a process looks after the fleet's moves, in seconds.

    Attributes:
        turn: nobody copies the log sooner than this after another did.
        soon: how long after seeing a move it asks for the turn, from and to; not less than *turn*, so that whoever had the turn in
            between has copied that move.
        rare: how long it is between asking anyway, from and to.
        again: the first and the longest wait for a history that cannot be asked what it remembers.
    """

    turn: float = 1.0
    soon: tuple[float, float] = (1.0, 3.0)
    rare: tuple[float, float] = (30.0, 60.0)
    again: tuple[float, float] = (1.0, 60.0)


class CircuitEventLog:
    """What one process does for the history of the circuits.

    Args:
        recorder: keeps records, and does the SQL work.
        namespace: the deployment whose circuits these are.
        shared: do other processes use the same store? Circuits of this process alone are kept under its own name, and there is
            nothing to copy or to put back.
        clock: for stamps and durations.
        pace: how often it looks.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        namespace: str,
        shared: bool,
        clock: Clock,
        pace: CopySchedule | None = None,
    ) -> None:
        self._recorder = recorder
        self._namespace = namespace
        self._shared = shared
        self._clock = clock
        self._pace = pace or CopySchedule()
        self._job = f"transitions:{namespace}"
        self._breaker: Breaker | None = None
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._waiting = self._patrolling = False
        self._epochs: dict[str, int] = {}

    def attend(self, breaker: Breaker) -> None:
        """Look after the circuits of *breaker*, whose `on_transition` and `on_sight` are `tell` and `see`."""
        self._breaker = breaker

    @property
    def degraded(self) -> bool:
        """Is the store away for this process?"""
        return self._breaker is not None and self._breaker.degraded

    # -- on the exchange's thread -----------------------------------------------------------------------------------------------

    def tell(self, move: Transition) -> None:
        """Keep a move that this process caused."""
        self._recorder.record(self._fleets(move) if self._shared and move.shared else self._own(move))

    def see(self, sightings: Sequence[EpochChange]) -> None:
        """Consider epochs that are new to this process."""
        if self._pid != os.getpid():
            self._begin()  # the parent's chains are the parent's
        if not (self._shared and self._recorder.keeps):
            return
        forgetful = [each for each in sightings if each.epoch == 0 or each.epoch < each.known]
        if forgetful:
            _run(self._remember(forgetful))
        if any(each.epoch for each in sightings) and not self._waiting:
            self._waiting = True
            _run(self._copy(_between(self._pace.soon), self._pace.turn))
        if not self._patrolling:
            self._patrolling = True
            _run(self._patrol())

    def settle(self) -> Future[None]:
        """Copy now what this process meant to copy soon; the future is done when that was done or could not be."""
        if self._waiting and self._pid == os.getpid():
            return _run(self._copy(0.0, 0.0))
        ended: Future[None] = Future()
        ended.set_result(None)
        return ended

    # -- records ----------------------------------------------------------------------------------------------------------------

    def _fleets(self, move: Transition) -> TransitionRecord:
        at = datetime.fromtimestamp(move.at_ms / 1000, UTC)
        return _record(move, self._namespace, transitions.SHARED, move.epoch, at)

    def _own(self, move: Transition) -> TransitionRecord:
        """A move of this process's own circuit.

        That goes by the monotonic clock, and its epochs begin again with each outage of the store: it gets both by the wall clock.
        """
        at = move.at_ms / 1000
        if not move.shared:
            at += self._clock.time() - self._clock.monotonic()
        epoch = self._epochs[move.client] = max(self._epochs.get(move.client, 0) + 1, round(1000 * at))
        return _record(
            move, self._namespace, self._recorder.instance_id, epoch, datetime.fromtimestamp(at, UTC)
        )

    # -- copying the log --------------------------------------------------------------------------------------------------------

    def _patrol(self) -> Steps:
        while True:
            try:
                yield from self._copy(_between(self._pace.rare), self._pace.rare[0], signs=True)
            except (HistoryError, StoreError) as exc:
                _logger.debug("the log of circuits was not copied this time: %s", exc)

    def _copy(self, after: float, every: float, *, signs: bool = False) -> Steps:
        """Bring SQL up to what the store's log has, if the turn is ours."""
        owner = self._recorder.instance_id
        claim = partial(self._claim, owner=owner, every=every, signs=signs)
        try:
            cursor = yield self._recorder.ask(claim, after=after)
        finally:
            self._waiting = False  # what is seen from now on may come too late for this reading of the log
        if cursor is None or self._breaker is None or self.degraded:
            return
        moves: list[Transition] = yield self._breaker.log_after(cursor)
        if moves:
            add = partial(
                transitions.append,
                records=[self._fleets(move) for move in moves],
                instance_id=owner,
                job=self._job,
                before=cursor,
                after=moves[-1].cursor,
            )
            yield self._recorder.ask(add)

    def _claim(self, connection: Any, *, owner: str, every: float, signs: bool) -> str | None:
        if signs:
            transitions.sign(connection, instance_id=owner, degraded=self.degraded)
        return transitions.claim(connection, job=self._job, owner=owner, every=every)

    # -- putting back -----------------------------------------------------------------------------------------------------------

    def _remember(self, forgetful: Sequence[EpochChange]) -> Steps:
        """Ask SQL for the last moves of circuits that lost some, until it answers, and put back what still holds."""
        clients = [each.client for each in forgetful]
        ask = partial(transitions.last_moves, namespace=self._namespace, clients=clients)
        wait, (first, longest) = 0.0, self._pace.again
        while True:
            try:
                moves: dict[str, TransitionRecord] = yield self._recorder.ask(ask, after=wait)
                break
            except HistoryError:
                wait = _between((0.5, 1.0)) * min(longest, max(first, 3 * wait))
        for each in forgetful:
            order = self._correction(each, moves.get(each.client))
            if order is not None and self._breaker is not None:
                yield self._breaker.order(each.client, order)

    def _correction(self, sighting: EpochChange, move: TransitionRecord | None) -> Order | None:
        """What to order where a circuit's memory was lost after this *move*; None when nothing."""
        if move is None or move.epoch <= sighting.known:
            return None
        store_time = sighting.now_ms / 1000 + self._clock.monotonic() - sighting.at
        left = transitions.lasting(move, datetime.fromtimestamp(store_time, UTC))
        said = partial(Order, actor=move.actor, reason=move.reason)
        if left is not None:
            state, seconds = CircuitState(move.to_state), None if math.isinf(left) else left
            if sighting.order is None:
                return said(operation=Operation.RESTORE, state=state, seconds=seconds, epoch=move.epoch)
            if state in _OVERRIDES:
                return said(operation=_OVERRIDES[state], seconds=seconds)
        # This process has put back by its own view what others had ended since.
        put_back = sighting.order.state if sighting.order else None
        if put_back in _OVERRIDES or (put_back and move.to_state == CircuitState.CLOSED):
            return said(operation=Operation.CLOSE)
        return None


def _record(
    move: Transition, namespace: str, scope: str, epoch: int, occurred_at: datetime
) -> TransitionRecord:
    return TransitionRecord(
        namespace=namespace,
        client=move.client,
        scope=scope,
        epoch=epoch,
        occurred_at=occurred_at,
        from_state=move.from_state.value,
        to_state=move.to_state.value,
        rule=move.rule.value,
        reason=redact(move.reason),
        actor=move.actor,
        calls=move.calls,
        failures=move.failures,
        wait=move.wait_ms / 1000 if move.wait_ms > 0 else None,
        endless=move.wait_ms < 0,
    )


def _between(ends: tuple[float, float]) -> float:
    return _random.uniform(*ends)  # noqa: S311 - no secret


def _run(steps: Steps) -> Future[None]:
    """Take *steps*, each when the one before it is done and on the thread that did it; the future is done after the last.

    A step that fails with an error of the history or the store ends them, and so does one that is cancelled.
    """
    ended: Future[None] = Future()

    def resume(done: Future[Any] | None) -> None:
        try:
            _step(steps, done).add_done_callback(resume)
        except (StopIteration, CancelledError):
            ended.set_result(None)
        except (HistoryError, StoreError) as exc:
            _logger.debug("the history of circuits waits: %s", exc)
            ended.set_result(None)
        except Exception:
            _logger.exception("the history of circuits failed")
            ended.set_result(None)

    resume(None)
    return ended


def _step(steps: Steps, done: Future[Any] | None) -> Future[Any]:
    if done is None:
        return next(steps)
    exc = None if done.cancelled() else done.exception()
    return steps.send(done.result()) if exc is None else steps.throw(exc)
