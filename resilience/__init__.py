"""Resilience for the LLM calls of BAML-generated clients: retries, shared circuit breakers, fallbacks and a history in SQL.

The names below are the public interface, together with the modules resilience.testing, .failure, .history, .privacy, .prometheus
and .clock. Importing this package imports neither the command line nor the demo or the test doubles: agents need none of them.
"""

from resilience.breaker import BreakerPolicy, CircuitState
from resilience.config.settings import Settings
from resilience.errors import (
    AllClientsFailedError,
    CircuitOpenError,
    DeadlineExceededError,
    ForkedRuntimeError,
    ResilienceError,
)
from resilience.failure import ErrorCategory, Failure, classify
from resilience.fallback import FallbackPolicy
from resilience.handler import BAMLErrorHandler, connect
from resilience.history import ErrorRecord
from resilience.request_id import request_id, set_request_id
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
]
