"""Programs that gevent has patched: their threads are greenlets of one real thread, and what holds that thread holds them all.

BAML's blocking functions wait for the network without gevent, so a call on a greenlet would stop every other greenlet until the
provider answers, and no time limit could end it. Worse, the second call of a greenlet that is not the main one ends the process with
SIGSEGV (seen on baml-py 0.226.3, without this package as well). So such calls run on real threads, which gevent's own pool provides,
while the greenlet waits as gevent wants it.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

_MAX_THREADS: Final = 10_000
"""Threads of a pool, which starts them on demand. There are as many as calls in flight, so the limit is never met."""

_pools: Final[weakref.WeakKeyDictionary[Any, Any]] = weakref.WeakKeyDictionary()


def threads_are_greenlets() -> bool:
    """Return whether gevent has replaced the threads of this process."""
    gevent = sys.modules.get("gevent.monkey")
    return gevent is not None and bool(gevent.is_module_patched("threading"))


class ThreadWait:
    """A wait of a greenlet for a function on a real thread, with the methods of `resilience.background.Latch`.

    A Latch is a lock, and gevent has patched locks: one that is released on another thread wakes its waiter late or not at all. The
    result of a pool wakes the greenlet through its event loop.
    """

    __slots__ = ("_is_set", "_result")

    def __init__(self) -> None:
        self._is_set = False
        self._result: Any = None

    def run(self, function: Callable[[], object]) -> None:
        """Call *function* on a real thread. It calls `set` at its end. Called once, before any wait."""
        # Only a program that has imported gevent comes here. The package does not require it.
        hub: Any = import_module("gevent").get_hub()
        pool = _pools.get(hub)
        if pool is None:
            pool = _pools[hub] = import_module("gevent.threadpool").ThreadPool(_MAX_THREADS, hub)
        self._result = pool.spawn(function)

    def set(self) -> None:
        """Note the end, on the real thread. What wakes the greenlet is the pool, which may do that across threads."""
        self._is_set = True

    def is_set(self) -> bool:
        """Return whether the function has ended."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait on a greenlet. Return whether the function has ended.

        Args:
            timeout: seconds to wait at most; None without a limit.
        """
        if not self._is_set:
            self._result.wait(timeout)
        return self._is_set
