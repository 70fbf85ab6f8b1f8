"""The history of the circuits: write each transition to SQL once, and restore circuits that the store has lost.

Three duties, all of them without a leader:

- A transition that this process caused becomes a record at once.
- A reply of the store may show an epoch that is new to this process. Then some process made a transition, and it may have been
  killed before it wrote its record. A second or two later this process claims the job "copy the store's log into SQL"; one
  process a second gets it. Each process also claims the job about once a minute. This completes the history of a fleet that has
  gone quiet, and sends the process's heartbeat.
- A reply may show a circuit without state, or with an older epoch than this process saw before: the store was emptied or set
  back. Then SQL is asked for the last transition of the circuit. An operator's order that still holds, or an open circuit with
  time left, is restored. The store accepts only the first of several restorations.

Steps, and who runs them
------------------------

Each duty needs two threads: SQL runs on the recorder's writer thread, the store on the breaker's sync thread. Neither may wait
for the other, or a slow database would delay the circuits and a slow store would delay the records.

So a duty is a generator (`Steps`). It yields a `Future`, which stands for one piece of work on one of the two threads, and is
resumed with that future's result; an error of the work is raised at the `yield`. The duty thus reads from top to bottom, like a
coroutine, while no thread waits for it. psycopg drives its protocol code in the same way.

`_run` is the driver, about twenty lines. It takes the first step on the caller's thread. It resumes the generator in a callback
of each yielded future, and so on the thread that completed that future. Hence the code between two yields must be short and must
not block. A generator runs on one thread at a time, so its local variables need no lock.

Why not asyncio: both threads live without an event loop, a process may have no loop or several, and a loop of our own would be a
third thread that every fork, exit and test had to know. Why no locks around the flags of `CircuitEventLog`: only `on_epoch_change`, on
the sync thread, sets them. The driver clears `_copy_pending` from the writer thread; losing that race costs one more or one
fewer copy, and the periodic copy comes anyway.
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

from resilience.breaker import (
    Breaker,
    CircuitState,
    EpochChange,
    Operation,
    Order,
    Transition,
    TransitionRule,
)
from resilience.clock import Clock
from resilience.errors import HistoryError, StoreError
from resilience.history import Recorder, TransitionRecord
from resilience.history.writer.recorder_view import RecorderView
from resilience.records.transitions import SHARED, remaining_hold
from resilience.redaction import redact

Steps = Generator[Future[Any], Any, None]
"""A duty: yields the future of each step, and is sent its result."""

_OVERRIDES: Final = {
    CircuitState.FORCED_OPEN: Operation.OPEN,
    CircuitState.DISABLED: Operation.DISABLE,
}

_logger = logging.getLogger("resilience")


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySchedule:
    """The times between copies of the store's log, in seconds. Pairs are the ends of a range to draw from.

    Attributes:
        min_interval: least time between two copies of the whole fleet that follow a new epoch.
        delay: time from a new epoch to the claim. Not less than *min_interval*: if another process holds the job in between, it
            has then copied that transition.
        periodic: time between two claims that follow no new epoch.
        retry: first and longest wait before a history that could not be read is asked again.
    """

    min_interval: float = 1.0
    delay: tuple[float, float] = (1.0, 3.0)
    periodic: tuple[float, float] = (30.0, 60.0)
    retry: tuple[float, float] = (1.0, 60.0)


class CircuitEventLog:
    """What one process contributes to the history of the circuits.

    Args:
        recorder: keeps records, and runs SQL on its writer thread.
        namespace: the deployment whose circuits these are.
        shared: whether other processes use the same store. If not, the circuits are recorded under this process's own scope,
            and nothing is copied or restored.
        clock: for time stamps and durations.
        schedule: how often the store's log is copied.
    """

    def __init__(
        self,
        recorder: Recorder | RecorderView,
        *,
        namespace: str,
        shared: bool,
        clock: Clock,
        schedule: CopySchedule | None = None,
    ) -> None:
        self._recorder = recorder
        self._namespace = namespace
        self._shared = shared
        self._clock = clock
        self._schedule = schedule or CopySchedule()
        self._job = f"transitions:{namespace}"
        self._breaker: Breaker | None = None
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._copy_pending = self._copies_periodically = False
        self._epochs: dict[str, int] = {}

    def attach(self, breaker: Breaker) -> None:
        """Use *breaker* to read the store's log and to restore circuits.

        Its callbacks for transitions and for new epochs must be `on_transition` and `on_epoch_change`.
        """
        self._breaker = breaker

    @property
    def degraded(self) -> bool:
        """Whether this process cannot reach the store."""
        return self._breaker is not None and self._breaker.degraded

    # --- callbacks of the breaker: on its sync thread ---------------------------------------------------------------------------

    def on_transition(self, transition: Transition) -> None:
        """Record a transition, or a cool-down, that this process caused."""
        if self._shared and transition.shared:
            record = self._shared_record(transition)
        else:
            record = self._local_record(transition)
        self._recorder.record(record)

    def on_epoch_change(self, changes: Sequence[EpochChange]) -> None:
        """Plan a copy of the store's log, and a restoration of lost circuits, after epochs that are new to this process."""
        if self._pid != os.getpid():
            self._reset()  # steps in flight at the fork continue in the parent, and only there
        if not (self._shared and self._recorder.has_database):
            return
        lost = [change for change in changes if change.epoch == 0 or change.epoch < change.known_epoch]
        if lost:
            _run(self._restore(lost))
        if any(change.epoch for change in changes) and not self._copy_pending:
            self._copy_pending = True
            _run(self._copy(_draw(self._schedule.delay), self._schedule.min_interval))
        if not self._copies_periodically:
            self._copies_periodically = True
            _run(self._copy_periodically())

    def flush(self) -> Future[None]:
        """Make a pending copy of the store's log now.

        Returns:
            A future that is done when the copy is, or has failed. It never has an exception.
        """
        if self._copy_pending and self._pid == os.getpid():
            return _run(self._copy(0.0, 0.0))
        done: Future[None] = Future()
        done.set_result(None)
        return done

    # --- records ----------------------------------------------------------------------------------------------------------------

    def _shared_record(self, transition: Transition) -> TransitionRecord:
        at = datetime.fromtimestamp(transition.at_ms / 1000, UTC)
        return _record(transition, self._namespace, SHARED, transition.epoch, at)

    def _local_record(self, transition: Transition) -> TransitionRecord:
        """Return the record of a transition of this process's local circuit.

        A local circuit runs by the monotonic clock, and its epochs start again at each outage of the store. Neither is unique
        in a table that outlives the outage, so both are taken from the wall clock.
        """
        at = transition.at_ms / 1000
        if not transition.shared:
            at += self._clock.time() - self._clock.monotonic()
        if transition.rule is TransitionRule.COOL_DOWN:
            # By the wall clock, as the epochs below: the monotonic clock starts again with the machine.
            end_ms = round(1000 * at) + transition.wait_ms
            return _record(
                transition,
                self._namespace,
                self._recorder.instance_id,
                -end_ms,
                datetime.fromtimestamp(at, UTC),
            )
        last = self._epochs.get(transition.client, 0)
        epoch = self._epochs[transition.client] = max(last + 1, round(1000 * at))
        occurred_at = datetime.fromtimestamp(at, UTC)
        return _record(transition, self._namespace, self._recorder.instance_id, epoch, occurred_at)

    # --- copying the log --------------------------------------------------------------------------------------------------------

    def _copy_periodically(self) -> Steps:
        while True:
            try:
                every = self._schedule.periodic
                yield from self._copy(_draw(every), every[0], heartbeat=True)
            except (HistoryError, StoreError) as exc:
                _logger.debug("the log of circuits was not copied this time: %s", exc)
            except (ArithmeticError, ValueError, TypeError):
                # What a store or a history holds must not end the copies of this process for good.
                _logger.warning("the log of circuits was not copied this time", exc_info=True)

    def _copy(self, after: float, min_interval: float, *, heartbeat: bool = False) -> Steps:
        """Copy into SQL what the store's log has beyond the cursor, if this process gets the job.

        Args:
            after: seconds to wait first.
            min_interval: seconds since the last copy by any process below which the job is not given.
            heartbeat: whether to update this process's row in `instances` as well.
        """
        owner = self._recorder.instance_id
        claim = partial(self._claim, owner=owner, min_interval=min_interval, heartbeat=heartbeat)
        try:
            cursor = yield self._recorder.submit(claim, after=after)
        finally:
            # An epoch seen from here on may be missing in the log that is read below: it needs a copy of its own.
            self._copy_pending = False
        if cursor is None or self._breaker is None or self.degraded:
            return
        found: list[Transition] = yield self._breaker.fetch_transitions(cursor)
        if found:
            # Safe to run twice: the rows have a primary key, and the cursor moves only from where this copy began.
            append = partial(
                _append,
                records=[self._shared_record(transition) for transition in found],
                instance_id=owner,
                job=self._job,
                before=cursor,
                after=found[-1].cursor,
            )
            yield self._recorder.submit(append)

    def _claim(self, connection: Any, *, owner: str, min_interval: float, heartbeat: bool) -> str | None:
        from resilience.history.store import instances, job_leases  # noqa: PLC0415 - as in `_append`

        if heartbeat:
            instances.touch(connection, instance_id=owner, degraded=self.degraded)
        return job_leases.acquire(connection, job=self._job, owner=owner, period=min_interval)

    # --- restoring circuits -----------------------------------------------------------------------------------------------------

    def _restore(self, lost: Sequence[EpochChange]) -> Steps:
        """Read the last transitions of lost circuits from SQL, retrying until it answers, and restore what still holds."""
        clients = [change.client for change in lost]
        read = partial(_last_transitions, namespace=self._namespace, clients=clients)
        wait, (first, longest) = 0.0, self._schedule.retry
        while True:
            try:
                last: dict[str, TransitionRecord] = yield self._recorder.submit(read, after=wait)
                break
            except HistoryError:
                wait = _draw((0.5, 1.0)) * min(longest, max(first, 3 * wait))
        for change in lost:
            order = self._correction(change, last.get(change.client))
            if order is not None and self._breaker is not None:
                yield self._breaker.submit_order(change.client, order)

    def _correction(self, change: EpochChange, last: TransitionRecord | None) -> Order | None:
        """Return the order that brings a lost circuit back to its *last* transition; None if nothing is to be corrected."""
        if last is None or last.epoch <= change.known_epoch:
            return None
        # The store's clock now: its time in the reply, plus what has passed here since. Clocks of hosts are never compared.
        store_time = change.now_ms / 1000 + self._clock.monotonic() - change.at
        left = remaining_hold(last, datetime.fromtimestamp(store_time, UTC))
        order = partial(Order, actor=last.actor, reason=last.reason, corrects=True)
        if left is not None:
            state, seconds = CircuitState(last.to_state), None if math.isinf(left) else left
            if change.order is None:
                return order(operation=Operation.RESTORE, state=state, seconds=seconds, epoch=last.epoch)
            if state in _OVERRIDES:
                return order(operation=_OVERRIDES[state], seconds=seconds)
        # With change.order this process restored the circuit from its own, older knowledge. SQL says that another process has
        # ended that state since, so the restoration is taken back.
        restored = change.order.state if change.order else None
        if restored in _OVERRIDES or (restored and last.to_state == CircuitState.CLOSED):
            return order(operation=Operation.CLOSE)
        return None


