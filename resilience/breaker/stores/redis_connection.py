"""Connections to Redis for the store: short timeouts, no retries, and the server that holds a key.

redis-py retries by itself after a timeout. The store must not: after a timeout it is unknown whether the script ran, and a second run
would count the same results twice.
"""

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

_TIMEOUT: Final = 0.25  # seconds that the sync thread waits for Redis; callers wait far less
_SENTINEL: Final = "sentinel_"


class RedisConnection(Protocol):
    """Open connections to one server, to the master that Sentinels name, or to the nodes of a cluster."""

    def server_for(self, key: str) -> Any:
        """Return the redis-py client of the server that holds a key. Untyped: redis-py's types do not cover what it can do."""

    def load_script(self, script: str) -> None:
        """Load a script on every server that may run it."""

    def close(self) -> None:
        """Close all connections."""


def connect(address: Address) -> RedisConnection:
    """Prepare connections to an address. Only a cluster is contacted already, for its slots.

    Raises:
        redis.RedisError: no node of a cluster answers.
    """
    options = {
        "socket_timeout": _TIMEOUT,
        "socket_connect_timeout": _TIMEOUT,
        **address.options,
        # After a timeout it is unknown whether a step was counted, so nothing may be sent again.
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "decode_responses": True,
        "encoding_errors": "backslashreplace",  # a lone surrogate in a reason must not fail the step
    }
    sentinel_options = {name: options.pop(name) for name in list(options) if name.startswith(_SENTINEL)}
    match address.kind:
        case "cluster":
            return _ClusterConnection(address, options)
        case "sentinel":
            return _SingleConnection(_master(address, options, sentinel_options))
        case "unix":
            return _SingleConnection(_pooled(UnixDomainSocketConnection, path=address.path, **options))
        case _:
            host, port = address.hosts[0]
            connection_class = SSLConnection if address.tls else Connection
            return _SingleConnection(_pooled(connection_class, host=host, port=port, **options))


def _pooled(connection_class: type[Any], **options: Any) -> Redis:
    return Redis.from_pool(ConnectionPool(connection_class=connection_class, **options))


def _master(address: Address, options: dict[str, Any], sentinel_options: dict[str, Any]) -> Redis:
    """Return a client that asks the Sentinels, at each connect, which server is the master.

    The Sentinels have credentials of their own and no databases: they get the other options only.
    """
    tls = {"ssl": True} if address.tls else {}
    common = {name: value for name, value in options.items() if name not in ("username", "password", "db")}
    credentials = {name.removeprefix(_SENTINEL): value for name, value in sentinel_options.items()}
    sentinel: Any = Sentinel
    client: Redis = sentinel(
        list(address.hosts), sentinel_kwargs={**common, **tls, **credentials}
    ).master_for(address.master, **options, **tls)
    return client


class _SingleConnection:
    """One server, or the master that Sentinels name."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    def server_for(self, key: str) -> Any:  # noqa: ARG002 - there is only one server
        return self._client

    def load_script(self, script: str) -> None:
        self._client.script_load(script)

    def close(self) -> None:
        self._client.close()
        self._client.connection_pool.disconnect()


class _ClusterConnection:
    """The nodes of a cluster, each with a pipeline of its own.

    redis-py's cluster pipeline is not used: it would send again what timed out. What a moved slot refuses, the store repeats itself.
    """

    def __init__(self, address: Address, options: dict[str, Any]) -> None:
        cluster_node: Any = ClusterNode
        tls: dict[str, Any] = {"ssl": True} if address.tls else {}
        self._client: Any = RedisCluster(
            startup_nodes=[cluster_node(*host) for host in address.hosts], **options, **tls
        )

    def server_for(self, key: str) -> Any:
        return self._client.get_redis_connection(self._client.get_node_from_key(key))

    def load_script(self, script: str) -> None:
        for node in self._client.get_primaries():
            # A node that is down gets the script when it is used again and answers NOSCRIPT.
            with contextlib.suppress(LineError, LineTimeoutError):
                self._client.get_redis_connection(node).script_load(script)

    def close(self) -> None:
        self._client.close()
