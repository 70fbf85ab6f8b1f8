"""Circuits behind an encrypted line: what `rediss://` trusts, and what it tells to nobody it does not trust."""

from __future__ import annotations

import contextlib
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
from support.redis_workers import PATIENT, turn
from support.valkey_servers import Valkey

from resilience.breaker import Outcome
from resilience.breaker.messages import Batch
from resilience.breaker.stores.redis import open_redis

FAILED = (Batch(0, ((Outcome.FAILURE, 5),), "", "timeout"),)
_RECORD = 16_384
PATIENTLY = "socket_timeout=10&socket_connect_timeout=10"


@dataclass
class Place:
    """A Valkey that is reached only through TLS.

    Attributes:
        port: of the encrypted line.
        trusted: the file with the authority that signed its certificate.
        member: the file with a certificate of one it lets in.
        inner: the server behind.
    """

    port: int
    trusted: Path
    member: Path
    inner: Valkey

    def url(self, host: str = "localhost", *words: str) -> str:
        return f"rediss://{host}:{self.port}?{'&'.join((PATIENTLY, *words))}"


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
    with Valkey() as valkey, socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=admit, args=(door, context, valkey.path), daemon=True).start()
        yield Place(door.getsockname()[1], folder / "authority.pem", folder / "member.pem", valkey)


def admit(door: socket.socket, context: ssl.SSLContext, path: str) -> None:
    """Take lines until the door is closed, and connect those that are encrypted well with the server."""
    with contextlib.suppress(OSError):
        while True:
            line, _ = door.accept()
            threading.Thread(target=serve, args=(line, context, path), daemon=True).start()


def serve(line: socket.socket, context: ssl.SSLContext, path: str) -> None:
    """Carry words both ways until either side hangs up."""
    with line, contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        with context.wrap_socket(line, server_side=True) as secret:
            carried = b"something"
            while carried:
                ready, _, _ = select.select((secret, server), (), ())
                source, target = (secret, server) if secret in ready else (server, secret)
                carried = source.recv(
                    _RECORD
                )  # a whole TLS record, so that nothing is left that select does not see
                target.sendall(carried)


def known(place: Place) -> list[str]:
    with place.inner.looking() as client:
        return [str(each) for each in client.keys("*")]


@pytest.fixture(autouse=True)
def _empty(place: Place) -> None:
    with place.inner.looking() as client:
        client.flushall()


def test_circuits_are_shared_over_tls(place: Place) -> None:
    """With the authority and a certificate of one's own, all a store does is done."""
    url = place.url("localhost", f"ssl_ca_certs={place.trusted}", f"ssl_certfile={place.member}")
    store = open_redis(url)
    reply = turn(store, PATIENT, batches=FAILED)
    names = store.names()
    store.close()

    assert reply.failures == 5
    assert names == ["A"]


@pytest.mark.parametrize(
    ("host", "knows", "shows"),
    [("localhost", False, True), ("127.0.0.1", True, True), ("localhost", True, False)],
    ids=["an authority nobody named", "a certificate for another host", "no certificate of one's own"],
)
def test_nothing_is_told_to_strangers(place: Place, host: str, *, knows: bool, shows: bool) -> None:
    """A server that cannot prove who it is counts as away, and so does one that does not know us."""
    words = [f"ssl_ca_certs={place.trusted}"] * knows + [f"ssl_certfile={place.member}"] * shows
    store = open_redis(place.url(host, *words))
    with pytest.raises(LineError):
        turn(store, PATIENT, batches=FAILED)
    store.close()

    assert known(place) == []
