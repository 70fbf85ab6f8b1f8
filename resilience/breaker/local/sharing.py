"""Which stores this process has open: users of one store share its sync thread, and users of one namespace its local circuits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from resilience import lifecycle
from resilience.breaker.local.namespace_sync import Listener, NamespaceSync
from resilience.breaker.local.sync_worker import StoreSyncWorker
from resilience.breaker.stores.base import Store, WholeStore
from resilience.clock import Clock

_Key = tuple[Hashable, int]


class SharedCircuits:
    """The local circuits of one namespace, and the sync thread of its store, as one user holds them.

    Args:
        worker: the store and its thread.
        namespace: the circuits.
        listener: callbacks of this user.
        on_close: called instead of closing the store, where others may use it too.

    Attributes:
        worker: the store and its thread.
        namespace: the circuits.
    """

    def __init__(
        self,
        worker: StoreSyncWorker,
        namespace: NamespaceSync,
        listener: Listener,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.worker = worker
        self.namespace = namespace
        self._listener = listener
        self._on_close = on_close
        self._closed = False
        namespace.listeners += (listener,)

    @classmethod
    def private(
        cls, store: Store, clock: Clock, sample: Callable[[], float], listener: Listener
    ) -> SharedCircuits:
        """Return the circuits of a store that no one else uses."""
        worker = StoreSyncWorker(store, clock=clock, sample=sample)
        return cls(worker, worker.open(store), listener)

    def close(self) -> None:
        """Send what is left. The last user of a store ends its thread and closes it. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        if self._on_close is None:
            self.worker.close()
        else:
            self._on_close()
        # After the last sync, whose transitions this user records.
        self.namespace.listeners = tuple(
            other for other in self.namespace.listeners if other is not self._listener
        )


@dataclass(slots=True)
class _OpenNamespace:
    sync: NamespaceSync
    users: int = 0


@dataclass(slots=True)
class _OpenStore:
    whole: WholeStore
    worker: StoreSyncWorker
    namespaces: dict[str | None, _OpenNamespace]


class StoreRegistry:
    """The stores that this process has open, by their identity.

    Args:
        sample: returns random numbers from 0 to 1, for jitter.
        listener: callbacks for what happens in any namespace, called once however many users it has.
    """

    def __init__(self, sample: Callable[[], float], listener: Listener) -> None:
        self._sample = sample
        self._listener = listener
        self._stores: dict[_Key, _OpenStore] = {}
        self._lock = threading.Lock()
        lifecycle.call_in_child(self._replace_lock)

    def acquire(
        self,
        identity: Hashable,
        open_store: Callable[[], WholeStore],
        namespace: str | None,
        clock: Clock,
        listener: Listener,
        *,
        private: bool = False,
    ) -> SharedCircuits:
        """Return the circuits of a namespace. They and the thread of their store are shared with other users in this process.

        Args:
            identity: equal for the users of one store, as its URL is.
            open_store: returns the store without a namespace.
            namespace: the namespace; None for a store without one.
            clock: time for durations; users with different clocks share nothing.
            listener: callbacks of this user.
            private: whether no other process writes to the store.
        """
        key = (identity, id(clock))
        with self._lock:
            store = self._stores.get(key)
            if store is None:
                whole = open_store()
                worker = StoreSyncWorker(whole, clock=clock, sample=self._sample)
                store = self._stores[key] = _OpenStore(whole, worker, {})
            found = store.namespaces.get(namespace)
            if found is None:
                view: Store = store.whole if namespace is None else store.whole.in_namespace(namespace)
                found = store.namespaces[namespace] = _OpenNamespace(store.worker.open(view, private=private))
                found.sync.listeners += (self._listener,)
            found.users += 1
        return SharedCircuits(
            store.worker, found.sync, listener, lambda: self._release(key, store, namespace, found)
        )

    def _release(self, key: _Key, store: _OpenStore, namespace: str | None, used: _OpenNamespace) -> None:
        with self._lock:
            used.users -= 1
            if used.users:
                return
            del store.namespaces[namespace]
            if not store.namespaces:
                del self._stores[key]
        # Without the lock: the last results may take a moment, and another thread may open another store meanwhile.
        store.worker.close_namespace(used.sync)

    def _replace_lock(self) -> None:
        # Another thread may have held it at the fork; in the child it would never be released.
        self._lock = threading.Lock()
