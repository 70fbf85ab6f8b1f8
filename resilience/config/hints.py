"""What to write instead of an argument that does not exist: names of policies, of settings, and of other libraries."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Final

from resilience.breaker import BreakerPolicy
from resilience.config.settings import Settings
from resilience.fallback import FallbackPolicy
from resilience.logs import LogPolicy
from resilience.retry import RetryPolicy

_PARAMETERS: Final = (
    ("retry", RetryPolicy),
    ("breaker", BreakerPolicy),
    ("fallback", FallbackPolicy),
    ("settings", Settings),
    ("logs", LogPolicy),
)
"""The parameters of `BAMLErrorHandler` that take the values a user may try to pass directly; earlier rows win."""

_ELSEWHERE: Final = {
    "allowed_fails": "breaker=BreakerPolicy(consecutive_failures=...)",
    "attempts": "retry=RetryPolicy(max_retries=...), which counts the tries after the first",
    "backoff_factor": "retry=RetryPolicy(exponential_base=...)",
    "base_delay": "retry=RetryPolicy(initial_delay=...)",
    "circuit_breaker_threshold": "breaker=BreakerPolicy(consecutive_failures=...)",
    "circuit_breaker_timeout": "breaker=BreakerPolicy(open_for=...)",
    "content_policy_fallbacks": "fallback=FallbackPolicy(content_clients=...)",
    "context_window_fallbacks": "fallback=FallbackPolicy(context_clients=...)",
    "cooldown_time": "breaker=BreakerPolicy(open_for=...)",
    "enable_circuit_breaker": "breaker=BreakerPolicy(enabled=...)",
    "exclude": "breaker=BreakerPolicy(counts=...), the categories that count as failures",
    "fail_max": "breaker=BreakerPolicy(consecutive_failures=...)",
    "failure_threshold": "breaker=BreakerPolicy(consecutive_failures=...)",
    "fallback_clients": "fallback=FallbackPolicy(clients=...)",
    "fallbacks": "fallback=FallbackPolicy(clients=...)",
    "multiplier": "retry=RetryPolicy(exponential_base=...)",
    "num_retries": "retry=RetryPolicy(max_retries=...)",
    "patience": "retry=RetryPolicy(retry_modes=...)",
    "recovery_timeout": "breaker=BreakerPolicy(open_for=...)",
    "request_timeout": "retry=RetryPolicy(attempt_timeout=...)",
    "reset_timeout": "breaker=BreakerPolicy(open_for=...)",
    "retries": "retry=RetryPolicy(max_retries=...)",
    "stop": "retry=RetryPolicy(max_retries=..., deadline=...)",
    "success_threshold": "breaker=BreakerPolicy(successes_to_close=...)",
    "timeout": "retry=RetryPolicy(attempt_timeout=...) for one attempt, or deadline=... for the whole call",
    "wait": "retry=RetryPolicy(initial_delay=..., max_delay=...)",
}
"""Names of the first handler of the co-scientist, of tenacity, pybreaker, LiteLLM and HTTP clients."""


_HANDLER: Final = "BAMLErrorHandler"
_LONGEST: Final = 100
"""Characters of a wrong value that a message quotes."""


def reject_unknown(function: str, unknown: Collection[str], accepted: Collection[str]) -> None:
    """Raise for the first unknown keyword argument, saying what to write instead where that is known.

    Args:
        function: the function that was called, for the text.
        unknown: the names of its unknown arguments.
        accepted: the arguments that it has.

    Raises:
        TypeError: *unknown* is not empty.
    """
    for name in unknown:
        msg = f"{function}() got an unexpected keyword argument {name!r}{_hint(function, name, accepted)}"
        raise TypeError(msg)


def parameter_of(value: object) -> str | None:
    """Return the parameter of `BAMLErrorHandler` that takes *value*; None for a value that none takes."""
    return next((parameter for parameter, policy in _PARAMETERS if isinstance(value, policy)), None)


def require_types(function: str, **given: object) -> None:
    """Raise for the first value that is not of the type of its parameter. None stands for a parameter that was not given.

    Args:
        function: the function that was called, for the text.
        **given: values by parameter; parameters that `BAMLErrorHandler` has.

    Raises:
        TypeError: a value is of another type.
    """
    for parameter, policy in _PARAMETERS:
        value = given.get(parameter)
        if value is not None and not isinstance(value, policy):
            # The type alone: a mapping given for the settings may hold a password.
            shown = f"a {type(value).__name__}" if isinstance(value, Mapping) else repr(value)[:_LONGEST]
            msg = f"{function}({parameter}={shown}): give {parameter}={policy.__name__}(...)"
            raise TypeError(msg)


def _hint(function: str, name: str, accepted: Collection[str]) -> str:
    remedy = _remedy(name)
    if remedy is not None:
        return f": write {remedy}" if function == _HANDLER else f": write {_HANDLER}({remedy})"
    from difflib import get_close_matches  # noqa: PLC0415 - for mistakes alone

    close = get_close_matches(name, accepted, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _remedy(name: str) -> str | None:
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    # Fields are read from the dataclasses, so that a new field of a policy has its hint at once.
    for parameter, policy in _PARAMETERS:
        if name == parameter:
            return f"{parameter}={policy.__name__}(...)"
        if name in {field.name for field in dataclasses.fields(policy)}:
            return f"{parameter}={policy.__name__}({name}=...)"
    return None
