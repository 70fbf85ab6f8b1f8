"""Checks of the store of circuits: reachable, fast, writable, on a clock that agrees, and safe from eviction.

A store that cannot be used fails no call: each process then uses its local circuits. That is why nothing else reports it loudly.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from redis.exceptions import RedisError

from resilience.breaker import Store, StoreKind
from resilience.breaker.messages import StepRequest
from resilience.breaker.stores.redis_connection import connect
from resilience.breaker.stores.redis_url import parse
from resilience.breaker.stores.remedies import remedy
from resilience.config.settings import Settings
from resilience.doctor.finding import Finding, compare_clocks, fail, ok, warn
from resilience.errors import ConfigurationError
from resilience.ops.phrases import count
from resilience.redaction import redact

_SUBJECT: Final = "circuits"
# What step.lua and the stream of transitions need. Tests run on Valkey.
_OLDEST_REDIS: Final = (6, 2)
_SLOW: Final = 0.05
"""Seconds that a call waits for the store at most."""


def examine(settings: Settings) -> Iterator[Finding]:
    """Check the store through which processes share their circuits.

    Args:
        settings: complete settings; `redis_url` has precedence over `store_url`.
    """
    try:
        store_url = settings.circuit_store
        store = store_url.open(namespace=settings.namespace)
    except ConfigurationError as exc:
        yield fail(_SUBJECT, str(exc), "correct RESILIENCE_REDIS_URL or RESILIENCE_STORE_URL")
        return
    if store_url.missing_file:
        # Opening it would create it, and the next order from this folder would find a store that no agent reads.
        yield ok(_SUBJECT, f"{store_url.display} does not exist yet: the first process makes it")
        return
    try:
        reached = _check_speed(store, store_url.display)
        yield reached
        if not reached.remedy and store_url.kind is StoreKind.REDIS:
            yield from _check_server(store_url.url, settings.namespace or "resilience")
    finally:
        store.close()
    if not store_url.shared:
        yield warn(
            _SUBJECT,
            "memory:// is shared with no other process",
            "unset RESILIENCE_STORE_URL to share circuits on this machine, or set RESILIENCE_REDIS_URL to share them between machines",
        )


def _check_speed(store: Store, shown_url: str) -> Finding:
    """Measure one round trip, on a connection that is open.

    Args:
        store: the store to ask.
        shown_url: its URL, with secrets masked.
    """
    try:
        _step(store)  # not measured: it opens the connection and may load the script
        started = time.perf_counter()
        _step(store)
        seconds = time.perf_counter() - started
        circuits = len(store.names())
    except Exception as exc:  # noqa: BLE001 - a store of any kind may fail in any way, and that is the finding
        return fail(_SUBJECT, f"{shown_url} cannot be used: {_text(exc)}", remedy(exc))
    if seconds > _SLOW:
        return warn(
            _SUBJECT,
            f"{shown_url} took {1000 * seconds:.0f} ms to answer; calls wait at most {1000 * _SLOW:.0f} ms",
            "use a store nearer to these processes",
        )
    return ok(
        _SUBJECT, f"{shown_url} answers in {1000 * seconds:.1f} ms and has {count(circuits, 'circuit')}"
    )


def _step(store: Store) -> None:
    """Read one circuit by the same request that calls use: it needs the same rights."""
    (reply,) = store.step([StepRequest(client="doctor")])
    if isinstance(reply, Exception):
        raise reply


def _text(exc: Exception) -> str:
    """Return class and first line of an exception, redacted: drivers put URLs and commands into their messages."""
    return redact(f"{type(exc).__name__}: {exc}").partition("\n")[0]


# --- only for Redis ---------------------------------------------------------------------------------------------


def _check_server(url: str, namespace: str) -> Iterator[Finding]:
    """Check what the store's own request does not show: rights to write, clock and configuration of the server."""
    connection = connect(parse(url))
    try:
        # In a cluster each key has its server. This is the one with the index of this namespace's circuits.
        server = connection.server_for(f"{namespace}:circuits")
        yield from _check_writing(server, namespace)
        yield from _check_clock(server)
        yield from _check_configuration(server)
    finally:
        connection.close()


def _check_writing(server: Any, namespace: str) -> Iterator[Finding]:
    """Report a server that cannot be written. Reading works on a replica and on a full server, too."""
    try:
        server.set(f"{namespace}:writable", "1", px=60_000)
    except RedisError as exc:
        yield fail(_SUBJECT, f"it answers but cannot be written: {_text(exc)}", remedy(exc))


def _check_clock(server: Any) -> Iterator[Finding]:
    """Compare the server's clock with ours, and report a user without the right to read it: step.lua needs that too."""
    before = time.time()
    try:
        seconds, microseconds = server.time()
    except RedisError as exc:
        yield fail(_SUBJECT, f"its time cannot be read: {_text(exc)}", remedy(exc))
        return
    # The server read its clock at some moment between the two readings here, so their middle is the best comparison.
    middle = (before + time.time()) / 2
    yield compare_clocks("clock", "the store of circuits", seconds + microseconds / 1e6 - middle)


def _check_configuration(server: Any) -> Iterator[Finding]:
    """Check version and eviction policy. Say nothing if the user has no right to INFO: it is optional."""
    try:
        info = server.info()
    except RedisError:
        return
    # Valkey reports the version of Redis that it is compatible with in the same field.
    version = tuple(int(part) for part in str(info.get("redis_version", "0")).split(".")[:2])
    if version < _OLDEST_REDIS:
        yield fail(_SUBJECT, f"Redis {info['redis_version']}", "upgrade to Redis 6.2 or later, or to Valkey")
    # Every circuit is one key. A server that evicts it forgets that the circuit is open.
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if int(info.get("maxmemory", 0)) and policy != "noeviction":
        yield warn(
            _SUBJECT,
            f"maxmemory-policy is {policy}: an open circuit may be evicted, which closes it",
            "set maxmemory-policy noeviction, or use a separate server",
        )
