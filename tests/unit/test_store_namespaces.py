"""Namespaces: deployments that share a store do not share circuits."""

from __future__ import annotations

from resilience.breaker import BreakerPolicy, CircuitState, Outcome
from resilience.breaker.messages import Batch, StepRequest
from resilience.breaker.stores.memory import MemoryStore
from resilience.breaker.stores.namespaced import NamespacedStore

POLICY = BreakerPolicy(consecutive_failures=2)


def test_deployments_that_share_a_store_do_not_share_circuits() -> None:
    """A circuit that opens in one namespace stays closed in the other; names and transitions are shown without the prefix."""
    store = MemoryStore()
    blue, green = NamespacedStore(store, "blue"), NamespacedStore(store, "green")
    failures = Batch(0, ((Outcome.FAILURE, 2),), reason="timeout")

    (opened,) = blue.step([StepRequest(client="Primary", policy=POLICY, batches=(failures,))])
    (other,) = green.step([StepRequest(client="Primary")])

    assert not isinstance(opened, Exception)
    assert not isinstance(other, Exception)
    assert (CircuitState.OPEN, CircuitState.CLOSED) == (opened.state, other.state)
    assert (
        ["Primary"]
        == [moved.client for moved in opened.transitions]
        == [m.client for m in blue.transitions()]
    )
    assert (["Primary"], []) == (blue.names(), green.names())
    assert [] == green.transitions()
    assert ["blue/Primary"] == store.names()


def test_an_error_of_a_circuit_is_passed_on() -> None:
    """An exception in the place of a reply is passed on, and `disconnect` and `close` reach the store."""

    class Broken(MemoryStore):
        closed = disconnected = False

        def step(self, requests: object) -> list[Exception]:
            return [OSError("gone")]

        def disconnect(self) -> None:
            self.disconnected = True

        def close(self) -> None:
            self.closed = True

    broken = Broken()
    store = NamespacedStore(broken, "blue")

    assert isinstance(store.step([StepRequest(client="Primary")])[0], OSError)
    store.disconnect()
    store.close()
    assert (broken.disconnected, broken.closed) == (True, True)
