"""The one background thread between this process's ledgers and the store.

All store I/O happens on it, one `Store.step` a turn: results are written behind, failures at once, and each reply is the refresh of a
view. Callers never touch the store: they read a ledger, or wait on a future for a bounded time. When the store fails, the standby
circuits decide, without the thread and without waiting, until a look from the thread finds the store again.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from resilience.breaker.local import lifecycle
from resilience.breaker.local.pending_request import finish, store_error
from resilience.breaker.local.registry import LocalCircuits
from resilience.breaker.messages import EpochChange, StepReply, StepRequest, Transition
from resilience.breaker.stores.base import Store
from resilience.clock import Clock
from resilience.errors import StoreError

_EXIT_SECONDS: Final = 0.25
_FORK_SECONDS: Final = 0.5

T = TypeVar("T")
_logger = logging.getLogger("resilience")


@dataclass(slots=True)
class _Job:
    """Something else the thread is to do with the store, for a caller that wants its result or its error."""

    work: Callable[[Store], Any]
    future: Future[Any]


class StoreSyncWorker:
    """Owns the store, the desk and the thread.

    Args:
        store: the store; closed with the exchange.
        clock: time for durations; the store has its own.
        draw: random numbers from 0 to 1.
        budget: how long a caller waits for the store at most, in seconds.
        on_transition: told of each transition this process caused, on the thread.
        on_sight: told, on the thread, of epochs that replies showed for the first time.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        draw: Callable[[], float],
        budget: float,
        on_transition: Callable[[Transition], None] | None,
        on_epoch_change: Callable[[Sequence[EpochChange]], None] | None = None,
    ) -> None:
        self.desk = LocalCircuits(clock, draw, self._hire)
        self._store = store
        self._clock = clock
        self._budget = budget
        self._on_transition = on_transition
        self._on_epoch_change = on_epoch_change
        self._begin()
        lifecycle.watch(self)

    def _begin(self) -> None:
        self._io = threading.Lock()
        self._thread: threading.Thread | None = None
        self._jobs: list[_Job] = []
        self._turn_began: float | None = None
        self._held: dict[int, list[threading.Lock]] = {}

    # -- for callers ------------------------------------------------------------------------------------------------------------

    def patience(self, came: float) -> float:
        """How long who *came* then may still wait: the budget, less what that took, or the turn under way if it is longer."""
        began = self._turn_began
        return (came if began is None else min(came, began)) + self._budget - self._clock.monotonic()

    def run(self, work: Callable[[Store], T]) -> Future[T]:
        """Do something else with the store, on the thread; the future carries its result or a `StoreError`."""
        future: Future[T] = Future()
        with self.desk.lock:
            if self.desk.closed:
                future.set_exception(store_error(RuntimeError("closed")))
            else:
                self._jobs.append(_Job(work, future))
                self.desk.wake_by(-math.inf)
        return future

    def flush(self, timeout: float) -> bool:
        """Wait until everything told so far has reached the store; False when it has not within *timeout* seconds."""
        if self._thread is None or self.desk.away or self._thread is threading.current_thread():
            return not self.desk.away
        try:
            self.run(_nothing).result(timeout)
        except (TimeoutError, StoreError):
            return False
        return True

    def close(self) -> None:
        """Tell what is left, within a quarter of a second, end the thread and close the store. Calls go on locally."""
        if self.desk.closed:
            return
        self.flush(_EXIT_SECONDS)
        with self.desk.lock:
            self.desk.closed, thread = True, self._thread
            self.desk.wake.notify()
        if thread is None:
            self._store.close()
        elif thread is not threading.current_thread():
            thread.join(_EXIT_SECONDS)
        with self.desk.lock:
            waiting = self.desk.go_local()
        finish(waiting)

    # -- the thread -------------------------------------------------------------------------------------------------------------

    def _hire(self) -> bool:
        """Start the thread if there is none; False when there cannot be one. Under the desk's lock."""
        if self._thread is None:
            thread = threading.Thread(target=self._serve, name="resilience-exchange", daemon=True)
            try:
                thread.start()
            except RuntimeError as exc:  # no more threads, or the interpreter is shutting down
                self.desk.lose(exc)
                return False
            self._thread = thread
            lifecycle.close_at_exit()
        return True

    def _serve(self) -> None:
        while self._awaited():
            self.turn()
        self.turn()
        with contextlib.suppress(Exception):
            self._store.close()

    def _awaited(self) -> bool:
        """Wait until a turn is due; False when the exchange is closed."""
        desk = self.desk
        with desk.lock:
            while not desk.closed:
                left = desk.due - self._clock.monotonic()
                if left <= 0 or desk.moves:
                    return True
                if not desk.wake.wait(None if math.isinf(left) else left):
                    return True  # the time is over, though a clock that tests hold may not show it
            return False

    def turn(self) -> None:
        """Tell and ask everything that is waiting, in one step of the store."""
        desk = self.desk
        with desk.lock:
            asked = self._turn_began = self._clock.monotonic()
            errands = desk.collect(asked)
            jobs, self._jobs = self._jobs, []
        error, replies = self._consult([errand.request for errand in errands], jobs)
        with desk.lock:
            if error is None:
                desk.accept(errands, replies, asked)
            else:
                errands += desk.fall_back(errands, error, asked)
            self._turn_began = None
            moves, desk.moves = desk.moves, []
            sightings, desk.sightings = desk.sightings, []
        finish(errands, replies, error)
        for move in moves:
            _tell(self._on_transition, move)
        if sightings:
            _tell(self._on_epoch_change, sightings)

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
            job.future.set_exception(store_error(error))
            return
        try:
            job.future.set_result(job.work(self._store))
        except Exception as exc:  # noqa: BLE001 - the one who asked gets it
            job.future.set_exception(store_error(exc))

    # -- forks ------------------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Let the store go and hold still; a store that hangs is not waited for."""
        held = self._held[threading.get_ident()] = []
        if self._io.acquire(timeout=_FORK_SECONDS):
            held.append(self._io)
            with contextlib.suppress(Exception):
                self._store.disconnect()
        if self.desk.lock.acquire(timeout=_FORK_SECONDS):
            held.append(self.desk.lock)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        for lock in self._held.pop(threading.get_ident(), ()):
            lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew: the parent keeps its thread, its leases and what it has not told yet."""
        self._begin()
        self.desk.begin()


def _tell(hook: Callable[[T], None] | None, told: T) -> None:
    if hook is None:
        return
    try:
        hook(told)
    except Exception:
        _logger.exception("a hook of the breaker failed")


def _nothing(_: Store) -> None:
    """A job that only waits for its turn."""
