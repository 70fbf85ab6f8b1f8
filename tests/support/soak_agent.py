"""One agent of the soak: callers that ask a provider through a handler until a signal ends it.

Started by `soak_fleet.py` as `python soak_agent.py PORT NOTES`, with the settings in the environment. It writes to the pipe NOTES one
line for each call that has ended, and one every 20 ms, so that the checks know how busy the machine was. Two callers wait for
answers, one leaves its calls after a moment, and one is a blocking caller on a thread. SIGTERM ends it as a web server ends its
workers. SIGUSR1 makes it fork a child that makes three calls and exits.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from resilience import BAMLErrorHandler, BreakerPolicy, FallbackPolicy, RetryPolicy, set_request_id
from resilience.errors import ResilienceError

PORT, NOTES = int(sys.argv[1]), int(sys.argv[2])
_BEAT = 0.02
"""Seconds between two beats. The longest gap between them says for how long this process got no processor."""

_PATIENCE = 0.3
"""Seconds after which one of the callers leaves its call."""

handler = BAMLErrorHandler(
    retry=RetryPolicy(max_retries=1, initial_delay=0.02, max_delay=0.05, attempt_timeout=5.0),
    breaker=BreakerPolicy(open_for=0.5, open_max=2.0),
    fallback=FallbackPolicy(clients=("Backup",)),
)
_ending = False
_forks = 0


class ProviderError(Exception):
    """A refusal of the provider, with the fields that SDKs give it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"Error code: {status}")
        self.status_code = status


def note(kind: str, **fields: Any) -> None:
    """Send a line to the notes of all agents, in one write, which a pipe keeps in one piece."""
    line = {"kind": kind, "pid": os.getpid(), "at": time.time(), **fields}
    os.write(NOTES, json.dumps(line).encode() + b"\n")


def judged(client: str, answer: bytes) -> str:
    """Return *client* if the provider's *answer* is one.

    Raises:
        ConnectionResetError: it said nothing.
        ProviderError: it refused.
    """
    if not answer:
        raise ConnectionResetError
    if int(answer) != 200:
        raise ProviderError(int(answer))
    return client


class Call:
    """One call, its note, and how much of its time its clients took.

    Args:
        name: the request id.
        limit: seconds after which the caller leaves it; None for never.
    """

    def __init__(self, name: str, limit: float | None = None) -> None:
        self.name = name
        self._began = time.time()
        self._asking = 0.0
        self._leaves_at = None if limit is None else self._began + limit

    def asking(self, client: str) -> Callable[[], Any]:
        """Return the function that asks the provider as *client*."""

        async def ask() -> str:
            began = time.time()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
                try:
                    writer.write(f"{client} {os.getpid()}\n".encode())
                    return judged(client, await reader.readline())
                finally:
                    writer.close()
            finally:
                self._asking += time.time() - began

        return ask

    def asking_blocking(self, client: str) -> Callable[[], Any]:
        """Return the blocking function that asks the provider as *client*."""

        def ask() -> str:
            began = time.time()
            try:
                with socket.create_connection(("127.0.0.1", PORT)) as line:
                    line.sendall(f"{client} {os.getpid()}\n".encode())
                    return judged(client, line.recv(100))
            finally:
                self._asking += time.time() - began

        return ask

    async def make(self) -> None:
        """Make the call, and note how it ended."""
        set_request_id(self.name)
        try:
            self.answered(await handler.call_with_fallback(self.asking, "F", "Primary"))
        except asyncio.CancelledError:
            late = 0.0 if self._leaves_at is None else time.time() - self._leaves_at
            self.ended("", cancelled=True, late=late)
            raise
        except Exception as exc:  # noqa: BLE001 - the checks judge every outcome
            self.failed(exc)

    def make_blocking(self) -> None:
        """Make the call on this thread, and note how it ended."""
        set_request_id(self.name)
        try:
            self.answered(handler.sync.call_with_fallback(self.asking_blocking, "F", "Primary"))
        except Exception as exc:  # noqa: BLE001 - as above
            self.failed(exc)

    def answered(self, result: tuple[str, str]) -> None:
        answer, client = result
        self.ended(client, **({} if answer == client else {"error": f"{client} gave {answer}"}))

    def failed(self, exc: Exception) -> None:
        self.ended("", error=f"{type(exc).__name__}: {exc}"[:300], ours=isinstance(exc, ResilienceError))

    def ended(self, client: str, **fields: Any) -> None:
        ours = time.time() - self._began - self._asking
        note("call", id=self.name, client=client, began=self._began, waited=ours, **fields)


async def caller(number: int, limit: float | None) -> None:
    """Make one call after the other."""
    count = 0
    while not _ending:
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await Call(f"{os.getpid()}-{number}-{count}", limit).make()
        count += 1
        await asyncio.sleep(0.02)


def blocking_caller() -> None:
    """Make one blocking call after the other."""
    count = 0
    while not _ending:
        Call(f"{os.getpid()}-blocking-{count}").make_blocking()
        count += 1
        time.sleep(0.02)


def beat() -> None:
    """Note the time again and again."""
    while not _ending:
        note("beat")
        time.sleep(_BEAT)


def end(*_: object) -> None:
    """End the callers; the process then exits normally."""
    global _ending  # noqa: PLW0603 - one process, one end
    _ending = True


def fork(*_: object) -> None:
    """Fork a child that makes three calls and exits."""
    global _forks  # noqa: PLW0603 - names the calls of children
    _forks += 1
    if os.fork() == 0:
        child()


def child() -> None:
    """Make three calls in a forked child, close, and exit.

    In a loop of its own: that of the parent shares its epoll instance with it, so it must not even be closed here.
    """
    asyncio.events._set_running_loop(None)

    async def calls() -> None:
        for number in range(3):
            await Call(f"{os.getpid()}-child-{number}").make()

    note("start")
    asyncio.new_event_loop().run_until_complete(calls())
    handler.close()
    os._exit(0)


def obey_permissions() -> None:
    """Give up the right of root to write what is read-only, so that a read-only folder is one in every container.

    The socket of the PostgreSQL of the tests is in a folder that only its own user and root may enter.
    """
    if os.environ["RESILIENCE_DATABASE_URL"].startswith("postgresql"):
        return
    # Of capget(2): a version and a process, then the effective, permitted and inheritable rights, in two words each.
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    rights = (ctypes.c_uint32 * 6)()
    library = ctypes.CDLL(None)
    library.capget(head, rights)
    for word in (0, 1):
        rights[word] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    library.capset(head, rights)


async def main() -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, end)
    note("start")
    threading.Thread(target=beat, daemon=True).start()
    await asyncio.gather(
        caller(0, None), caller(1, None), caller(2, _PATIENCE), asyncio.to_thread(blocking_caller)
    )
    ours = sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("resilience"))
    note("end", threads=ours, descriptors=len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - only counted


if __name__ == "__main__":
    obey_permissions()
    signal.signal(signal.SIGUSR1, fork)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    asyncio.run(main())
