"""Poolers in transaction mode before a PostgreSQL server: one played here, and PgBouncer where the machine has it."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

_TRACKED = {
    *("user", "database", "replication", "client_encoding", "datestyle", "timezone", "intervalstyle"),
    *("standard_conforming_strings", "application_name"),
}
"""What PgBouncer lets through in a start-up packet by default; it refuses everything else."""
_SSL_REQUEST = 80877103
_CANCEL_REQUEST = 80877102


class PlayedPooler:
    """A proxy that gives each transaction of a client another session of the server, as PgBouncer does in transaction mode.

    It refuses start-up packets with parameters, or settings in `options`, that PgBouncer does not keep track of.

    Args:
        socket_file: the Unix socket of the server.

    Attributes:
        start_ups: the parameters of each start-up packet.
        refused: what was refused.
    """

    def __init__(self, socket_file: str) -> None:
        self._socket_file = socket_file
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.start_ups: list[dict[str, str]] = []
        self.refused: list[str] = []

    def run(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                # Without it each answer of several messages waits 40 ms for an acknowledgement.
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError, EOFError):
            packet = _start_up(client)
            if packet is None:
                return
            words = packet[8:].decode().split("\0")
            parameters = dict(zip(words[::2], words[1::2], strict=False))
            parameters.pop("", None)
            self.start_ups.append(parameters)
            wrong = _untracked(parameters)
            if wrong:
                self.refused += wrong
                text = f"unsupported startup parameter: {wrong[0]}"
                client.sendall(_message(b"E", f"SFATAL\0VFATAL\0C08P01\0M{text}\0\0".encode()))
                return
            sessions = [self._session(packet) for _ in range(2)]
            # Both sessions have greeted; the client gets one greeting.
            client.sendall(sessions[0][1])
            _pool(client, [session for session, _ in sessions])

    def _session(self, start_up: bytes) -> tuple[socket.socket, bytes]:
        """Return a new session of the server, and what the server sent until it was ready."""
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._socket_file)
        server.sendall(start_up)
        greeting = b""
        while True:
            kind, message = _read(server)
            greeting += message
            if kind == b"E":
                raise EOFError
            if kind == b"Z":
                return server, greeting


def _pool(client: socket.socket, sessions: list[socket.socket]) -> None:
    """Pass messages on, and take the next session after each transaction."""
    turn = 0
    try:
        while True:
            kind, message = _read(client)
            if kind == b"X":
                return
            sessions[turn].sendall(message)
            if kind not in {b"Q", b"S"}:  # the server answers in full only to a query or a Sync
                continue
            while True:
                answer, message = _read(sessions[turn])
                client.sendall(message)
                if answer == b"Z":
                    break
            if message[-1:] == b"I":  # idle: the transaction is over
                turn = (turn + 1) % len(sessions)
    finally:
        for session in sessions:
            session.close()


def _start_up(client: socket.socket) -> bytes | None:
    """Return the start-up packet; None for a request to cancel."""
    while True:
        head = _exactly(client, 4)
        packet = head + _exactly(client, struct.unpack("!I", head)[0] - 4)
        code = struct.unpack("!I", packet[4:8])[0]
        if code == _CANCEL_REQUEST:
            return None
        if code != _SSL_REQUEST:
            return packet
        client.sendall(b"N")


def _untracked(parameters: dict[str, str]) -> list[str]:
    wrong = [name for name in parameters if name != "options" and name.lower() not in _TRACKED]
    options = re.findall(r"-c\s*(\w+)=", parameters.get("options", ""))
    return wrong + [name for name in options if name.lower() not in _TRACKED]


def _read(source: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(source, 5)
    return head[:1], head + _exactly(source, struct.unpack("!I", head[1:])[0] - 4)


def _exactly(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = source.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def through(url: str, port: int) -> str:
    """Return the URL of the same database at a pooler on *port*."""
    parsed = sa.make_url(url)
    return parsed.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)


@contextmanager
def played(url: str) -> Iterator[Callable[[], str]]:
    """Yield a function that returns the URL of the database at *url* behind a `PlayedPooler`, and checks that nothing was refused."""
    pooler = PlayedPooler(f"{sa.make_url(url).query['host']}/.s.PGSQL.5432")
    thread = threading.Thread(target=pooler.run, daemon=True)
    thread.start()
    try:
        yield lambda: through(url, pooler.port)
        assert pooler.start_ups
        assert pooler.refused == []
    finally:
        pooler.close()


PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


@contextmanager
def pgbouncer(url: str, folder: Path) -> Iterator[Callable[[], str]]:
    """Yield a function that returns the URL of the database at *url* behind a PgBouncer in transaction mode."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    host = str(sa.make_url(url).query["host"])
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\n* = host={host} port=5432 user=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 3\n"
        # PgBouncer refuses to run as root, and the socket is in the data folder, which only the server's own user may enter.
        + (f"user = {pwd.getpwuid(Path(host).stat().st_uid).pw_name}\n" if os.getuid() == 0 else "")
    )
    for above in (folder, *list(folder.parents)[:-2]):
        above.chmod(0o755)
    with subprocess.Popen(
        [str(PGBOUNCER), "-q", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.poll() is None:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.02)
            yield lambda: through(url, port)
        finally:
            process.terminate()
