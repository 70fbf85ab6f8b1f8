"""A link to a server with a constant round trip: `with DelayProxy(port, 0.2) as link`."""

from __future__ import annotations

import asyncio
import threading
from typing import Final, Self

_PIECE: Final = 65_536


class DelayProxy:
    """A loopback port in front of another one. Bytes wait half a round trip each way, and a new connection waits a whole one.

    Args:
        target: port of the server.
        round_trip: seconds.

    Attributes:
        port: the port to connect to.
        connections: connections so far.
    """

    def __init__(self, target: int, round_trip: float) -> None:
        self._target = target
        self._round_trip = round_trip
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._open: set[asyncio.StreamWriter] = set()
        self.port = self.connections = 0

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await asyncio.sleep(self._round_trip)
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(self._copy(reader, server_writer), self._copy(server_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        delayed: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sender = asyncio.ensure_future(self._send(delayed, writer))
        data = b"."
        while data:
            try:
                data = await reader.read(_PIECE)
            except OSError:
                data = b""
            delayed.put_nowait((self._loop.time() + self._round_trip / 2, data))
        await sender

    async def _send(self, delayed: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        data = b"."
        while data:
            due, data = await delayed.get()
            await asyncio.sleep(due - self._loop.time())
            writer.write(data)
        writer.close()
        self._open.remove(writer)
