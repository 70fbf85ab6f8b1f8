"""A store that is made at its first use, on the sync thread: the import of its driver would stop an event loop for 0.2 s."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from resilience.breaker.messages import StepReply, StepRequest, Transition
from resilience.breaker.stores.base import Store, WholeStore


class LateStore:
    """Stands for a store of many processes until that is made.

    Args:
        make: returns the store.
    """

    shared = True

    def __init__(self, make: Callable[[], WholeStore]) -> None:
        self._make = make
        self._made: WholeStore | None = None

    def load(self) -> WholeStore:
        """Return the store, made now at the latest."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def in_namespace(self, namespace: str) -> Store:
        """Return this store as a namespace sees it; see `WholeStore.in_namespace`."""
        return _LateNamespace(self, namespace)

    def step(self, requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]:
        """Run each request; see `Store.step`."""
        return self.load().step(requests)

    def transitions(self, after: str = "") -> list[Transition]:
        """Return the logged transitions after a cursor; see `Store.transitions`."""
        return self.load().transitions(after)

    def names(self) -> list[str]:
        """Return the clients whose circuits the store knows; see `Store.names`."""
        return self.load().names()

    def disconnect(self) -> None:
        """Release what a fork must not copy. A store that is not made has nothing."""
        if self._made is not None:
            self._made.disconnect()

    def close(self) -> None:
        """Release everything."""
        if self._made is not None:
            self._made.close()


class _LateNamespace:
    """One namespace of a `LateStore`."""

    shared = True

    def __init__(self, whole: LateStore, namespace: str) -> None:
        self._whole = whole
        self._namespace = namespace
        self._made: Store | None = None
        self.disconnect = whole.disconnect
        self.close = whole.close

    def _load(self) -> Store:
        if self._made is None:
            self._made = self._whole.load().in_namespace(self._namespace)
        return self._made

    def step(self, requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]:
        """Run each request in this namespace; see `Store.step`."""
        return self._load().step(requests)

    def transitions(self, after: str = "") -> list[Transition]:
        """Return the transitions of this namespace; see `Store.transitions`."""
        return self._load().transitions(after)

    def names(self) -> list[str]:
        """Return the clients of this namespace; see `Store.names`."""
        return self._load().names()
