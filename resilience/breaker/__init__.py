"""The circuit breaker of a fleet: which client may be called now, shared by every process that can reach one store.

`breaker.py` is what callers use. `circuit.py` is the state machine, pure. `local/` is this process's copy of the circuits and the thread
that syncs it. `stores/` keeps the shared circuits in Redis, in an SQLite file or in memory.
"""

from resilience.breaker.breaker import Breaker
from resilience.breaker.local.namespace_sync import Listener
from resilience.breaker.local.sharing import SharedCircuits, StoreRegistry
from resilience.breaker.messages import (
    Cooldown,
    EpochChange,
    Operation,
    Order,
    Outcome,
    Transition,
    TransitionRule,
)
from resilience.breaker.outcome import outcome_for, refuses_request
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitState
from resilience.breaker.stores.base import Store
from resilience.breaker.stores.store_url import StoreKind, StoreUrl, open_store
from resilience.breaker.view import CircuitView, Permit

__all__ = [
    "Breaker",
    "BreakerPolicy",
    "CircuitState",
    "CircuitView",
    "Cooldown",
    "EpochChange",
    "Listener",
    "Operation",
    "Order",
    "Outcome",
    "Permit",
    "SharedCircuits",
    "Store",
    "StoreKind",
    "StoreRegistry",
    "StoreUrl",
    "Transition",
    "TransitionRule",
    "open_store",
    "outcome_for",
    "refuses_request",
]
