"""What a store of circuits must do, and which store a URL means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from resilience.breaker.messages import StepReply, StepRequest, Transition
from resilience.breaker.stores.memory import MemoryStore
from resilience.breaker.stores.namespaced import NamespacedStore
from resilience.breaker.stores.redis_url import NAMESPACE, REDIS_SCHEMES
from resilience.breaker.stores.sqlite import SQLiteStore
from resilience.clock import Clock
from resilience.errors import ConfigurationError

_SQLITE: Final = "sqlite:///"


class Store(Protocol):
    """Keeps one document a client and a log of their transitions. Used by one thread at a time, the exchange's.

    Every verb may raise anything: for the exchange each exception means that the store is away.
    """

    def step(self, requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]:
        """Run each request through `circuit.step`, atomically, at the store's own time; one reply a request, in order.

        A request is carried out once or not at all, and the caller never repeats one that has results in it.
        """

    def transitions(self, after: str = "") -> list[Transition]:
        """The logged transitions after this cursor, oldest first; all that are kept when it is empty or another store's.

        The log is capped.
        """

    def names(self) -> list[str]:
        """The clients whose circuits the store knows, sorted."""

    def park(self) -> None:
        """Let go of whatever a fork must not copy; the next verb takes it up again."""

    def close(self) -> None:
        """Let go of everything. Closing twice is fine."""


def open_store(url: str, *, namespace: str | None = None, clock: Clock | None = None) -> Store:
    """Find the store that a URL means: `memory://`, `sqlite:///file` (four slashes for an absolute path), or a Redis.

    Nothing is opened or created before the first step.

    Args:
        url: where the circuits are; the forms of a Redis URL are those of `redis.open_redis`.
        namespace: keeps the circuits of several deployments apart in one store; None is a store without.
        clock: the store's time, for tests; the machine's by default.

    Raises:
        ConfigurationError: naming the URL's scheme and those this version supports.
    """
    if url.partition("://")[0] in REDIS_SCHEMES:
        from resilience.breaker.stores.redis import open_redis  # noqa: PLC0415 - redis takes 0.1 s to import, and most processes have none

        return open_redis(url, namespace or NAMESPACE)
    store = _open(url, clock)
    return store if namespace is None else NamespacedStore(store, namespace)


def _open(url: str, clock: Clock | None) -> Store:
    if url == "memory://":
        return MemoryStore(clock=clock)
    path = url.removeprefix(_SQLITE).partition("?")[0]
    if url.startswith(_SQLITE) and path and path != ":memory:":
        return SQLiteStore(Path(path), clock=clock)
    scheme = url.partition(":")[0] if ":" in url else url
    known = ", ".join(f"{each}://" for each in sorted(REDIS_SCHEMES))
    msg = f"no store of circuits for {scheme!r}: this version supports memory://, sqlite:///path/to/file, {known}"
    raise ConfigurationError(msg)
