"""Connections to Redis for the store: a time limit for each step, no retries, and the server that holds a key.

redis-py retries by itself after a timeout. The store must not: after a timeout it is unknown whether the script ran, and a second run
would count the same results twice.
"""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from redis import Redis, RedisCluster, Sentinel
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.connection import ConnectionPool
from redis.exceptions import ConnectionError as LineError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as LineTimeoutError
from redis.retry import Retry

from resilience.breaker.stores.bounded_socket import (
    BoundedConnection,
    BoundedMasterConnection,
    BoundedMasterSSLConnection,
    BoundedSSLConnection,
    BoundedUnixConnection,
    allowance,
)
from resilience.breaker.stores.redis_url import Address

_STEP_SECONDS: Final = 3.0
"""Seconds that a whole step may take, unless the URL sets a `socket_timeout`. Callers wait far less, and count the store as away after
a second. A reply that comes later still tells what the fleet knows."""
_SENTINEL: Final = "sentinel_"


class RedisConnection(Protocol):
    """Open connections to one server, to the master that Sentinels name, or to the nodes of a cluster."""

    def server_for(self, key: str) -> Any:
        """Return the redis-py client of the server that holds a key. Untyped: redis-py's types do not cover what it can do."""

    def load_script(self, script: str) -> None:
        """Load a script on every server that may run it."""

    def close(self) -> None:
        """Close all connections."""


class RedisLink:
    """The connection to an address, made when it is first needed. The namespaces of one store share it.

    Args:
        address: the address.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection: RedisConnection | None = None
        self._pid = 0
        passwords = (address.options.get("password"), address.options.get("sentinel_password"))
        self._secrets = [str(password) for password in passwords if password]
        timeout = address.options.get("socket_timeout", _STEP_SECONDS)
        self._seconds = float(timeout) if isinstance(timeout, int | float) else _STEP_SECONDS

    def connect(self) -> RedisConnection:
        """Return the connection."""
        # A forked child must not use the socket that it inherited: parent and child would read each other's replies.
        if self._connection is None or self._pid != os.getpid():
            self._connection = connect(self._address)
            self._pid = os.getpid()
        return self._connection

    def bounded(self, size: int) -> AbstractContextManager[None]:
        """Return a block in which everything together may take the time of one step.

        Args:
            size: bytes that servers may send in the block.
        """
        return allowance(self._seconds, size)

    def without_secrets(self, reply: Any) -> Any:
        """Return *reply*; in place of an error whose text has a password of the address, one that has not.

        A server may repeat the command that it refuses, and its errors are logged.
        """
        if not isinstance(reply, Exception):
            return reply
        text = str(reply)
        if not any(secret in text for secret in self._secrets):
            return reply
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return RedisError(f"{type(reply).__name__}: {text}")

    def disconnect(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        # A connection inherited through a fork is only forgotten: it is still the parent's.
        if connection is not None and self._pid == os.getpid():
            connection.close()


def connect(address: Address) -> RedisConnection:
    """Prepare connections to an address. Only a cluster is contacted already, for its slots.

    Raises:
        redis.RedisError: no node of a cluster answers.
    """
    options = {
        "socket_timeout": _STEP_SECONDS,
        "socket_connect_timeout": _STEP_SECONDS,
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
            return _SingleConnection(_pooled(BoundedUnixConnection, path=address.path, **options))
        case _:
            host, port = address.hosts[0]
            connection_class = BoundedSSLConnection if address.tls else BoundedConnection
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
    sentinels = sentinel(list(address.hosts), sentinel_kwargs={**common, **tls, **credentials})
    for each in sentinels.sentinels:
        # Not connected yet. `Redis` has no argument for the class of its connections.
        each.connection_pool.connection_class = BoundedSSLConnection if address.tls else BoundedConnection
    client: Redis = sentinels.master_for(
        address.master,
        connection_class=BoundedMasterSSLConnection if address.tls else BoundedMasterConnection,
        **options,
    )
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
        (host, port), *_ = address.hosts
        # With a URL the nodes get pools of their own, which take a class for their connections. The URL names one of the nodes.
        self._client: Any = RedisCluster(
            url=f"redis://[{host}]:{port}" if ":" in host else f"redis://{host}:{port}",
            startup_nodes=[cluster_node(*each) for each in address.hosts],
            connection_class=BoundedSSLConnection if address.tls else BoundedConnection,
            **options,
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
