"""What the URL of a store means: which kind it is, where it is, who shares it, and how it may be shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final

from resilience import lifecycle
from resilience.breaker.stores import redis_url
from resilience.breaker.stores.base import Store, WholeStore
from resilience.breaker.stores.lazy import LazyStore
from resilience.breaker.stores.memory import MemoryStore
from resilience.breaker.stores.redis_url import REDIS_SCHEMES
from resilience.breaker.stores.sqlite import SQLiteStore
from resilience.clock import Clock
from resilience.errors import ConfigurationError
from resilience.redaction import redact, redact_url

_MEMORY: Final = "memory://"
_SQLITE: Final = "sqlite:///"


class StoreKind(StrEnum):
    """The kinds of stores. To add one: here, in `StoreUrl.parse` and in `StoreUrl.open`."""

    MEMORY = "memory"
    FILE = "file"
    REDIS = "redis"


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A URL of a store, understood. Its repr shows no password.

    Attributes:
        url: the URL as it was given.
        kind: which kind of store it names.
        path: the SQLite file; None for other kinds.
    """

    url: str = field(repr=False)
    kind: StoreKind
    path: Path | None = None

    @classmethod
    def parse(cls, url: str) -> StoreUrl:
        """Read a URL: `memory://`, `sqlite:///file` (four slashes for an absolute path, `~` for the home folder), or a Redis.

        Args:
            url: the URL; the forms of a Redis URL are those of `redis.open_redis`.

        Raises:
            ConfigurationError: naming the URL's scheme and those that are supported.
        """
        scheme, _, _ = url.partition("://")
        if scheme in REDIS_SCHEMES:
            return cls(url, StoreKind.REDIS)
        if url == _MEMORY:
            return cls(url, StoreKind.MEMORY)
        path = url.removeprefix(_SQLITE).partition("?")[0]
        # An in-memory database of SQLite would be private to one connection, and lost with the first fork.
        if url.startswith(_SQLITE) and path and path != ":memory:":
            return cls(url, StoreKind.FILE, Path(path).expanduser())
        scheme = url.partition(":")[0] if ":" in url else url
        redis_schemes = ", ".join(f"{scheme}://" for scheme in sorted(REDIS_SCHEMES))
        msg = (
            f"no store of circuits for {scheme!r}: this version supports memory://, sqlite:///path/to/file, "
            f"{redis_schemes}"
        )
        raise ConfigurationError(msg)

    @property
    def shared(self) -> bool:
        """Whether other processes can use the same circuits."""
        return self.kind is not StoreKind.MEMORY

    @property
    def missing_file(self) -> bool:
        """Whether it names a file that does not exist. Opening the store would create it."""
        return self.path is not None and not self.path.exists()

    @property
    def display(self) -> str:
        """The URL without secrets, for messages."""
        return redact(redact_url(self.url))

    def open(self, *, namespace: str | None = None, clock: Clock | None = None) -> Store:
        """Return the store. Nothing is connected or created before its first step.

        Args:
            namespace: keeps the circuits of several deployments apart in one store; None is a store without one.
            clock: the store's time, for tests; the machine's by default. Redis always uses its server's.

        Raises:
            ConfigurationError: a Redis URL cannot be understood.
        """
        store = self.open_whole(clock)
        return store if namespace is None else store.in_namespace(namespace)

    def open_whole(self, clock: Clock | None = None) -> WholeStore:
        """Return the store, for several namespaces. Nothing is connected or created before its first step.

        Args:
            clock: as in `open`.

        Raises:
            ConfigurationError: a Redis URL cannot be understood.
        """
        if self.kind is StoreKind.REDIS:
            # Importing redis takes 0.1 s, and most processes use none.
            with lifecycle.importing():
                from resilience.breaker.stores.redis import open_redis  # noqa: PLC0415

            return open_redis(self.url)
        return MemoryStore(clock=clock) if self.path is None else SQLiteStore(self.path, clock=clock)

    def open_lazy(self, clock: Clock | None = None) -> WholeStore:
        """Return the store as `open_whole` does, but make it at its first use.

        Args:
            clock: as in `open`.

        Raises:
            ConfigurationError: a Redis URL cannot be understood.
        """
        if self.kind is not StoreKind.REDIS:
            return self.open_whole(clock)
        redis_url.parse(self.url)  # its mistakes belong to the caller, not to the sync thread
        return LazyStore(partial(self.open_whole, clock))


def open_store(url: str, *, namespace: str | None = None, clock: Clock | None = None) -> Store:
    """Return the store that a URL means. Nothing is connected or created before its first step.

    Args:
        url: see `StoreUrl.parse`.
        namespace: keeps the circuits of several deployments apart in one store; None is a store without one.
        clock: the store's time, for tests; the machine's by default.

    Raises:
        ConfigurationError: the URL cannot be understood, or no store supports it.
    """
    return StoreUrl.parse(url).open(namespace=namespace, clock=clock)
