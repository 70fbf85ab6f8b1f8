"""Several deployments in one store: each sees only the circuits of its own namespace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from resilience.breaker.messages import StepReply, StepRequest, Transition


class _Store(Protocol):
    def step(self, requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]: ...

    def transitions(self, after: str = "") -> list[Transition]: ...

    def names(self) -> list[str]: ...

    def park(self) -> None: ...

    def close(self) -> None: ...


class NamespacedStore:
    """A store whose clients carry the namespace in front of their names.

    Args:
        store: the store behind; closed with this one.
        namespace: put before every client's name, with a slash between.
    """

    def __init__(self, store: _Store, namespace: str) -> None:
        self._store = store
        self._prefix = f"{namespace}/"
        self.park = store.park
        self.close = store.close

    def step(self, requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]:
        """As the store's, in this namespace."""
        told = [replace(request, client=self._prefix + request.client) for request in requests]
        return [
            reply
            if isinstance(reply, Exception)
            else replace(reply, transitions=self._own(reply.transitions))
            for reply in self._store.step(told)
        ]

    def transitions(self, after: str = "") -> list[Transition]:
        """As the store's, of this namespace."""
        return list(self._own(self._store.transitions(after)))

    def names(self) -> list[str]:
        """As the store's, of this namespace."""
        return [
            name.removeprefix(self._prefix) for name in self._store.names() if name.startswith(self._prefix)
        ]

    def _own(self, transitions: Sequence[Transition]) -> tuple[Transition, ...]:
        return tuple(
            replace(each, client=each.client.removeprefix(self._prefix))
            for each in transitions
            if each.client.startswith(self._prefix)
        )
