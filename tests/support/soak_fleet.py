"""The processes of the soak: a provider that fails on demand, stores, and agents that come and go."""

from __future__ import annotations

import asyncio
import fcntl
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from resilience import Settings
from resilience.history import migrations
from resilience.history.schema.sqlite_driver import module as sqlite3
from support.postgres import Postgres, asked
from support.valkey_servers import Valkey

AGENT = Path(__file__).with_name("soak_agent.py")
_END_TIMEOUT = 120.0
"""Seconds to wait for the end of a process; only one that hangs takes so long."""
_PIPE_BYTES = 2**20
"""Room for notes while this process has no processor."""


class Request(NamedTuple):
    """A request that the provider has read: when, in seconds since the epoch, for which client, from which process."""

    at: float
    client: str
    pid: int


class Provider:
    """A provider of two clients, on a thread with a loop of its own. `Backup` always answers.

    Attributes:
        mode: what becomes of requests to `Primary`: `ok`, a status, `reset` or `hang`.
        requests: its log.
        port: its port.
    """

    def __init__(self) -> None:
        self.mode = "ok"
        self.requests: list[Request] = []
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
            self.requests.append(Request(time.time(), client, int(pid)))
            mode = "ok" if client == "Backup" else self.mode
            while mode == "hang" and self.mode == "hang":  # noqa: ASYNC110 - another thread changes it
                await asyncio.sleep(0.05)
            if mode not in {"reset", "hang"}:
                writer.write(b"200\n" if mode == "ok" else f"{mode}\n".encode())
                await writer.drain()
        writer.close()


