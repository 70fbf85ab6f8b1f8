"""Forks and exits: one registry for everything in this package that a fork or the end of a process concerns.

An object with a background thread registers as a `Participant`. A module that only has to replace a lock or forget a value
in forked children registers a callback with `call_in_child`. No other module uses `os.register_at_fork` or `atexit` for
threads and locks, because the order between them matters and is defined here.

- **Exit**: calls that were left running first, then circuits, then the history. Closing the circuits sends the last results to the store, and the transitions
  that this causes are rows of the history. With the opposite order these rows would be lost.
- **Before a fork**: the history first, then the circuits. The history may wait seconds for a transaction to end. The
  circuits take the lock that every call needs, so they take it last and hold it briefly.
- **After a fork**: the reverse of that. In the child the callbacks run before all participants, which may use the locks
  that the callbacks replace.

`atexit` runs at a normal end, after an uncaught exception and after SIGINT. It does not run after SIGTERM without a handler,
`os._exit` or SIGKILL. For SIGTERM there is `install_signal_flush`. This package never calls it, because signals belong to the
program.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from functools import partial
from types import FrameType
from typing import Any, Final, Protocol, runtime_checkable

EXIT_TIMEOUT: Final = 2.0
"""Seconds that each stage may take when the process ends, unless one of its participants has a limit of its own."""
_EXIT_PRIORITY: Final = 100
"""Priority among the finalizers of multiprocessing; high ones run first, while pools and managers still exist."""

_IMPORT_WAIT: Final = 60.0
"""Longest wait of a fork for an import on another thread, in seconds. It ends with the import, which takes far less."""

_log = logging.getLogger("resilience")


class Stage(IntEnum):
    """The place of a participant in the order of exits and forks, see the head of this module."""

    CALLS = 0
    CIRCUITS = 1
    HISTORY = 2


class Participant(Protocol):
    """An object that takes part in forks and exits. The registry holds it weakly."""

    def before_fork(self) -> None:
        """Close connections and hold the locks that no child may inherit in an unknown state."""

    def after_fork_in_parent(self) -> None:
        """Release what `before_fork` took. Called on the same thread, also if `before_fork` failed."""

    def after_fork_in_child(self) -> None:
        """Start again without the parent's thread, connections, locks and pending work."""

    def at_exit(self, timeout: float) -> object:
        """Write what is pending and end threads, within *timeout* seconds."""


@runtime_checkable
class SignalledParticipant(Participant, Protocol):
    """A participant with a time limit of its own, which also writes when a signal arrives."""

    def exit_limit(self) -> float:
        """Return the seconds that `at_exit` and `at_signal` may take."""

    def at_signal(self, timeout: float) -> object:
        """Write what is pending, within *timeout* seconds. The process may go on."""


# Weak references: a handler that the program has dropped without closing it is collected. A running thread holds its
# participant, so that nothing pending is ever collected.
_participants: Final[dict[Stage, weakref.WeakSet[Participant]]] = {
    stage: weakref.WeakSet() for stage in Stage
}
_import_lock = threading.RLock()
_forking: Final[set[int]] = set()
"""The threads that hold the lock above for a fork: two may fork at once."""
_child_callbacks: Final[list[Callable[[], None]]] = []
_exit_hook_pid: int | None = None


def register(participant: Participant, stage: Stage) -> None:
    """Call *participant* at forks from now on, and at exit once `ensure_exit_hook` was called in its process."""
    _participants[stage].add(participant)


def call_in_child(callback: Callable[[], None]) -> None:
    """Call *callback* in every forked child, before its participants: for modules with a lock or a cached value.

    A lock that another thread holds at the fork is never released in the child, because that thread does not exist there.

    Args:
        callback: replaces the lock or clears the value; held for as long as the process lives.
    """
    _child_callbacks.append(callback)


@contextmanager
def importing() -> Iterator[None]:
    """Hold off forks while this thread imports a large package.

    Python locks each module while it is imported. A child that is forked meanwhile inherits the lock and not the thread that would
    release it, so it would wait for ever at its own import of that module.
    """
    with _import_lock:
        yield


