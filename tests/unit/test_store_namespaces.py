"""Namespaces: deployments that share a store do not share circuits."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from resilience.breaker import BreakerPolicy, CircuitState, Outcome
from resilience.breaker.messages import Batch, Operation, Order, StepRequest
from resilience.breaker.stores.memory import MemoryStore
from resilience.breaker.stores.names import decode_name, encode_name
from resilience.breaker.stores.namespaced import NamespacedStore
from resilience.breaker.stores.redis import RedisStore
from resilience.breaker.stores.sqlite import SQLiteStore

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


# Few characters, so that names are near to each other: those that keys use, and those that texts cannot carry.
names = st.text("ab/%{}:\0\\u25DC80\ud800\udc80", max_size=12)


@given(names)
def test_names_come_back(name: str) -> None:
    """A name that was encoded can be decoded and encoded in UTF-8; a usual one is unchanged."""
    encoded = encode_name(name)

    assert name == decode_name(encoded)
    assert encoded == encoded.encode().decode()
    assert encoded == name or set(name) & set("\0\ud800\udc80")


@given(st.tuples(names, names), st.tuples(names, names))
def test_keys_cannot_collide(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Two circuits have one key in no store, unless namespace and client are the same."""
    redis = [RedisStore("redis://unused", namespace=space)._key(client, "") for space, client in (one, other)]
    prefixed = [
        NamespacedStore(MemoryStore(), space)._prefix + encode_name(client) for space, client in (one, other)
    ]

    assert (one == other) == (redis[0] == redis[1]) == (prefixed[0] == prefixed[1])


def test_one_odd_name_is_a_name_like_any_other() -> None:
    """Half a surrogate, a NUL and a slash in names and orders fail no step, also none of another client in the same step."""
    for store in (MemoryStore(), SQLiteStore(Path("circuits.db"))):
        space = NamespacedStore(store, "team/\udc80")
        order = Order(operation=Operation.OPEN, actor="\ud800", reason="\0 and \udfff")
        odd = ["\udc80", "\\udc80", "\0", "a/b", ""]
        replies = space.step([StepRequest(client=name, policy=POLICY, order=order) for name in odd])

        assert all(
            not isinstance(reply, Exception) and reply.state is CircuitState.FORCED_OPEN for reply in replies
        )
        assert set(odd) == set(space.names()) == {move.client for move in space.transitions()}
        store.close()
