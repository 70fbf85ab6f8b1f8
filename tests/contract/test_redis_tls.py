"""Circuits over TLS: which servers `rediss://` trusts, and that it sends nothing to others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from redis.exceptions import ConnectionError as LineError
from support.delay_proxy import DelayProxy
from support.outages import RunningClock, RunningTime
from support.redis_workers import PATIENT, take_step
from support.valkey_servers import Valkey

from resilience.breaker import Breaker, Operation, Outcome
from resilience.breaker.messages import Batch, Order, StepRequest
from resilience.breaker.stores.redis import open_redis
from resilience.errors import CircuitOpenError

FAILED = (Batch(0, ((Outcome.FAILURE, 5),), "", "timeout"),)
_RECORD = 16_384
LONG_TIMEOUTS = "socket_timeout=10&socket_connect_timeout=10"


@dataclass
class Place:
    """A Valkey that is reached only through TLS.

    Attributes:
        port: the port that speaks TLS.
        authority: the file with the authority that signed its certificate.
        member: the file with a client certificate that it accepts.
        inner: the server behind.
    """

    port: int
    authority: Path
    member: Path
    inner: Valkey

    def url(self, host: str = "localhost", *words: str) -> str:
        return f"rediss://{host}:{self.port}?{'&'.join((LONG_TIMEOUTS, *words))}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    authority.issue_cert("agents@example.org").private_key_and_cert_chain_pem.write_to_path(
        folder / "member.pem"
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    with Valkey() as valkey, socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=admit, args=(listener, context, valkey.path), daemon=True).start()
        yield Place(listener.getsockname()[1], folder / "authority.pem", folder / "member.pem", valkey)


def admit(listener: socket.socket, context: ssl.SSLContext, path: str) -> None:
    """Accept connections until the listener is closed, and connect those with valid TLS to the server."""
    with contextlib.suppress(OSError):
        while True:
            line, _ = listener.accept()
            threading.Thread(target=serve, args=(line, context, path), daemon=True).start()


def serve(line: socket.socket, context: ssl.SSLContext, path: str) -> None:
    """Copy bytes both ways until either side closes."""
    with line, contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        with context.wrap_socket(line, server_side=True) as encrypted:
            copied = b"."
            while copied:
                ready, _, _ = select.select((encrypted, server), (), ())
                source, target = (encrypted, server) if encrypted in ready else (server, encrypted)
                copied = source.recv(_RECORD)  # a whole TLS record: select does not see what is left of one
                target.sendall(copied)


def known(place: Place) -> list[str]:
    with place.inner.looking() as client:
        return [str(each) for each in client.keys("*")]


@pytest.fixture(autouse=True)
def _empty(place: Place) -> None:
    with place.inner.looking() as client:
        client.flushall()


def test_circuits_are_shared_over_tls(place: Place) -> None:
    """With the authority and a client certificate, everything that a store does works."""
    url = place.url("localhost", f"ssl_ca_certs={place.authority}", f"ssl_certfile={place.member}")
    store = open_redis(url)
    reply = take_step(store, PATIENT, batches=FAILED)
    names = store.names()
    store.close()

    assert reply.failures == 5
    assert names == ["A"]


@pytest.mark.parametrize(
    ("host", "knows", "shows"),
    [("localhost", False, True), ("127.0.0.1", True, True), ("localhost", True, False)],
    ids=["an unknown authority", "a certificate for another host", "no client certificate"],
)
def test_nothing_is_sent_to_strangers(place: Place, host: str, *, knows: bool, shows: bool) -> None:
    """A server that cannot prove its name counts as away, and so does one that refuses our certificate."""
    words = [f"ssl_ca_certs={place.authority}"] * knows + [f"ssl_certfile={place.member}"] * shows
    store = open_redis(place.url(host, *words))
    with pytest.raises(LineError):
        take_step(store, PATIENT, batches=FAILED)
    store.close()

    assert known(place) == []


async def test_a_slow_handshake_is_no_silence(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """At a round trip of 400 ms the first look connects, speaks TLS and logs in before it is silent; an order binds before that.

    The client that is forced open is well: each attempt before the first reply succeeds, one at a time, and three are the most.
    """
    caplog.set_level(logging.INFO, "resilience")
    with place.inner.looking() as client:
        client.acl_setuser("agent", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all"])
    store = place.inner.store()
    store.step([StepRequest(client="A", order=Order(operation=Operation.OPEN, actor="ann"))])
    store.close()
    with DelayProxy(place.port, 0.4) as link, RunningTime() as seconds:
        words = f"ssl_ca_certs={place.authority}&ssl_certfile={place.member}"
        url = f"rediss://agent:secret@localhost:{link.port}?{words}"
        breaker = Breaker(open_redis(url), clock=RunningClock(seconds))
        in_flight, most, made = 0, 0, 0

        async def call_until_refused() -> None:
            nonlocal in_flight, most, made
            while True:
                try:
                    permit = await breaker.admit("A")
                except CircuitOpenError:
                    return
                made, in_flight = made + 1, in_flight + 1
                most = max(most, in_flight)
                await asyncio.sleep(0)
                in_flight -= 1
                breaker.settle(permit, Outcome.SUCCESS)

        async with asyncio.timeout(120.0):
            await asyncio.gather(*(call_until_refused() for _ in range(4)))
        degraded = breaker.degraded
        await asyncio.to_thread(breaker.close)

    assert made <= 3
    assert most <= 1
    assert degraded is False
    assert [text for text in caplog.messages if "is away" in text] == []
    assert link.connections == 1