class Notes:
    """A pipe into which agents write what they did, and the thread that keeps it in a file.

    A pipe, because a process that gets a full disk cannot write to files.

    Args:
        file: the file.

    Attributes:
        pipe: the end for agents.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._end, self.pipe = os.pipe()
        fcntl.fcntl(self.pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Self:
        self._file.touch()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.pipe)
        self._thread.join()
        os.close(self._end)

    def _keep(self) -> None:
        with self._file.open("ab", buffering=0) as file:
            while some := os.read(self._end, _PIPE_BYTES):
                file.write(some)


@dataclass(frozen=True, slots=True)
class Happened:
    """A fault that has happened, from *began* to *ended*, in seconds since the epoch."""

    fault: str
    began: float
    ended: float


@dataclass(slots=True)
class Agent:
    """A process of the fleet.

    Attributes:
        process: the process.
        killed_at: when it was killed, in seconds since the epoch; None if it was not.
        is_ending: whether it was asked to end. A second SIGTERM would kill it: after the end of its loop that has its default
            action.
    """

    process: subprocess.Popen[bytes]
    killed_at: float | None = None
    is_ending: bool = False

    def terminate(self) -> None:
        """Ask it to end, as a deploy does."""
        if not self.is_ending:
            self.is_ending = True
            self.process.send_signal(signal.SIGTERM)


@dataclass(slots=True)
class Fleet:
    """A provider, stores and agents in a folder.

    Attributes:
        folder: the folder.
        provider: the provider.
        pipe: the end for agents of the pipe of notes.
        database_url: the history.
        store_url: the circuits.
        valkey: the Redis of the circuits, if they are in Redis.
        postgres: the server of the history, if it is in PostgreSQL.
        agents: all agents that were ever started.
        removed: the folders of histories that a fault has moved away.
        happened: the faults, in order.
        orders: the times in which an order held the circuit of `Primary` open.
    """

    folder: Path
    provider: Provider
    pipe: int
    database_url: str
    store_url: str
    valkey: Valkey | None = None
    postgres: Postgres | None = None
    agents: list[Agent] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)
    happened: list[Happened] = field(default_factory=list)
    orders: list[tuple[float, float]] = field(default_factory=list)

    @property
    def notes(self) -> Path:
        """The file with the notes of all agents."""
        return self.folder / "notes"

    @property
    def logs(self) -> Path:
        """The log folder of all agents."""
        return self.folder / "logs"

    @property
    def data(self) -> Path:
        """The folder of the history, if it is in a file."""
        return self.folder / "data"

    @property
    def settings(self) -> Settings:
        """The settings of an operator."""
        if self.valkey is None:
            return Settings(database_url=self.database_url, store_url=self.store_url)
        return Settings(database_url=self.database_url, redis_url=self.store_url)

    @property
    def said(self) -> str:
        """What all agents wrote to standard error."""
        return (self.folder / "said").read_text()

    @property
    def living(self) -> list[Agent]:
        """The agents that run."""
        return [agent for agent in self.agents if agent.process.poll() is None]

    @property
    def serving(self) -> list[Agent]:
        """The agents that run and were not asked to end."""
        return [agent for agent in self.living if not agent.is_ending]

    def happened_so_far(self, faults: Collection[str], at: float = math.inf) -> list[Happened]:
        """Return these *faults*, as far as they began before *at*, in seconds since the epoch."""
        return [one for one in self.happened if one.fault in faults and one.began <= at]

    def environment(self) -> dict[str, str]:
        """Return the environment of an agent."""
        tests = Path(__file__).parents[1]
        return os.environ | {
            "PYTHONPATH": f"{tests.parent}:{tests}",
            "RESILIENCE_STORE_URL" if self.valkey is None else "RESILIENCE_REDIS_URL": self.store_url,
            "RESILIENCE_DATABASE_URL": self.database_url,
            "RESILIENCE_LOG_DIR": str(self.logs),
            "RESILIENCE_EXIT_TIMEOUT": "60",  # a busy machine is no reason for a loss
        }

    def start(self) -> Agent:
        """Start an agent. It ignores the order to fork until it can obey."""
        before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        with (self.folder / "said").open("ab") as said:
            process = subprocess.Popen(
                [sys.executable, str(AGENT), str(self.provider.port), str(self.pipe)],
                cwd=self.folder,
                env=self.environment(),
                stderr=said,
                pass_fds=[self.pipe],
            )
        signal.signal(signal.SIGUSR1, before)
        self.agents.append(Agent(process))
        return self.agents[-1]

    def kill(self, agent: Agent) -> None:
        """Kill an agent without a word."""
        agent.killed_at = time.time()
        agent.process.kill()
        agent.process.wait()

    def end(self) -> None:
        """End all agents as a deploy does, at once, and wait for them."""
        for agent in self.living:
            agent.process.send_signal(signal.SIGCONT)
            agent.terminate()
        for agent in self.agents:
            agent.process.wait(_END_TIMEOUT)

    def histories(self) -> list[str]:
        """Return the URLs of the history and of those that were moved away, oldest first."""
        return [f"sqlite:///{folder}/history.db" for folder in self.removed] + [self.database_url]

    def asked(self, query: str, url: str = "") -> list[tuple[Any, ...]]:
        """Return the rows of a query to the history, or to the one at *url*."""
        url = url or self.database_url
        if self.postgres is not None:
            return asked(url, query)
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        try:
            return list(connection.execute(query))
        except sqlite3.OperationalError as exc:
            if "no such table" not in str(exc):
                raise
            return []  # it was moved away before it had tables
        finally:
            connection.close()

    def asked_all(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query to all histories."""
        return [row for url in self.histories() for row in self.asked(query, url)]


def opened(stack: ExitStack, folder: Path, *, redis: bool, postgres: bool) -> Fleet:
    """Open a fleet without agents; *stack* closes it.

    Args:
        stack: closes the provider and the servers.
        folder: where everything is.
        redis: circuits in Redis instead of a file.
        postgres: history in PostgreSQL instead of a file.
    """
    provider = stack.enter_context(Provider())
    notes = stack.enter_context(Notes(folder / "notes"))
    valkey = stack.enter_context(Valkey()) if redis else None
    server = stack.enter_context(Postgres()) if postgres else None
    # The history has a folder of its own, which a fault can move away as a whole.
    for name in ("data", "circuits"):
        (folder / name).mkdir()
    database_url = f"sqlite:///{folder}/data/history.db" if server is None else server.create()
    if server is not None:
        migrations.upgrade(database_url)
    store_url = f"sqlite:///{folder}/circuits/circuits.db" if valkey is None else valkey.url
    fleet = Fleet(folder, provider, notes.pipe, database_url, store_url, valkey, server)
    stack.callback(_kill_all, fleet)
    return fleet


def _kill_all(fleet: Fleet) -> None:
    for agent in fleet.living:
        agent.process.kill()
        agent.process.wait()