def _record(
    transition: Transition, namespace: str, scope: str, epoch: int, occurred_at: datetime
) -> TransitionRecord:
    return TransitionRecord(
        namespace=namespace,
        client=transition.client,
        scope=scope,
        epoch=epoch,
        occurred_at=occurred_at,
        from_state=transition.from_state.value,
        to_state=transition.to_state.value,
        rule=transition.rule.value,
        reason=redact(transition.reason),
        actor=transition.actor,
        calls=transition.calls,
        failures=transition.failures,
        wait=transition.wait_ms / 1000 if transition.wait_ms > 0 else None,
        indefinite=transition.wait_ms < 0,
    )


def _draw(ends: tuple[float, float]) -> float:
    return _random.uniform(*ends)  # noqa: S311 - spreads processes in time, protects nothing


def _run(steps: Steps) -> Future[None]:
    """Drive *steps* to their end: see "Steps, and who runs them" at the head of this module.

    An error of the history or the store ends the steps; the next epoch or the periodic copy starts new ones. So does a future
    that is cancelled because its thread shuts down.

    Returns:
        A future that is done after the last step. It never has an exception.
    """
    done: Future[None] = Future()

    def resume(previous: Future[Any] | None) -> None:
        try:
            # add_done_callback runs the callback immediately, on this thread, if the future is done already.
            _advance(steps, previous).add_done_callback(resume)
        except (StopIteration, CancelledError):
            done.set_result(None)
        except (HistoryError, StoreError) as exc:
            _logger.debug("the history of circuits waits: %s", exc)
            done.set_result(None)
        except Exception:
            _logger.exception("the history of circuits failed")
            done.set_result(None)

    resume(None)
    return done


def _advance(steps: Steps, previous: Future[Any] | None) -> Future[Any]:
    """Resume *steps* with the outcome of the *previous* future, and return the next one."""
    if previous is None:
        return next(steps)
    exc = None if previous.cancelled() else previous.exception()
    return steps.send(previous.result()) if exc is None else steps.throw(exc)


# The two below run on the writer thread. This module itself imports no SQLAlchemy: `from resilience import protect` imports it.


def _append(connection: Any, **copied: Any) -> None:
    from resilience.history.store import transitions  # noqa: PLC0415 - see above

    transitions.append(connection, **copied)


def _last_transitions(connection: Any, **wanted: Any) -> dict[str, TransitionRecord]:
    from resilience.history.store import transitions  # noqa: PLC0415 - see above

    return transitions.last_transitions(connection, **wanted)
