"""A provider of the OpenAI chat protocol on loopback, whose every client misbehaves as it is told."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from resilience.clock import Clock, SystemClock
from resilience.errors import ConfigurationError
from resilience.testing import wire
from resilience.testing.behaviours import Behaviour, Status
from resilience.testing.connection import Connection, Headers
from resilience.testing.request import LoggedRequest, Request, log, read
from resilience.testing.simulated_client import SimulatedClient

_HOST = "127.0.0.1"
_CLIENT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_ENDPOINT = "/v1/chat/completions"
_BACKLOG = 1024
CLIENTS = ("Primary", "Secondary", "Tertiary")
"""The clients of the co-scientist's `baml_src/clients.baml`."""


class ProviderSimulator:
    """An LLM provider for tests: one server, one URL prefix a client, scripted per client.

        async with ProviderSimulator() as simulator:
            simulator.client("Primary").set(Status(503, retry_after=3))
            os.environ |= simulator.environment()
            ...
            assert simulator.client("Primary").asked == 1

    Unless told otherwise a client gives good answers at once: ones that fit for prompts of the eight co-scientist
    functions, `{"ok": true}` for others. It listens on 127.0.0.1 only.

    Args:
        clients: their names; each gets the prefix of its name in lower case.
        port: where to listen; 0 is any free port.
        clock: what the timetable and the times of the log go by. Delays of answers always take real time.
        log_size: how many requests the log keeps, the latest ones; the counts are always of all.

    Raises:
        ConfigurationError: a client's name is none, or two differ only in case.
    """

    def __init__(
        self,
        *,
        clients: Sequence[str] = CLIENTS,
        port: int = 0,
        clock: Clock | None = None,
        log_size: int = 100_000,
    ) -> None:
        _check(clients)
        self._names = tuple(clients)
        self._port = port
        self._clock = clock or SystemClock()
        self._log: deque[LoggedRequest] = deque(maxlen=log_size)
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._clients: dict[str, SimulatedClient] = {}
        self._paths: dict[str, SimulatedClient] = {}
        self._server: asyncio.Server | None = None
        self._refusing: socket.socket | None = None
        self._origin = 0.0

    @classmethod
    @contextmanager
    def in_thread(
        cls,
        *,
        clients: Sequence[str] = CLIENTS,
        port: int = 0,
        clock: Clock | None = None,
        log_size: int = 100_000,
    ) -> Iterator[Self]:
        """Run a simulator on a loop and a thread of its own, for code that is not async.

        The arguments are those of the class. Everything a test calls may be called from any thread.
        """
        simulator = cls(clients=clients, port=port, clock=clock, log_size=log_size)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="provider-simulator", daemon=True)
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(simulator.start(), loop).result()
            yield simulator
        finally:
            asyncio.run_coroutine_threadsafe(simulator.close(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen, and start the clock of the timetable.

        Raises:
            OSError: the port is taken.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._serve, self._connections), _HOST, self._port, backlog=_BACKLOG
        )
        self._port = self._server.sockets[0].getsockname()[1]
        for name in self._names:
            client = SimulatedClient(name, f"http://{_HOST}:{self._port}/{name.lower()}/v1")
            self._clients[name] = client
            self._paths[f"/{name.lower()}{_ENDPOINT}"] = client
        self.begin()

    async def close(self) -> None:
        """Stop listening and drop every connection, answered or not."""
        if self._server is not None:
            self._server.close()
        while self._connections:
            dropped = list(self._connections)
            for connection in dropped:
                connection.abort()
            await asyncio.gather(*(connection.closed for connection in dropped))
        if self._refusing is not None:
            self._refusing.close()

    def begin(self) -> None:
        """Let the timetable and the times of the log start now, with an empty log and counts of zero."""
        with self._lock:
            self._origin = self._clock.monotonic()
            self._log.clear()
            for client in self._clients.values():
                client.counts.clear()

    def client(self, name: str) -> SimulatedClient:
        """The handle by which the client *name* is told what to do.

        Raises:
            ConfigurationError: there is no such client here.
        """
        try:
            return self._clients[name]
        except KeyError:
            known = ", ".join(self._clients) or "none before it is started"
            msg = f"the simulator has no client {name!r}; it has {known}"
            raise ConfigurationError(msg) from None

    def url(self, name: str) -> str:
        """The base URL of the client *name*."""
        return self.client(name).url

    def refused_url(self) -> str:
        """A base URL at which connections are refused, for as long as the simulator runs."""
        if self._refusing is None:
            # Bound but not listening: refuses, and nobody else can be given the port meanwhile.
            self._refusing = socket.socket()
            self._refusing.bind((_HOST, 0))
        return f"http://{_HOST}:{self._refusing.getsockname()[1]}/v1"

    def environment(self) -> dict[str, str]:
        """The variables by which the co-scientist's `.baml` clients find this simulator, such as PRIMARY_BASE_URL."""
        found: dict[str, str] = {}
        for name, client in self._clients.items():
            found[f"{name.upper()}_BASE_URL"] = client.url
            found[f"{name.upper()}_API_KEY"] = f"sk-simulated-{name.lower()}"
            found[f"{name.upper()}_MODEL"] = f"simulated-{name.lower()}"
        return found

    @property
    def requests(self) -> list[LoggedRequest]:
        """What came in, in the order it was decided upon."""
        with self._lock:
            return list(self._log)

    @property
    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Per client, how often each behaviour was sent."""
        with self._lock:
            return {name: dict(client.counts) for name, client in self._clients.items()}

    @property
    def in_flight(self) -> int:
        """How many requests are being kept waiting at this moment."""
        return sum(connection.busy for connection in tuple(self._connections))

    def elapsed(self) -> float:
        """Seconds since the simulator started, or since `begin`: the time of the timetable and the log."""
        return self._clock.monotonic() - self._origin

    def _serve(self, method: str, target: str, headers: Headers, body: bytes) -> wire.Reply:
        path = target.partition("?")[0]
        client = self._paths.get(path)
        if client is None or method != "POST":
            return wire.not_found(method, path)
        request = read(
            number=client.asked + 1,
            client=client.name,
            at=self.elapsed(),
            path=path,
            headers=headers,
            body=body,
        )
        behaviour, reply = self._decide(client, request)
        line = log(request, behaviour)
        with self._lock:
            self._log.append(line)
            client.counts[line.sent] += 1
        return reply

    @staticmethod
    def _decide(client: SimulatedClient, request: Request) -> tuple[Behaviour, wire.Reply]:
        try:
            behaviour = client.choose(request)
            return behaviour, wire.render(behaviour, request)
        except Exception as exc:  # noqa: BLE001 - a test's own callable may raise or return anything
            message = f"the behaviour of {client.name} could not be chosen"
            asyncio.get_running_loop().call_exception_handler({"message": message, "exception": exc})
            broken = Status(500, body=f"{message}: {type(exc).__name__}")
            return broken, wire.render(broken, request)


def _check(clients: Sequence[str]) -> None:
    wrong = [name for name in clients if not _CLIENT_NAME.fullmatch(name)]
    if wrong or not clients:
        msg = f"clients={list(clients)!r}: give at least one name of letters, digits and underscores"
        raise ConfigurationError(msg)
    if len({name.lower() for name in clients}) < len(clients):
        msg = f"clients={list(clients)!r}: give names that differ in more than case"
        raise ConfigurationError(msg)
