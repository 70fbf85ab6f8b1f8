"""One agent of the soak: callers that ask a provider through a handler until a signal ends it.

Started by `soak_fleet.py` as `python soak_agent.py PORT NOTES CALLERS`, with the settings in the environment. It writes to NOTES one line
for each call that has ended, and one every 20 ms, so that the checks know how busy the machine was. SIGTERM ends it as a web server
ends its workers. SIGUSR1 makes it fork a child that makes three calls and exits.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resilience import BAMLErrorHandler, BreakerPolicy, FallbackPolicy, RetryPolicy, set_request_id
from resilience.errors import ResilienceError

PORT, NOTES, CALLERS = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
_BEAT = 0.02
"""Seconds between two beats. The longest gap between them says for how long this process got no processor."""

handler = BAMLErrorHandler(
    retry=RetryPolicy(max_retries=1, initial_delay=0.02, max_delay=0.05, attempt_timeout=5.0),
    breaker=BreakerPolicy(open_for=0.5, open_max=2.0),
    fallback=FallbackPolicy(clients=("Backup",)),
)
_notes = os.open(NOTES, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC)
_ending = False
_forks = 0


class ProviderError(Exception):
    """A refusal of the provider, with the fields that SDKs give it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"Error code: {status}")
        self.status_code = status


def note(kind: str, **fields: Any) -> None:
    """Append a line to the notes of all agents."""
    line = {"kind": kind, "pid": os.getpid(), "at": time.time(), **fields}
    os.write(_notes, json.dumps(line).encode() + b"\n")


def asking(client: str) -> Callable[[], Any]:
    """Return the function that asks the provider as *client*."""

    async def ask() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        try:
            writer.write(f"{client} {os.getpid()}\n".encode())
            answer = (await reader.readline()).decode().strip()
        finally:
            writer.close()
        if not answer:
            raise ConnectionResetError
        if answer != "200":
            raise ProviderError(int(answer))
        return client

    return ask


async def call(name: str) -> None:
    """Make one call, and note how it ended."""
    set_request_id(name)
    try:
        _, client = await handler.call_with_fallback(asking, "F", "Primary")
        note("call", id=name, client=client)
    except Exception as exc:  # noqa: BLE001 - the checks judge every outcome
        ours = isinstance(exc, ResilienceError)
        note("call", id=name, client="", error=f"{type(exc).__name__}: {exc}"[:300], ours=ours)


async def caller(number: int) -> None:
    count = 0
    while not _ending:
        await call(f"{os.getpid()}-{number}-{count}")
        count += 1
        await asyncio.sleep(0.02)


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
            await call(f"{os.getpid()}-child-{number}")

    note("start")
    asyncio.new_event_loop().run_until_complete(calls())
    handler.close()
    os._exit(0)


async def main() -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, end)
    note("start")
    threading.Thread(target=beat, daemon=True).start()
    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    ours = sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("resilience"))
    note("end", threads=ours, descriptors=len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - only counted


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, fork)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    asyncio.run(main())
