"""Policies of one function, which replace those of the handler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resilience.breaker import BreakerPolicy
from resilience.errors import ConfigurationError
from resilience.execution.context import Policies
from resilience.fallback import FallbackPolicy
from resilience.retry import RetryPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionPolicies:
    """Policies of one function; None keeps the handler's own policy.

    Attributes:
        retry: replaces the handler's RetryPolicy for this function.
        fallback: replaces the handler's FallbackPolicy for this function.
        breaker: decides which failures of this function count against a circuit. The circuits, their thresholds and times
            are shared by all functions and follow the handler's policy.
    """

    retry: RetryPolicy | None = None
    fallback: FallbackPolicy | None = None
    breaker: BreakerPolicy | None = None


def resolve_policies(name: str, given: FunctionPolicies | Mapping[str, Any], own: Policies) -> Policies:
    """Return the policies of the function *name*: those that are *given*, and the handler's *own* for the rest.

    Raises:
        ConfigurationError: *given* has other keys than the three policies, or a value that is no policy.
    """
    if not isinstance(given, FunctionPolicies):
        # A mapping serves programs that read their policies from a file.
        try:
            given = FunctionPolicies(**given)
        except TypeError:
            msg = f"per_function[{name!r}]={given!r}: give a mapping with some of 'retry', 'fallback', 'breaker'"
            raise ConfigurationError(msg) from None
    for field, kind in (("retry", RetryPolicy), ("fallback", FallbackPolicy), ("breaker", BreakerPolicy)):
        value = getattr(given, field, None)
        if value is not None and not isinstance(value, kind):
            msg = f"per_function[{name!r}].{field}={value!r}: give a {kind.__name__}"
            raise ConfigurationError(msg)
    return Policies(
        retry=given.retry or own.retry,
        fallback=given.fallback or own.fallback,
        breaker=given.breaker or own.breaker,
    )
