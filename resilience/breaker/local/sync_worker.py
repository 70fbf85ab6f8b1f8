"""The sync thread: the one background thread between the local circuits of this process and a store.

All store I/O happens on it, one `Store.step` a cycle and namespace. Successes are sent after a delay, failures at once, and each reply
refreshes a view. Callers never touch the store: they read a local circuit, or wait on a future for a bounded time. When the store
fails or falls silent, the offline circuits decide, without the thread and without a wait, until the thread reaches the store again.

`resilience.background` has the rules of the thread itself: its start, its locks, forks and exits. Specific to this one are:

- Its connection lock covers the store. The lock of the `LocalCircuits` is never held during I/O.
- A fork holds all these locks, so that the child inherits neither a half-sent request nor a circuit in the middle of a change.
- The end of the process waits at most `_EXIT_SECONDS` for the store, twice: for the last results, and for the thread.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, TypeVar

from resilience.background import BackgroundWorker, Task
from resilience.breaker.local.namespace_sync import NamespaceSync
from resilience.breaker.local.pending_request import complete, store_error
from resilience.breaker.local.registry import LocalCircuits
from resilience.breaker.stores.base import Store
from resilience.breaker.stores.lazy import LazyStore
from resilience.clock import Clock
from resilience.errors import StoreError
from resilience.lifecycle import Stage

_EXIT_SECONDS: Final = 0.25
_FORK_SECONDS: Final = 0.5

T = TypeVar("T")


class StoreSyncWorker:
    """A store of circuits and the thread that syncs it with the local circuits of each namespace in use.

    Args:
        store: the store; closed with this worker.
        clock: time for durations; the store has its own.
        sample: returns random numbers from 0 to 1, for jitter.
    """

    def __init__(self, store: Store, *, clock: Clock, sample: Callable[[], float]) -> None:
        self.store = store
        self._clock = clock
        self._sample = sample
        self._store_closed = False
        self._namespaces: tuple[NamespaceSync, ...] = ()
        task = Task(
            next_timeout=self._next_timeout,
            run_cycle=self._run_cycle,
            disconnect=store.disconnect,
            close=self._close_store,
            reject=_reject,
            restart=self._restart,
            at_exit=lambda _: self.close(),
            fork_locks=lambda: [namespace.circuits.lock for namespace in self._namespaces],
        )
        self._worker = BackgroundWorker(
            task, name="resilience-sync", stage=Stage.CIRCUITS, fork_timeout=_FORK_SECONDS
        )

    # -- for callers ------------------------------------------------------------------------------------------------------------

    def open(self, store: Store, *, private: bool = False) -> NamespaceSync:
        """Serve another namespace from now on.

        Args:
            store: the store as the namespace sees it.
            private: whether no other process writes to it.
        """
        circuits = LocalCircuits(
            self._clock, self._sample, self._worker.start_thread, self._worker.wake, private=private
        )
        namespace = NamespaceSync(store, self._clock, circuits)
        self._namespaces += (namespace,)
        return namespace

    def wake(self) -> None:
        """Let the thread run a cycle. Safe in finalizers and signal handlers."""
        self._worker.wake()

    def submit(self, namespace: NamespaceSync, work: Callable[[Store], T]) -> Future[T]:
        """Run *work* on the thread, after a sync of everything that was added before.

        Args:
            namespace: whose store *work* gets.
            work: called once with the store.

        Returns:
            A future with the result or a `StoreError`.
        """
        future = self._worker.submit(partial(namespace.run, work))
        circuits = namespace.circuits
        with circuits.lock:
            if not circuits.closed:
                circuits.schedule_sync(-math.inf)
        return future

    def flush(self, namespace: NamespaceSync, timeout: float) -> bool:
        """Send everything that was added so far. Return whether the store has it.

        Args:
            namespace: whose results are sent.
            timeout: seconds to wait for the store.
        """
        thread = self._worker.thread
        if thread is None or namespace.circuits.offline or thread is threading.current_thread():
            return not namespace.circuits.offline
        try:
            self.submit(namespace, _do_nothing).result(timeout)
        except (TimeoutError, StoreError):
            return False
        return True

    def close_namespace(self, namespace: NamespaceSync) -> None:
        """Send what is left of a namespace, and end the thread with the last one. Later calls are decided by this process alone."""
        if namespace.circuits.closed:
            return
        self.flush(namespace, _EXIT_SECONDS)
        last = all(other is namespace for other in self._namespaces)
        with namespace.circuits.lock:
            namespace.circuits.closed = True
        if last:
            self._worker.close(_EXIT_SECONDS)
        else:
            self._namespaces = tuple(other for other in self._namespaces if other is not namespace)
        with namespace.circuits.lock:
            waiting = namespace.circuits.go_offline()
        complete(waiting)

    def close(self) -> None:
        """Close every namespace, end the thread and close the store."""
        for namespace in self._namespaces or (None,):
            if namespace is None:
                self._worker.close(_EXIT_SECONDS)
            else:
                self.close_namespace(namespace)

    # -- the thread -------------------------------------------------------------------------------------------------------------

    def _next_timeout(self) -> float | None:
        due = math.inf
        for namespace in self._namespaces:
            circuits = namespace.circuits
            with circuits.lock:
                if circuits.transitions:
                    return 0.0
                due = min(due, circuits.due)
        return None if math.isinf(due) and due > 0 else max(0.0, due - self._clock.monotonic())

    def _run_cycle(self, signalled: bool) -> None:  # noqa: FBT001 - the shape of Task.run_cycle
        # After a wake-up nothing may be due yet, only an earlier time may have been set. After a timeout something is due,
        # even if the clock does not show it: in tests it may stand still.
        if not signalled or self._next_timeout() == 0.0:
            self.sync_once()

    def sync_once(self) -> None:
        """Sync every namespace, run the jobs of callers, and call the hooks without a lock."""
        # Jobs are taken before the results. `flush` is a job: what was added before it must be sent when it is done.
        jobs = self._worker.take_jobs()
        namespaces = self._namespaces
        if isinstance(self.store, LazyStore):
            # Before a request is timed: an import is no silence of the store. Its error shows in the step, and means away.
            with contextlib.suppress(Exception):
                self.store.load()
        for namespace in namespaces:
            # A job waits until everything is sent, and so does the end.
            hold = not (jobs or namespace.circuits.closed or self._worker.closed)
            namespace.sync(self._worker.connection_lock, hold=hold)
        if jobs:
            with self._worker.connection_lock:
                completions = [job.run(_call) for job in jobs]
            for complete_job in completions:
                complete_job()
        for namespace in namespaces:
            namespace.notify()

    def _close_store(self) -> None:
        if not self._store_closed:
            self._store_closed = True
            with contextlib.suppress(Exception):
                self.store.close()

    def _restart(self, _paused: bool) -> None:  # noqa: FBT001 - the shape of Task.restart
        """Set up a forked child. The parent keeps its leases and what it has not sent yet."""
        for namespace in self._namespaces:
            namespace.circuits.reset()


def _call(work: Callable[..., Any]) -> Any:
    return work()


def _reject(future: Future[Any]) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(store_error(RuntimeError("closed")))


def _do_nothing(_: Store) -> None:
    """Complete after everything that was added before has been sent."""
