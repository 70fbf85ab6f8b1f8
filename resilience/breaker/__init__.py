"""The fleet's circuits: who may ask which client now, shared by every process that can reach one store."""

from resilience.breaker.breaker import Breaker
from resilience.breaker.messages import (
    Cooldown,
    EpochChange,
    Operation,
    Order,
    Outcome,
    Transition,
    TransitionRule,
)
from resilience.breaker.outcome import outcome_for
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitState
from resilience.breaker.stores.base import Store, open_store
from resilience.breaker.view import CircuitView, Permit

__all__ = [
    "Breaker",
    "BreakerPolicy",
    "CircuitState",
    "CircuitView",
    "Cooldown",
    "EpochChange",
    "Operation",
    "Order",
    "Outcome",
    "Permit",
    "Store",
    "Transition",
    "TransitionRule",
    "open_store",
    "outcome_for",
]
