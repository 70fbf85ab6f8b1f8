"""A store that is made at its first use, on the sync thread. A handler has imported its driver before, see `driver_imports.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from resilience.breaker.messages import StepReply, StepRequest, Transition
from resilience.breaker.stores.base import Store, WholeStore

_S = TypeVar("_S", bound=Store)


class LazyView(Generic[_S]):
    """Stands for a store of many processes until that is made.

    Args:
        make: returns the store.
    """

    shared = True

    def __init__(self, make: Callable[[], _S]) -> None:
        self._make = make
        self._made: _S | None = None

    def load(self) -> _S:
        """Return the store, made now at the latest."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def step(self, requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]:
        """Run each request; see `Store.step`."""
        return self.load().step(requests)

    def transitions(self, after: str = "") -> list[Transition]:
        """Return the logged transitions after a cursor; see `Store.transitions`."""
        return self.load().transitions(after)

    def names(self) -> list[str]:
        """Return the clients whose circuits the store knows; see `Store.names`."""
        return self.load().names()

    def forget(self, client: str) -> bool:
        """Delete the circuit of a client; see `Store.forget`."""
        return self.load().forget(client)

    def disconnect(self) -> None:
        """Release what a fork must not copy. A store that is not made has nothing."""
        if self._made is not None:
            self._made.disconnect()

    def close(self) -> None:
        """Release everything."""
        if self._made is not None:
            self._made.close()


class LazyStore(LazyView[WholeStore]):
    """A `LazyView` of the whole store."""

    def namespaces(self) -> list[str]:
        """Return the namespaces that have circuits here; see `WholeStore.namespaces`."""
        return self.load().namespaces()

    def in_namespace(self, namespace: str) -> Store:
        """Return this store as a namespace sees it; see `WholeStore.in_namespace`."""
        return LazyView(lambda: self.load().in_namespace(namespace))
