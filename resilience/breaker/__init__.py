"""The fleet's circuits: who may ask which client now, shared by every process that can reach one store."""

from resilience.breaker.breaker import Breaker
from resilience.breaker.document import CircuitState
from resilience.breaker.messages import Cooldown, Operation, Order, Outcome, Rule, Sighting, Transition
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.store import Store, open_store
from resilience.breaker.verdict import verdict
from resilience.breaker.view import Permit, View

__all__ = [
    "Breaker",
    "BreakerPolicy",
    "CircuitState",
    "Cooldown",
    "Operation",
    "Order",
    "Outcome",
    "Permit",
    "Rule",
    "Sighting",
    "Store",
    "Transition",
    "View",
    "open_store",
    "verdict",
]
