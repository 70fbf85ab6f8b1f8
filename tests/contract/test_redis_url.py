"""Which Redis a URL means, and that nothing a user wrote into one can have results counted twice."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from redis.connection import SSLConnection, UnixDomainSocketConnection

from resilience.breaker.stores.redis import open_redis
from resilience.breaker.stores.redis_connection import connect
from resilience.breaker.stores.redis_url import Address, parse
from resilience.errors import ConfigurationError

WRONG = {
    "http://localhost": "must begin with one of",
    "localhost:6379": "must begin with one of",
    "": "must begin with one of",
    "redis://a,b/0": "names one host",
    "redis://host:port": "looks like",
    "redis://host:99999": "looks like",
    "redis://host/one": "must be a number",
    "redis://host?db=one": "must be a number",
    "redis://host?socket_timeout=soon": "must be a number",
    "redis://host?retry_on_timeout=true": "no option 'retry_on_timeout'",
    "redis://host?decode_responses=false": "no option",
    "redis+cluster://host/3": "no database",
    "redis+sentinel://host:26379": "name of the master",
    "redis+sentinel://host:26379/": "name of the master",
    "unix://": "must name a socket",
    "redis://[::1": "not be read",
}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", Address(kind="single", hosts=(("localhost", 6379),))),
        ("valkey://localhost:7000", Address(kind="single", hosts=(("localhost", 7000),))),
        ("redis://", Address(kind="single", hosts=(("localhost", 6379),))),
        ("redis://[::1]:7000/3", Address(kind="single", hosts=(("::1", 7000),), options={"db": 3})),
        (
            "rediss://ann:p%40ss@host/0?ssl_ca_certs=/ca.pem",
            Address(
                kind="single",
                tls=True,
                hosts=(("host", 6379),),
                options={"db": 0, "username": "ann", "password": "p@ss", "ssl_ca_certs": "/ca.pem"},
            ),
        ),
        (
            "valkeys://:word@host",
            Address(kind="single", tls=True, hosts=(("host", 6379),), options={"password": "word"}),
        ),
        ("unix:///run/redis.sock?db=2", Address(kind="unix", path="/run/redis.sock", options={"db": 2})),
        (
            "redis+sentinel://ann:word@one,two:5000/main/4?sentinel_password=guard",
            Address(
                kind="sentinel",
                hosts=(("one", 26379), ("two", 5000)),
                master="main",
                options={"db": 4, "username": "ann", "password": "word", "sentinel_password": "guard"},
            ),
        ),
        (
            "valkeys+cluster://one,two:5000?socket_timeout=1.5",
            Address(
                kind="cluster",
                tls=True,
                hosts=(("one", 6379), ("two", 5000)),
                options={"socket_timeout": 1.5},
            ),
        ),
        (
            "rediss+sentinel://one/main",
            Address(kind="sentinel", tls=True, hosts=(("one", 26379),), master="main"),
        ),
    ],
)
def test_urls_name_a_server(url: str, expected: Address) -> None:
    """Every documented form is understood."""
    assert parse(url) == expected


@pytest.mark.parametrize("url", WRONG)
def test_wrong_urls_say_what_is_wrong(url: str) -> None:
    """A wrong URL raises with the reason before anything is connected."""
    with pytest.raises(ConfigurationError, match=WRONG[url]):
        open_redis(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://ann:geheim@host:port",
        "redis://ann:geheim@[::1",
        "http://ann:geheim@host",
        "ann:geheim@host",
        ":geheim@host",
    ],
)
def test_passwords_are_not_shown(url: str) -> None:
    """No password is in an exception, in its cause, or in the repr of an address."""
    with pytest.raises(ConfigurationError) as caught:
        open_redis(url)

    assert "geheim" not in "".join(traceback.format_exception_only(caught.value))
    assert "geheim" not in repr(caught.value.__cause__)
    assert "geheim" not in repr(parse("redis://ann:geheim@host"))


def test_a_store_that_was_never_used_connects_to_nothing() -> None:
    """Opening, disconnecting and closing need no server."""
    store = open_redis("redis://127.0.0.1:1")
    store.disconnect()
    store.close()
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:1?socket_timeout=0.5",
        "rediss://localhost:1?socket_timeout=0.5",
        "unix:///nowhere?socket_timeout=0.5",
        "redis+sentinel://localhost:1/main?socket_timeout=0.5",
        "rediss+sentinel://localhost:1/main?socket_timeout=0.5",
    ],
)
def test_connections_have_short_timeouts_and_no_retries(url: str) -> None:
    """Connections have short timeouts, no retries and text replies, and are of the kind that the URL names."""
    connection = connect(parse(url))
    pool = connection.server_for("A").connection_pool
    options: dict[str, Any] = pool.connection_kwargs
    connection.close()

    assert options["retry"].get_retries() == 0
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (0.5, 3.0)
    assert options["decode_responses"] is True
    assert issubclass(pool.connection_class, SSLConnection) is url.startswith("rediss")
    assert issubclass(pool.connection_class, UnixDomainSocketConnection) is url.startswith("unix")
