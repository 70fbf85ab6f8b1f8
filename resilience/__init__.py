"""Resilience for the LLM calls of BAML-generated clients: retries, shared circuit breakers, fallbacks and a history in SQL.

The names below are the public interface, together with the modules resilience.testing, .failure, .history, .privacy, .prometheus
and .clock. Importing this package imports neither the command line nor the demo or the test doubles: agents need none of them.

Most names are imported when they are first used: a command that prints a path needs no handler, and no driver of a database.
"""

from __future__ import annotations

import os
import sys

if os.path.basename(getattr(sys, "argv", [""])[0]) in ("resilience", "baml-resilience"):  # noqa: PTH119 - pathlib takes longer than the rest
    # Ctrl-C while the command starts: Python would print a traceback of imports. Here, because the imports below are the first
    # part of the start, before `__main__` can catch anything. A program that imports this package keeps its own handler. `_signal`
    # is a part of the interpreter, and here at once; `signal` takes as long as all of this file.
    import _signal  # type: ignore[import-not-found]  # without types: what `signal` is made of

    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, lambda *_: os._exit(130))

import importlib
from typing import TYPE_CHECKING, Any, Final

# Imported at once, since its module has the name of a function: a later import of the module would replace the function here.
from resilience.request_id import request_id, set_request_id
from resilience.tenant import set_tenant, tenant

if TYPE_CHECKING:
    from resilience.breaker import BreakerPolicy, CircuitState
    from resilience.config.settings import Settings
    from resilience.errors import (
        AllClientsFailedError,
        CircuitOpenError,
        DeadlineExceededError,
        ForkedRuntimeError,
        ResilienceError,
    )
    from resilience.failure import ErrorCategory, Failure
    from resilience.failure.classify import classify
    from resilience.fallback import FallbackPolicy
    from resilience.handler import BAMLErrorHandler, connect
    from resilience.history import ErrorRecord
    from resilience.retry import DEFAULT_RETRY_CONFIG, RetryPolicy
    from resilience.wrapper import BAMLWrapper, protect

__all__ = [
    "DEFAULT_RETRY_CONFIG",
    "AllClientsFailedError",
    "BAMLErrorHandler",
    "BAMLWrapper",
    "BreakerPolicy",
    "CircuitOpenError",
    "CircuitState",
    "DeadlineExceededError",
    "ErrorCategory",
    "ErrorRecord",
    "Failure",
    "FallbackPolicy",
    "ForkedRuntimeError",
    "ResilienceError",
    "RetryPolicy",
    "Settings",
    "classify",
    "connect",
    "protect",
    "request_id",
    "set_request_id",
    "set_tenant",
    "tenant",
]

_MODULES: Final = {
    "AllClientsFailedError": "errors",
    "BAMLErrorHandler": "handler",
    "BAMLWrapper": "wrapper",
    "BreakerPolicy": "breaker",
    "CircuitOpenError": "errors",
    "CircuitState": "breaker",
    "DEFAULT_RETRY_CONFIG": "retry",
    "DeadlineExceededError": "errors",
    "ErrorCategory": "failure",
    "ErrorRecord": "history",
    "Failure": "failure",
    "FallbackPolicy": "fallback",
    "ForkedRuntimeError": "errors",
    "ResilienceError": "errors",
    "RetryPolicy": "retry",
    "Settings": "config.settings",
    "classify": "failure",
    "connect": "handler",
    "protect": "wrapper",
}
"""The module of each name above that is imported at its first use."""


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names too, for completion in a shell."""
    return sorted({*globals(), *__all__})
