"""A provider of the chat protocol on loopback that streams what a test says, event by event, when the test says it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from types import ModuleType, TracebackType
from typing import Any, Self

import pytest

Script = Callable[["Reply"], Awaitable[None]]
"""Sends one reply. The connection stays open at its end unless the script closes it."""


def delta(text: str = "", *, finish: str | None = None, **more: Any) -> str:
    """Return a chunk with *text*. Without text and *more* it is an opening event, which says nothing."""
    content = {"role": "assistant", "content": text, **more}
    choice = {"index": 0, "delta": content, "finish_reason": finish}
    frame = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return json.dumps({**frame, "choices": [choice]})


class Reply:
    """The reply to one request.

    Attributes:
        gone: set when the client has closed the connection.
        left: the same for threads.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.gone = asyncio.Event()
        self.left = threading.Event()

    async def status(self, code: int) -> None:
        """Send an error status instead of a stream, and close."""
        body = b'{"error": {"message": "not now", "type": "server_error"}}'
        head = f"HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        self._writer.close()

    async def begin(self) -> None:
        """Send the head of a stream."""
        self._writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        await self._writer.drain()

    async def send(self, *events: str) -> None:
        """Send events."""
        for event in events:
            data = f"data: {event}\n\n".encode()
            self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writer.drain()

    async def end(self) -> None:
        """End the body as HTTP wants it, and close."""
        self._writer.write(b"0\r\n\r\n")
        self._writer.close()

    async def cut(self) -> None:
        """Close in the middle of the body."""
        self._writer.close()

    async def whole(self, *texts: str) -> None:
        """Send a whole answer."""
        await self.begin()
        await self.send(*map(delta, texts), delta(finish="stop"), "[DONE]")
        await self.end()


class StreamServer:
    """One server whose clients play their scripts, the last one again and again.

    Attributes:
        asked: the clients asked, in order.
        replies: the replies of each client.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.replies: defaultdict[str, list[Reply]] = defaultdict(list)
        self._scripts: dict[str, list[Script]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls) -> AsyncIterator[Self]:
        """Run a server."""
        server = cls()
        listening = await asyncio.start_server(server._serve, "127.0.0.1", 0)
        server.port = listening.sockets[0].getsockname()[1]
        try:
            yield server
        finally:
            listening.close()
            for task in list(server._tasks):
                task.cancel()
            await asyncio.gather(*server._tasks, return_exceptions=True)

    port: int

    def script(self, client: str, *scripts: Script) -> None:
        """Set what *client* does with its requests, in order."""
        self._scripts[client] = list(scripts)

    def environment(self) -> dict[str, str]:
        """Return the variables that lead the clients of `baml_projects.CLIENTS` here."""
        return {
            f"{name.upper()}_{key}": value
            for name in ("Primary", "Secondary", "Tertiary")
            for key, value in (
                ("BASE_URL", f"http://127.0.0.1:{self.port}/{name}"),
                ("API_KEY", "sk-simulated"),
                ("MODEL", "m"),
            )
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            client = head.split()[1].split("/")[1]
            length = next(
                int(line.split(":")[1]) for line in head.lower().splitlines() if "content-length" in line
            )
            await reader.readexactly(length)
            self.asked.append(client)
            scripts = self._scripts[client]
            reply = Reply(writer)
            self.replies[client].append(reply)
            playing = asyncio.ensure_future((scripts.pop(0) if len(scripts) > 1 else scripts[0])(reply))
            await reader.read()  # until the client has left
            reply.gone.set()
            reply.left.set()
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
        writer.close()


class ThreadedServer:
    """A context with a `StreamServer` that runs on a thread of its own, for tests that block."""

    def __enter__(self) -> StreamServer:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stream-server")
        self._thread.start()
        self._running = StreamServer.running()
        return asyncio.run_coroutine_threadsafe(self._running.__aenter__(), self._loop).result()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._running.__aexit__(None, None, None), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def aborted_when_unwound(baml_py: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list to which each of BAML's streams adds, when it unwinds, whether the latest attempt was aborted before."""
    new_controller, read = baml_py.AbortController, baml_py.BamlStream.__aiter__
    controllers: list[Any] = []
    unwound: list[bool] = []

    def controller() -> Any:
        controllers.append(new_controller())
        return controllers[-1]

    async def watched(stream: Any) -> AsyncIterator[Any]:
        try:
            async for snapshot in read(stream):
                yield snapshot
        finally:
            unwound.append(controllers[-1].aborted)

    monkeypatch.setattr(baml_py, "AbortController", controller)
    monkeypatch.setattr(baml_py.BamlStream, "__aiter__", watched)
    return unwound