def ensure_exit_hook() -> None:
    """Write what is pending when this process ends. Called by each thread that starts, and idempotent within a process.

    A child needs its own hooks. Children that `os.fork` made inherit the `atexit` hooks of their parent, so the hook is
    unregistered first, or it would run twice. Children that `multiprocessing` forked run no `atexit` hooks at all: they end
    with `os._exit` after multiprocessing's own finalizers, and they clear the finalizers of their parent at their start.
    Celery's workers run neither.
    """
    global _exit_hook_pid  # noqa: PLW0603 - one pair of hooks for each process, whatever it was forked from
    if _exit_hook_pid == os.getpid():
        return
    _exit_hook_pid = os.getpid()
    atexit.unregister(_at_exit)
    atexit.register(_at_exit)
    # Looked up, never imported: a process that has not loaded multiprocessing is none of its children. In a process that
    # has both hooks the second one to run finds nothing left to do.
    multiprocessing_util: Any = sys.modules.get("multiprocessing.util")
    if multiprocessing_util is not None:
        multiprocessing_util.Finalize(None, _at_exit, exitpriority=_EXIT_PRIORITY)
    # The workers of Celery's prefork pool end with `os._exit`, without any finalizers: only a signal of Celery's announces it.
    celery_signals: Any = sys.modules.get("celery.signals")
    if celery_signals is not None:
        shutdown = celery_signals.worker_process_shutdown
        shutdown.connect(_at_worker_shutdown, weak=False, dispatch_uid=__name__)


def install_signal_flush(*signals: int, timeout: float | None = None) -> None:
    """Flush the history when a signal arrives, then run the handler that was installed before.

    For programs that leave SIGTERM at its default, which ends a process without running `atexit`. Web servers such as
    gunicorn and Celery turn it into a normal end and need no help; uvicorn ends itself by the signal, after its lifespan. Call it on
    the main thread.

    Args:
        signals: the numbers of the signals; SIGTERM if none is given.
        timeout: seconds the flush may take; the exit timeout of the settings if not given.

    Raises:
        ValueError: not called on the main thread.
    """
    for number in signals or (signal.SIGTERM,):
        _flush_before_handler(number, timeout)


def _flush_before_handler(number: int, timeout: float | None) -> None:
    previous = signal.getsignal(number)

    def handle(number: int, frame: FrameType | None) -> None:
        # Only the history. A signal handler runs between two instructions of the main thread, which may hold the lock of
        # the circuits; waiting for that lock here would be a deadlock. The history's locks are re-entrant for this reason.
        _finish(Stage.HISTORY, timeout, ends=False)
        if callable(previous):
            previous(number, frame)
        elif previous is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    signal.signal(number, handle)


def _at_worker_shutdown(**_: object) -> None:
    """Receive `worker_process_shutdown` of Celery."""
    _at_exit()


def _at_exit_once_more() -> None:
    """Write what functions of the program recorded that ran at the exit too, after the hook above.

    The interpreter never calls a hook that is registered while hooks run. So a handler whose first call is made in one of the program's
    own hooks has this one alone, which is registered first and therefore runs last.
    """
    _at_exit()


def _at_exit() -> None:
    for stage in Stage:
        _finish(stage, ends=True)


def _finish(stage: Stage, timeout: float | None = None, *, ends: bool) -> None:
    """Let all participants of *stage* write what is pending. They share *timeout* seconds, else the longest of their limits."""
    participants = list(_participants[stage])
    if timeout is None:
        timeout = max(map(_exit_limit, participants), default=0.0)
    deadline = time.monotonic() + timeout
    for participant in participants:
        left = max(0.0, deadline - time.monotonic())
        if ends:
            _call(partial(participant.at_exit, left))
        elif isinstance(participant, SignalledParticipant):
            _call(partial(participant.at_signal, left))


def _exit_limit(participant: Participant) -> float:
    return participant.exit_limit() if isinstance(participant, SignalledParticipant) else EXIT_TIMEOUT


def _before_fork() -> None:
    # First, so that no participant waits in vain for a thread that imports. And again at last: from then on no import begins.
    # It may not be held in between: a thread that waits for it may hold what a participant waits for.
    if _import_lock.acquire(timeout=_IMPORT_WAIT):
        _import_lock.release()
    for stage in reversed(Stage):
        for participant in list(_participants[stage]):
            _call(participant.before_fork)
    if _import_lock.acquire(timeout=_IMPORT_WAIT):
        _forking.add(threading.get_ident())


def _after_fork_in_parent() -> None:
    if threading.get_ident() in _forking:
        _forking.discard(threading.get_ident())
        _import_lock.release()
    for stage in Stage:
        for participant in list(_participants[stage]):
            _call(participant.after_fork_in_parent)


def _after_fork_in_child() -> None:
    global _import_lock  # noqa: PLW0603 - a thread of the parent may hold it, if the wait above was in vain
    _import_lock = threading.RLock()
    _forking.clear()
    for callback in _child_callbacks:
        _call(callback)
    for stage in Stage:
        for participant in list(_participants[stage]):
            _call(participant.after_fork_in_child)


def _call(hook: Callable[[], object]) -> None:
    """Call one hook. An error of one participant must not keep the others from releasing their locks."""
    try:
        hook()
    except Exception:  # noqa: BLE001 - logged, and the hooks after it still run
        _log.exception("a hook for forks and exits failed")


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
atexit.register(_at_exit_once_more)
