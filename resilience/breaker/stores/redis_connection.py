"""Connections to Redis as the store wants them: short timeouts, no retries, and each key's own server."""

from __future__ import annotations

import contextlib
from typing import Any, Final, Protocol

from redis import Redis, RedisCluster, Sentinel, SSLConnection, UnixDomainSocketConnection
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.connection import Connection, ConnectionPool
from redis.exceptions import ConnectionError as LineError
from redis.exceptions import TimeoutError as LineTimeoutError
from redis.retry import Retry

from resilience.breaker.stores.redis_url import Address

_SECONDS: Final = 0.25  # the thread waits so long for Redis; callers far less
_SENTINEL: Final = "sentinel_"


class Link(Protocol):
    """Connections that are open."""

    def server(self, key: str) -> Any:
        """The client of the server that holds a key; redis-py's types do not say what it can do."""

    def load(self, script: str) -> None:
        """Make a script known wherever it may be called."""

    def close(self) -> None:
        """Hang up."""


def connect(address: Address) -> Link:
    """Get ready to talk to an address; only a cluster is asked something already.

    Raises:
        redis.RedisError: no node of a cluster answers.
    """
    options = {
        "socket_timeout": _SECONDS,
        "socket_connect_timeout": _SECONDS,
        **address.options,
        # Whatever redis-py sends again by itself after a timeout may be counted twice.
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "decode_responses": True,
        "encoding_errors": "backslashreplace",  # half a surrogate in a reason must not cost the step
    }
    own = {name: options.pop(name) for name in list(options) if name.startswith(_SENTINEL)}
    match address.kind:
        case "cluster":
            return _Cluster(address, options)
        case "sentinel":
            return _Single(_master(address, options, own))
        case "unix":
            return _Single(_pooled(UnixDomainSocketConnection, path=address.path, **options))
        case _:
            host, port = address.hosts[0]
            return _Single(
                _pooled(SSLConnection if address.tls else Connection, host=host, port=port, **options)
            )


def _pooled(kind: type[Any], **options: Any) -> Redis:
    return Redis.from_pool(ConnectionPool(connection_class=kind, **options))


def _master(address: Address, options: dict[str, Any], own: dict[str, Any]) -> Redis:
    """A client that asks the Sentinels, at each connect, which server is the master."""
    tls = {"ssl": True} if address.tls else {}
    shared = {name: each for name, each in options.items() if name not in ("username", "password", "db")}
    credentials = {name.removeprefix(_SENTINEL): text for name, text in own.items()}
    find: Any = Sentinel
    client: Redis = find(list(address.hosts), sentinel_kwargs={**shared, **tls, **credentials}).master_for(
        address.master, **options, **tls
    )
    return client


class _Single:
    """One server, or the master that Sentinels name."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    def server(self, key: str) -> Any:  # noqa: ARG002 - there is but one
        return self._client

    def load(self, script: str) -> None:
        self._client.script_load(script)

    def close(self) -> None:
        self._client.close()
        self._client.connection_pool.disconnect()


class _Cluster:
    """The nodes of a cluster. redis-py's own cluster pipeline would send again what timed out, so each node has one of its own."""

    def __init__(self, address: Address, options: dict[str, Any]) -> None:
        node: Any = ClusterNode
        tls: dict[str, Any] = {"ssl": True} if address.tls else {}
        self._client: Any = RedisCluster(
            startup_nodes=[node(*host) for host in address.hosts], **options, **tls
        )

    def server(self, key: str) -> Any:
        return self._client.get_redis_connection(self._client.get_node_from_key(key))

    def load(self, script: str) -> None:
        for node in self._client.get_primaries():
            # One that is down is missed when it is needed.
            with contextlib.suppress(LineError, LineTimeoutError):
                self._client.get_redis_connection(node).script_load(script)

    def close(self) -> None:
        self._client.close()
