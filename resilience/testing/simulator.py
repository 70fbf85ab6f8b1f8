"""A provider on loopback that speaks the protocols of BAML's providers, and whose clients fail on command."""

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
from resilience.testing import dialects, wire
from resilience.testing.behaviours import Behaviour, Status
from resilience.testing.connection import Connection, Headers
from resilience.testing.reply import Reply
from resilience.testing.request import LoggedRequest, Request, log, read
from resilience.testing.simulated_client import SimulatedClient

_HOST = "127.0.0.1"
_CLIENT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_BACKLOG = 1024
CLIENTS = ("Primary", "Secondary", "Tertiary")
"""The clients of the co-scientist's `baml_src/clients.baml`, and the default of the simulator."""


class ProviderSimulator:
    """An LLM provider for tests: one server on 127.0.0.1, with a URL prefix and a script for each client.

    Example:
        async with ProviderSimulator() as simulator:
            simulator.client("Primary").set(Status(503, retry_after=3))
            os.environ |= simulator.environment()
            ...
            assert simulator.client("Primary").asked == 1

    By default a client gives good answers without delay: fitting ones to prompts of the eight co-scientist functions,
    `{"ok": true}` to others.

    The path of a request shows the protocol, and every behaviour is answered in it: chat completions of OpenAI, of Azure
    and of Ollama, OpenAI's Responses, Anthropic's Messages, `generateContent` of Gemini and of Vertex AI with an API key,
    and Bedrock's `converse`, all of them also as streams. All use `url` as their base URL, which Bedrock calls
    `endpoint_url`. `Stream` scripts how a stream runs and breaks.

    Args:
        clients: names of the clients; the URL prefix is the name in lower case.
        port: the port to listen on; 0 for any free port.
        clock: the time of outages and of the log; None for the system's. Delays of answers always take real time.
        log_size: number of the latest requests that the log keeps. The counts include all requests.

    Raises:
        ConfigurationError: a client's name is invalid, or two names differ only in case.
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
        # The server's loop writes the log and the counts; tests on other threads read them and call `begin`.
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
        """Run a simulator with an event loop on its own thread, for code that is not async.

        All methods may be called from any thread.

        Args:
            clients: as for the class.
            port: as for the class.
            clock: as for the class.
            log_size: as for the class.
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
            self._paths[name.lower()] = client
        self.begin()

    async def close(self) -> None:
        """Stop listening and drop every connection, also those with a request in flight."""
        if self._server is not None:
            self._server.close()
        # A connection that was accepted a moment ago may join the set while the others close, hence the loop.
        while self._connections:
            dropped = list(self._connections)
            for connection in dropped:
                connection.abort()
            await asyncio.gather(*(connection.closed for connection in dropped))
        if self._refusing is not None:
            self._refusing.close()

    def begin(self) -> None:
        """Restart the time of outages and of the log at zero, with an empty log and counts of zero."""
        with self._lock:
            self._origin = self._clock.monotonic()
            self._log.clear()
            for client in self._clients.values():
                client.counts.clear()

    def client(self, name: str) -> SimulatedClient:
        """Return the handle of the client *name*.

        Raises:
            ConfigurationError: there is no such client, or the simulator has not started.
        """
        try:
            return self._clients[name]
        except KeyError:
            known = ", ".join(self._clients) or "none before it is started"
            msg = f"the simulator has no client {name!r}; it has {known}"
            raise ConfigurationError(msg) from None

    def url(self, name: str) -> str:
        """Return the base URL of the client *name*."""
        return self.client(name).url

    def refused_url(self) -> str:
        """Return a base URL at which connections are refused while the simulator runs."""
        if self._refusing is None:
            # A socket that is bound but does not listen refuses connections, and keeps the port from other processes.
            self._refusing = socket.socket()
            self._refusing.bind((_HOST, 0))
        return f"http://{_HOST}:{self._refusing.getsockname()[1]}/v1"

    def environment(self) -> dict[str, str]:
        """Return the environment variables that lead the co-scientist's `.baml` clients here, such as PRIMARY_BASE_URL."""
        variables: dict[str, str] = {}
        for name, client in self._clients.items():
            variables[f"{name.upper()}_BASE_URL"] = client.url
            variables[f"{name.upper()}_API_KEY"] = f"sk-simulated-{name.lower()}"
            variables[f"{name.upper()}_MODEL"] = f"simulated-{name.lower()}"
        return variables

    @property
    def requests(self) -> list[LoggedRequest]:
        """The log: the latest requests, in the order their behaviour was chosen."""
        with self._lock:
            return list(self._log)

    @property
    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """How often each behaviour was sent, by client and by the behaviour's name."""
        with self._lock:
            return {name: dict(client.counts) for name, client in self._clients.items()}

    @property
    def in_flight(self) -> int:
        """Number of requests that are being answered or kept waiting now."""
        return sum(connection.busy for connection in tuple(self._connections))

    def elapsed(self) -> float:
        """Return the seconds since the simulator started, or since `begin`: the time of outages and of the log."""
        return self._clock.monotonic() - self._origin

    def _serve(self, method: str, target: str, headers: Headers, body: bytes) -> Reply:
        path, _, query = target.partition("?")
        prefix, _, rest = path.removeprefix("/").partition("/v1/")
        client = self._paths.get(prefix)
        endpoint = dialects.endpoint(f"/{rest}", query)
        if client is None or endpoint is None or method != "POST":
            return wire.not_found(method, path)
        request = read(
            number=client.asked + 1,
            client=client.name,
            at=self.elapsed(),
            path=path,
            endpoint=endpoint,
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
    def _decide(client: SimulatedClient, request: Request) -> tuple[Behaviour, Reply]:
        try:
            behaviour = client.choose(request)
            return behaviour, wire.render(behaviour, request)
        except Exception as exc:  # noqa: BLE001 - a test's own callable may raise or return anything
            message = f"the behaviour of {client.name} could not be chosen"
            # The test's mistake is reported twice: to the loop, and as a 500 so that the caller does not hang.
            asyncio.get_running_loop().call_exception_handler({"message": message, "exception": exc})
            broken = Status(500, body=f"{message}: {type(exc).__name__}")
            return broken, wire.render(broken, request)


def _check(clients: Sequence[str]) -> None:
    # Names become a part of a URL and of environment variables, where case does not tell them apart.
    wrong = [name for name in clients if not _CLIENT_NAME.fullmatch(name)]
    if wrong or not clients:
        msg = f"clients={list(clients)!r}: give at least one name of letters, digits and underscores"
        raise ConfigurationError(msg)
    if len({name.lower() for name in clients}) < len(clients):
        msg = f"clients={list(clients)!r}: give names that differ in more than case"
        raise ConfigurationError(msg)
