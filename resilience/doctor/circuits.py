"""Looks at the store of circuits: can it be reached, may we write, will it keep what it is told, does its clock agree?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from redis.exceptions import RedisError

from resilience.breaker import Store, open_store
from resilience.breaker.messages import StepRequest
from resilience.breaker.stores.redis_connection import connect
from resilience.breaker.stores.redis_url import REDIS_SCHEMES, parse
from resilience.config.settings import Settings
from resilience.doctor.clocks import skewed
from resilience.doctor.finding import Finding, fail, ok, warn
from resilience.errors import ConfigurationError
from resilience.redaction import redact

_SUBJECT: Final = "circuits"
_OLDEST: Final = (6, 2)
_SLOW: Final = 0.05
"""A store slower than this, in seconds, is not waited for by calls."""


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at the store the circuits are shared through."""
    url = settings.redis_url or settings.store_url or ""
    try:
        store = open_store(url, namespace=settings.namespace)
    except ConfigurationError as exc:
        yield fail(_SUBJECT, str(exc), "correct RESILIENCE_REDIS_URL or RESILIENCE_STORE_URL")
        return
    try:
        reached = _reached(store, redact(url))
        yield reached
        if not reached.remedy and url.partition("://")[0] in REDIS_SCHEMES:
            yield from _server(url, settings.namespace or "resilience")
    finally:
        store.close()
    if url == "memory://":
        yield warn(
            _SUBJECT,
            "memory:// is shared with no other process",
            "unset RESILIENCE_STORE_URL to share circuits on this machine, or set RESILIENCE_REDIS_URL to share them between machines",
        )


def _reached(store: Store, shown: str) -> Finding:
    try:
        _ask(store)  # pays for the connection and the script
        began = time.perf_counter()
        _ask(store)
        seconds = time.perf_counter() - began
        known = len(store.names())
    except Exception as exc:  # noqa: BLE001 - a store of any kind may refuse in any way; that is what is reported
        return fail(_SUBJECT, f"{shown} cannot be used: {_words(exc)}", _remedy(exc))
    if seconds > _SLOW:
        return warn(
            _SUBJECT,
            f"{shown} took {1000 * seconds:.0f} ms to answer; calls wait {1000 * _SLOW:.0f} ms at most",
            "use a store nearer to these processes",
        )
    return ok(_SUBJECT, f"{shown} answers in {1000 * seconds:.1f} ms and knows {known} circuits")


def _ask(store: Store) -> None:
    (reply,) = store.step([StepRequest(client="doctor")])
    if isinstance(reply, Exception):
        raise reply


def _words(exc: Exception) -> str:
    return redact(f"{type(exc).__name__}: {exc}".partition("\n")[0])


def _remedy(exc: Exception) -> str:
    words = f"{type(exc).__name__} {exc}".lower()
    for mark, remedy in _REMEDIES.items():
        if mark in words:
            return remedy
    return (
        "start it, and check host, port, TLS and firewall in its URL; until then each process decides alone"
    )


_REMEDIES: Final = {
    "authentication": "give the user and password of the server in the URL",
    "noauth": "give the user and password of the server in the URL",
    "wrongpass": "give the user and password of the server in the URL",
    "noperm": "give the user the rights that the README lists under `ACL SETUSER`",
    "readonly": "point the URL at the primary, or use a redis+sentinel:// or redis+cluster:// URL",
    "oom": "give the server more memory, or another policy than noeviction only for other databases' keys",
    "database": "check that the path is a writable SQLite file on a local disk",
    "sqlite": "check that the path is a writable SQLite file on a local disk",
}


# --- the server behind it ---------------------------------------------------------------------------------------


def _server(url: str, namespace: str) -> Iterator[Finding]:
    link = connect(parse(url))
    try:
        server = link.server(f"{namespace}:circuits")
        yield from _written(server, namespace)
        yield from _clock(server)
        yield from _described(server)
    finally:
        link.close()


def _written(server: Any, namespace: str) -> Iterator[Finding]:
    """What a call would notice last: reading works on a replica and on a full server too."""
    try:
        server.set(f"{namespace}:writable", "1", px=60_000)
    except RedisError as exc:
        yield fail(_SUBJECT, f"it answers but cannot be written: {_words(exc)}", _remedy(exc))


def _clock(server: Any) -> Iterator[Finding]:
    before = time.time()
    try:
        seconds, micros = server.time()
    except RedisError as exc:
        yield fail(_SUBJECT, f"its time may not be asked for: {_words(exc)}", _remedy(exc))
        return
    skew = seconds + micros / 1e6 - (before + time.time()) / 2
    yield skewed("clock", "the store of circuits", skew)


def _described(server: Any) -> Iterator[Finding]:
    """What INFO tells, where the user is allowed to ask."""
    try:
        found = server.info()
    except RedisError:
        return
    version = tuple(int(part) for part in str(found.get("redis_version", "0")).split(".")[:2])
    if version < _OLDEST:
        yield fail(_SUBJECT, f"Redis {found['redis_version']}", "upgrade to Redis 6.2 or later, or to Valkey")
    policy = str(found.get("maxmemory_policy", "noeviction"))
    if int(found.get("maxmemory", 0)) and policy != "noeviction":
        yield warn(
            _SUBJECT,
            f"maxmemory-policy is {policy}: an open circuit may be evicted, and closed by that",
            "set maxmemory-policy noeviction, or use a server of its own",
        )
