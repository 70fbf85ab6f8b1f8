"""Forks and exits: what must be let go before a fork, made anew in the child, and told before a process ends."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import Final, Protocol


class Watched(Protocol):
    """What an exchange answers to."""

    def before_fork(self) -> None:
        """Let go of what a fork must not copy, and hold still."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Begin anew, without the parent's thread, locks, leases and untold results."""

    def close(self) -> None:
        """Tell what is left, and end."""


_watched: Final[weakref.WeakSet[Watched]] = weakref.WeakSet()
_registered_by: Final[set[int]] = set()


def watch(exchange: Watched) -> None:
    """Let this exchange hear of forks."""
    _watched.add(exchange)


def close_at_exit() -> None:
    """See to it, once in each process, that every exchange is closed when the process ends."""
    if os.getpid() in _registered_by:
        return
    _registered_by.clear()
    _registered_by.add(os.getpid())
    atexit.unregister(close_all)
    atexit.register(close_all)
    # A child that multiprocessing forked ends by os._exit, which runs no atexit hooks but multiprocessing's own finalizers.
    if (multiprocessing := sys.modules.get("multiprocessing.util")) is not None:
        multiprocessing.Finalize(None, close_all, exitpriority=100)


def close_all() -> None:
    """Close every exchange that still runs."""
    for exchange in list(_watched):
        exchange.close()


def _before() -> None:
    for exchange in list(_watched):
        exchange.before_fork()


def _in_parent() -> None:
    for exchange in list(_watched):
        exchange.after_fork_in_parent()


def _in_child() -> None:
    for exchange in list(_watched):
        exchange.after_fork_in_child()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
