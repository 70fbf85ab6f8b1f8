"""BAML's own runtime: imported at the first call, and unusable after a fork.

baml_py runs its requests on threads of a Rust runtime. `os.fork` copies only the calling thread, so in a child the runtime
looks alive but has no threads, and a call would wait for ever (BoundaryML/baml#2776). No API restarts it. Calls in such a
child are therefore refused with an error that says what to change.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from dataclasses import dataclass
from typing import Any

from resilience import errors, lifecycle


class _BamlRuntime:
    """The runtime of this process.

    Attributes:
        baml_py: the imported module; None before the first call.
        stale: whether this process was forked from one that had called BAML.
        client_is_stale: whether it was forked from one that had imported a generated client.
    """

    def __init__(self) -> None:
        self.baml_py: Any = None
        self.stale = False
        self.client_is_stale = False

    def after_fork(self) -> None:
        self.stale = self.stale or self.baml_py is not None
        # Every generated client has this module, whatever its package is called.
        self.client_is_stale = self.client_is_stale or any(
            name.endswith(".inlinedbaml") for name in tuple(sys.modules)
        )


_shared = _BamlRuntime()
lifecycle.call_in_child(_shared.after_fork)


@dataclass(frozen=True, slots=True)
class AbortSignal:
    """The abort controller that a caller gave with the BAML options.

    Attributes:
        controller: BAML's own object. It notifies nothing, so a wait has to look at it.
    """

    controller: Any

    @property
    def is_set(self) -> bool:
        """Whether the caller has aborted the call."""
        return bool(getattr(self.controller, "aborted", False))

    def error(self) -> Exception:
        """Return what BAML raises for a request that its caller aborted."""
        return abort_error()


def abort_error() -> Exception:
    """Return what BAML raises for a request that its caller aborted."""
    error: Exception = baml_runtime().baml_py.BamlAbortError("Operation was aborted")
    return error


def baml_runtime() -> Any:
    """Return the baml_py module.

    Raises:
        ForkedRuntimeError: a parent of this process called BAML before the fork. A client that was only imported before
            the fork works.
    """
    if _shared.stale:
        msg = (
            "BAML was called before this process was forked, and its runtime cannot answer here: make the first "
            "BAML call after the fork (gunicorn: drop preload_app or call nothing at import; Celery: "
            "worker_process_init), or start workers with the 'spawn' method"
        )
        raise errors.ForkedRuntimeError(msg)
    if _shared.baml_py is None:
        _shared.baml_py = importlib.import_module("baml_py")
    return _shared.baml_py


@functools.cache
def collector_needs_an_event() -> bool:
    """Return whether a Collector must not be read before the first event of its stream.

    Old versions (seen on 0.209, no longer on 0.217) list a call in the Collector before they store it. A read in between
    panics while it holds a lock of the Rust side, which stays poisoned: from then on every Collector of the process raises.
    """
    from importlib import metadata  # noqa: PLC0415 - as in `version.py`

    with contextlib.suppress(metadata.PackageNotFoundError, ValueError):
        major, minor = metadata.version("baml-py").split(".")[:2]
        return (int(major), int(minor)) < (0, 217)
    return False


def refuse_forked_client() -> None:
    """Refuse a blocking call in a child of a process that had imported the generated client.

    The import already starts the runtime. A blocking call in the child hangs, and it corrupts the memory of the parent, which
    then crashes (12 of 15 trials). Async calls of a client that was only imported work.

    Raises:
        ForkedRuntimeError: this process is such a child.
    """
    if _shared.client_is_stale:
        msg = (
            "the BAML client was imported before this process was forked, and a blocking call here would crash the parent: "
            "import baml_client in the child (Celery: in worker_process_init or inside the task; gunicorn: without "
            "preload_app), or start workers with the 'spawn' method"
        )
        raise errors.ForkedRuntimeError(msg)
