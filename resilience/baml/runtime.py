"""BAML's own runtime: imported at the first call, and unusable after a fork."""

from __future__ import annotations

import importlib
import os
from typing import Any

from resilience import errors


class _Runtime:
    """Remembers whether this process, or the one it was forked from, has used BAML's async runtime."""

    def __init__(self) -> None:
        self.baml_py: Any = None
        self.stale = False

    def after_fork(self) -> None:
        self.stale = self.stale or self.baml_py is not None


_shared = _Runtime()
os.register_at_fork(after_in_child=_shared.after_fork)


def baml_runtime() -> Any:
    """The baml_py module, once a call needs it.

    Raises:
        ForkedRuntimeError: a call was made before the fork; its runtime's threads are not in this process, and the call
            would wait for them for ever. A client that was only imported before the fork is fine (60 of 60 forks).
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
