"""The processes of the soak: a provider that fails on demand, stores, and agents that come and go."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from resilience.history import migrations
from resilience.history.schema.sqlite_driver import module as sqlite3
from support.postgres import Postgres, asked
from support.valkey_servers import Valkey

AGENT = Path(__file__).with_name("soak_agent.py")
CALLERS = 4
"""Callers of each agent."""
_END_TIMEOUT = 120.0
"""Seconds to wait for the end of a process; only one that hangs takes so long."""


class Provider:
    """A provider of two clients, on a thread with a loop of its own. `Backup` always answers.

    Attributes:
        mode: what becomes of requests to `Primary`: `ok`, a status, `reset` or `hang`.
        requests: the requests by client and process.
        port: its port.
    """

    def __init__(self) -> None:
        self.mode = "ok"
        self.requests: Counter[tuple[str, int]] = Counter()
        self.port = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._answer, "127.0.0.1", 0, backlog=500)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError, asyncio.CancelledError):
            client, pid = (await reader.readline()).decode().split()
            self.requests[client, int(pid)] += 1
            mode = "ok" if client == "Backup" else self.mode
            while mode == "hang" and self.mode == "hang":  # noqa: ASYNC110 - another thread changes it
                await asyncio.sleep(0.05)
            if mode not in {"reset", "hang"}:
                writer.write(b"200\n" if mode == "ok" else f"{mode}\n".encode())
                await writer.drain()
        writer.close()


@dataclass(slots=True)
class Agent:
    """A process of the fleet.

    Attributes:
        process: the process.
        killed_at: when it was killed, in seconds since the epoch; None if it was not.
    """

    process: subprocess.Popen[bytes]
    killed_at: float | None = None


@dataclass(slots=True)
class Fleet:
    """A provider, stores and agents in a folder.

    Attributes:
        folder: the folder.
        provider: the provider.
        database_url: the history.
        store_url: the circuits.
        valkey: the Redis of the circuits, if they are in Redis.
        postgres: the server of the history, if it is in PostgreSQL.
        agents: all agents that were ever started.
    """

    folder: Path
    provider: Provider
    database_url: str
    store_url: str
    valkey: Valkey | None = None
    postgres: Postgres | None = None
    agents: list[Agent] = field(default_factory=list)

    @property
    def notes(self) -> Path:
        """The file in which all agents note their calls."""
        return self.folder / "notes"

    @property
    def said(self) -> str:
        """What all agents wrote to standard error."""
        return (self.folder / "said").read_text()

    @property
    def living(self) -> list[Agent]:
        """The agents that run."""
        return [agent for agent in self.agents if agent.process.poll() is None]

    def environment(self) -> dict[str, str]:
        """Return the environment of an agent."""
        tests = Path(__file__).parents[1]
        return os.environ | {
            "PYTHONPATH": f"{tests.parent}:{tests}",
            "RESILIENCE_STORE_URL" if self.valkey is None else "RESILIENCE_REDIS_URL": self.store_url,
            "RESILIENCE_DATABASE_URL": self.database_url,
            "RESILIENCE_LOG_DIR": str(self.folder / "logs"),
            "RESILIENCE_EXIT_TIMEOUT": "60",  # a busy machine is no reason for a loss
        }

    def start(self) -> None:
        """Start an agent."""
        with (self.folder / "said").open("ab") as said:
            process = subprocess.Popen(
                [sys.executable, str(AGENT), str(self.provider.port), str(self.notes), str(CALLERS)],
                cwd=self.folder,
                env=self.environment(),
                stderr=said,
            )
        self.agents.append(Agent(process))

    def kill(self, agent: Agent) -> None:
        """Kill an agent without a word."""
        agent.killed_at = time.time()
        agent.process.kill()
        agent.process.wait()

    def end(self) -> None:
        """End all agents as a deploy does, at once, and wait for them."""
        for agent in self.living:
            agent.process.send_signal(signal.SIGCONT)
            agent.process.send_signal(signal.SIGTERM)
        for agent in self.agents:
            agent.process.wait(_END_TIMEOUT)

    def asked(self, query: str) -> list[tuple[object, ...]]:
        """Return the rows of a query to the history."""
        if self.postgres is not None:
            return asked(self.database_url, query)
        connection = sqlite3.connect(self.database_url.removeprefix("sqlite:///"))
        try:
            return list(connection.execute(query))
        finally:
            connection.close()


def opened(stack: ExitStack, folder: Path, *, redis: bool, postgres: bool) -> Fleet:
    """Open a fleet without agents; *stack* closes it.

    Args:
        stack: closes the provider and the servers.
        folder: where everything is.
        redis: circuits in Redis instead of a file.
        postgres: history in PostgreSQL instead of a file.
    """
    provider = stack.enter_context(Provider())
    valkey = stack.enter_context(Valkey()) if redis else None
    server = stack.enter_context(Postgres()) if postgres else None
    database_url = f"sqlite:///{folder}/history.db" if server is None else server.create()
    if server is not None:
        migrations.upgrade(database_url)
    store_url = f"sqlite:///{folder}/circuits.db" if valkey is None else valkey.url
    fleet = Fleet(folder, provider, database_url, store_url, valkey, server)
    stack.callback(_kill_all, fleet)
    return fleet


def _kill_all(fleet: Fleet) -> None:
    for agent in fleet.living:
        agent.process.kill()
        agent.process.wait()
