"""A server that speaks the protocol of Redis and means harm: it answers every step with bytes that a test gives."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Self

Play = Callable[[socket.socket], None]

_HARMLESS: Final = {
    b"SMEMBERS": b"*0\r\n",
    b"SADD": b":1\r\n",
    b"SCRIPT": b"+da39a3ee\r\n",
}
"""Replies to the commands around a step; any other command gets `+OK`."""


def bulk(text: str | bytes) -> bytes:
    """Return a text as Redis sends it."""
    data = text.encode() if isinstance(text, str) else text
    return b"$%d\r\n%s\r\n" % (len(data), data)


def reply(*parts: int | str | bytes | list[int | str]) -> bytes:
    """Return a list as Redis sends it."""
    out = b"*%d\r\n" % len(parts)
    for part in parts:
        if isinstance(part, list):
            out += reply(*part)
        else:
            out += b":%d\r\n" % part if isinstance(part, int) else bulk(part)
    return out


def step_reply(**changed: int | str | bytes) -> bytes:
    """Return what the script replies for a closed circuit, with *changed* parts; `more` follows at the end."""
    fields: dict[str, int | str | bytes] = {
        "state": "closed", "epoch": 0, "now": 1_700_000_000_000, "wait": 0, "cooldown": 0, "granted": 0,
        "successes": 0, "failures": 9, "slow": 0, "streak": 0, "reason": "", "cooldown_reason": "", "actor": "",
        "late": 0, "created": 0, "budget_used": 0, "admitted": 0, "ramp_ms": 0, "rejected": 0,
        "functions": 0, "requests": 0, "born_at": 0, "damaged": 0, "unreadable": 0,
    }  # fmt: skip
    return reply(*{**fields, **changed}.values())


class HostileRedis:
    """A server on a loopback port, for the length of a `with` block.

    Args:
        play: what it does when it is asked for a step: the bytes to send, or a function of the connection.
        log: the bytes that it sends for a log of transitions.
        names: the bytes that it sends for the names of clients.
    """

    def __init__(self, play: bytes | Play, *, log: bytes = b"*0\r\n", names: bytes = b"*0\r\n") -> None:
        self._play = play
        self._answers = {**_HARMLESS, b"XRANGE": log, b"SMEMBERS": names}
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with line, contextlib.suppress(OSError, ValueError):
            for name in _commands(line):
                if name == b"EVALSHA" and callable(self._play):
                    self._play(line)
                elif name == b"EVALSHA":
                    assert isinstance(self._play, bytes)
                    line.sendall(self._play)
                else:
                    line.sendall(self._answers.get(name, b"+OK\r\n"))


def drip(line: socket.socket) -> None:
    """Send a byte at a time, each sooner than any read times out, without an end."""
    line.sendall(b"*24\r\n$900000\r\n")
    while True:
        line.sendall(b"x")
        time.sleep(0.02)


def flood(line: socket.socket) -> None:
    """Send one text that never ends, as fast as it is taken."""
    line.sendall(b"*24\r\n$%d\r\n" % 2**40)
    while True:
        line.sendall(b"x" * 65_536)


def silent(line: socket.socket) -> None:
    """Take the command and say nothing, until the client hangs up."""
    while line.recv(4096):
        pass


def _commands(line: socket.socket) -> Iterator[bytes]:
    """Yield the names of the commands that come in."""
    with line.makefile("rb") as stream:
        while head := stream.readline():
            parts = []
            for _ in range(int(head[1:])):
                size = int(stream.readline()[1:])
                parts.append(stream.read(size + 2)[:-2])
            yield parts[0].upper()
