"""The sync thread: the one background thread between the local circuits of this process and the store.

All store I/O happens on it, one `Store.step` a cycle. Successes are sent after a delay, failures at once, and each reply refreshes
a view. Callers never touch the store: they read a local circuit, or wait on a future for a bounded time. When the store fails, the
offline circuits decide, without the thread and without a wait, until a retry of the thread reaches the store again.

`resilience.background` has the rules of the thread itself: its start, its locks, forks and exits. Specific to this one are:

- Its connection lock covers the store. The lock of the `LocalCircuits` is never held during I/O.
- A fork holds both locks, so that the child inherits neither a half-sent request nor a circuit in the middle of a change.
- The end of the process waits at most `_EXIT_SECONDS` for the store, twice: for the last results, and for the thread.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from resilience.background import BackgroundWorker, Job, Task
from resilience.breaker.local.pending_request import complete, store_error
from resilience.breaker.local.registry import LocalCircuits
from resilience.breaker.messages import EpochChange, StepReply, StepRequest, Transition
from resilience.breaker.stores.base import Store
from resilience.clock import Clock
from resilience.errors import StoreError
from resilience.lifecycle import Stage

_EXIT_SECONDS: Final = 0.25
_FORK_SECONDS: Final = 0.5

T = TypeVar("T")
_logger = logging.getLogger("resilience")


class StoreSyncWorker:
    """The store of circuits, the local circuits and the thread that syncs them.

    Args:
        store: the store; closed with this worker.
        clock: time for durations; the store has its own.
        sample: returns random numbers from 0 to 1, for jitter.
        wait_budget: longest time in seconds that a call waits for the store.
        on_transition: called on the thread with each transition that this process caused; must not block long.
        on_epoch_change: called on the thread with epochs that replies showed for the first time; must not block long.

    Attributes:
        circuits: the local circuits, which callers use.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        sample: Callable[[], float],
        wait_budget: float,
        on_transition: Callable[[Transition], None] | None,
        on_epoch_change: Callable[[Sequence[EpochChange]], None] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._wait_budget = wait_budget
        self._on_transition = on_transition
        self._on_epoch_change = on_epoch_change
        self._store_closed = False
        self._sync_began: float | None = None
        task = Task(
            next_timeout=self._next_timeout,
            run_cycle=self._run_cycle,
            disconnect=store.disconnect,
            close=self._close_store,
            reject=_reject,
            restart=self._restart,
            at_exit=lambda _: self.close(),
            fork_locks=lambda: (self.circuits.lock,),
        )
        self._worker = BackgroundWorker(
            task, name="resilience-sync", stage=Stage.CIRCUITS, fork_timeout=_FORK_SECONDS
        )
        self.circuits = LocalCircuits(clock, sample, self._worker.start_thread, self._worker.wake)

    # -- for callers ------------------------------------------------------------------------------------------------------------

    def remaining_wait(self, started: float) -> float:
        """Return the seconds that a call may still wait for the store; 0 or less when its budget is used up.

        A sync that was under way before the call came has used up the budget too: if the store is slow, it is slow for all.

        Args:
            started: when the call asked for admission.
        """
        began = self._sync_began
        first = started if began is None else min(started, began)
        return first + self._wait_budget - self._clock.monotonic()

    def submit(self, work: Callable[[Store], T]) -> Future[T]:
        """Run *work* on the thread, after a sync of everything that was added before.

        Args:
            work: called once with the store.

        Returns:
            A future with the result or a `StoreError`.
        """
        future = self._worker.submit(work)
        with self.circuits.lock:
            if not self.circuits.closed:
                self.circuits.schedule_sync(-math.inf)
        return future

    def flush(self, timeout: float) -> bool:
        """Send everything that was added so far. Return whether the store has it.

        Args:
            timeout: seconds to wait for the store.
        """
        thread = self._worker.thread
        if thread is None or self.circuits.offline or thread is threading.current_thread():
            return not self.circuits.offline
        try:
            self.submit(_do_nothing).result(timeout)
        except (TimeoutError, StoreError):
            return False
        return True

    def close(self) -> None:
        """Send what is left, end the thread and close the store. Later calls are decided by this process alone."""
        if self.circuits.closed:
            return
        self.flush(_EXIT_SECONDS)
        with self.circuits.lock:
            self.circuits.closed = True
        self._worker.close(_EXIT_SECONDS)
        with self.circuits.lock:
            waiting = self.circuits.go_offline()
        complete(waiting)

    # -- the thread -------------------------------------------------------------------------------------------------------------

    def _next_timeout(self) -> float | None:
        with self.circuits.lock:
            if self.circuits.transitions:
                return 0.0
            due = self.circuits.due
        return None if math.isinf(due) and due > 0 else max(0.0, due - self._clock.monotonic())

    def _run_cycle(self, signalled: bool) -> None:  # noqa: FBT001 - the shape of Task.run_cycle
        # After a wake-up nothing may be due yet, only an earlier time may have been set. After a timeout something is due,
        # even if the clock does not show it: in tests it may stand still.
        if not signalled or self._next_timeout() == 0.0:
            self.sync_once()

    def sync_once(self) -> None:
        """Send everything pending in one step of the store, apply the replies, and call the hooks without a lock."""
        circuits = self.circuits
        # Jobs are taken before the results. `flush` is a job: what was added before it must be sent when it is done.
        jobs = self._worker.take_jobs()
        with circuits.lock:
            # The time before the request: a reply is at least as old as that when it is here.
            sent_at = self._sync_began = self._clock.monotonic()
            pending = circuits.take_pending(sent_at)
        with self._worker.connection_lock:
            error, replies = self._step_store([item.request for item in pending])
            completions = [self._run_job(job, error) for job in jobs]
        with circuits.lock:
            if error is None:
                circuits.apply_replies(pending, replies, sent_at)
            else:
                pending += circuits.on_store_error(pending, error, sent_at)
            self._sync_began = None
            transitions, circuits.transitions = circuits.transitions, []
            epoch_changes, circuits.epoch_changes = circuits.epoch_changes, []
        complete(pending, replies, error)
        for complete_job in completions:
            complete_job()
        for transition in transitions:
            _call_hook(self._on_transition, transition)
        if epoch_changes:
            _call_hook(self._on_epoch_change, epoch_changes)

    def _step_store(self, requests: Sequence[StepRequest]) -> tuple[Exception | None, Sequence[StepReply]]:
        """Return the replies to all *requests*, or the error: that of one circuit counts as an error of the store."""
        replies: list[StepReply] = []
        try:
            for reply in self._store.step(requests) if requests else ():
                if isinstance(reply, Exception):
                    return reply, replies
                replies.append(reply)
        except Exception as exc:  # noqa: BLE001 - whatever a store raises, calls go on
            return exc, replies
        return None, replies

    def _run_job(self, job: Job, error: Exception | None) -> Callable[[], None]:
        def execute(work: Callable[[Store], Any]) -> Any:
            if error is not None:
                raise store_error(error)
            try:
                return work(self._store)
            except Exception as exc:
                raise store_error(exc) from exc

        return job.run(execute)

    def _close_store(self) -> None:
        if not self._store_closed:
            self._store_closed = True
            with contextlib.suppress(Exception):
                self._store.close()

    def _restart(self, _paused: bool) -> None:  # noqa: FBT001 - the shape of Task.restart
        """Set up a forked child. The parent keeps its leases and what it has not sent yet."""
        self._sync_began = None
        self.circuits.reset()


def _reject(future: Future[Any]) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(store_error(RuntimeError("closed")))


def _call_hook(hook: Callable[[T], None] | None, argument: T) -> None:
    if hook is None:
        return
    try:
        hook(argument)
    except Exception:
        _logger.exception("a hook of the breaker failed")


def _do_nothing(_: Store) -> None:
    """Complete after everything that was added before has been sent."""
