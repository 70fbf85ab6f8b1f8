"""Several deployments in one store: each sees only the circuits of its own namespace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from resilience.breaker.messages import StepReply, StepRequest, Transition
from resilience.breaker.stores.base import Store, WatchedStore
from resilience.breaker.stores.names import decode_name, encode_name


def namespaces_of(names: Iterable[str]) -> list[str]:
    """Return the namespaces in front of the names that a whole store has, sorted."""
    prefixes = {name.partition("/")[0] for name in names if "/" in name}
    return sorted(prefix.replace("%2F", "/").replace("%25", "%") for prefix in prefixes)


class NamespacedStore:
    """A store that puts a namespace in front of every client's name.

    Args:
        store: the store behind; closed with this one.
        namespace: put before every client's name, with a slash between.
    """

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        # A slash in the namespace is escaped: otherwise "a" with the client "b/c" would be the circuit of "a/b" with "c".
        self._prefix = encode_name(namespace).replace("%", "%25").replace("/", "%2F") + "/"
        self.disconnect = store.disconnect
        self.close = store.close

    @property
    def shared(self) -> bool:
        """Whether other processes can use the same circuits."""
        return self._store.shared

    def step(self, requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]:
        """Run each request in this namespace; see `Store.step`."""
        prefixed = [
            replace(request, client=self._prefix + encode_name(request.client)) for request in requests
        ]
        # Of a reply, only the transitions name the client.
        return [
            reply
            if isinstance(reply, Exception)
            else replace(reply, transitions=self._in_namespace(reply.transitions))
            for reply in self._store.step(prefixed)
        ]

    def transitions(self, after: str = "") -> list[Transition]:
        """Return the transitions of this namespace; see `Store.transitions`."""
        return list(self._in_namespace(self._store.transitions(after)))

    def names(self) -> list[str]:
        """Return the clients of this namespace, sorted."""
        ours = (name for name in self._store.names() if name.startswith(self._prefix))
        return [decode_name(name.removeprefix(self._prefix)) for name in ours]

    def forget(self, client: str) -> bool:
        """Delete the circuit of a client of this namespace; see `Store.forget`."""
        return self._store.forget(self._prefix + client)

    def _in_namespace(self, transitions: Sequence[Transition]) -> tuple[Transition, ...]:
        return tuple(
            replace(transition, client=decode_name(transition.client.removeprefix(self._prefix)))
            for transition in transitions
            if transition.client.startswith(self._prefix)
        )


class WatchedNamespace(NamespacedStore):
    """A namespace of a store that can tell whether other processes have written.

    Args:
        store: the store behind; closed with this one.
        watched: the same store.
        namespace: as of `NamespacedStore`.
    """

    def __init__(self, store: Store, watched: WatchedStore, namespace: str) -> None:
        super().__init__(store, namespace)
        self._watched = watched

    def is_unchanged(self, clients: Sequence[str]) -> bool:
        """Return whether no other process has written since the last step about each of *clients*; see `WatchedStore`."""
        return self._watched.is_unchanged([self._prefix + encode_name(client) for client in clients])
