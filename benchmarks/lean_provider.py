"""A provider for measurements: a process that answers from prepared bytes, so that it takes little from the cores it shares.

The simulator of the tests builds each answer in Python and costs a call about a millisecond, which hides what a guard adds.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from resilience.testing.answer_bodies import chat

_PLAN: Final = {
    "goal": "Find out why",
    "domain": "biology",
    "subdomains": ["cells"],
    "key_questions": ["Why?"],
    "constraints": [],
    "success_criteria": ["It is known"],
    "suggested_methods": ["Look"],
}
"""An answer to `ParseResearchGoal`. A longer one has a longer domain."""
_CHUNK: Final = 200
"""Characters of an answer in each event of a stream."""


@dataclass(slots=True)
class _Replies:
    """The prepared replies: HTTP messages with the whole answer, and with its stream."""

    whole: bytes
    stream: bytes
    delay: float


def _prepare(size: int, delay: float) -> _Replies:
    plan = json.dumps(_PLAN)
    plan = json.dumps(_PLAN | {"domain": "x" * max(1, size - len(plan))})
    body = json.dumps(chat("lean", plan, "stop")).encode()
    parts: list[dict[str, Any]] = [
        {"delta": {"content": plan[at : at + _CHUNK]}, "finish_reason": None}
        for at in range(0, len(plan), _CHUNK)
    ]
    parts.append({"delta": {}, "finish_reason": "stop"})
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "lean"}
    events = [json.dumps({**head, "choices": [{"index": 0, **part}]}) for part in parts]
    stream = "".join(f"data: {event}\n\n" for event in (*events, "[DONE]")).encode()
    return _Replies(_message("application/json", body), _message("text/event-stream", stream), delay)


def _message(kind: str, body: bytes) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


class _Connection(asyncio.Protocol):
    """A connection that is kept alive. It knows the end of a request by its length, and nothing else of it."""

    def __init__(self, replies: _Replies) -> None:
        self._replies = replies
        self._received = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(body) < int(length or 0):
            return
        self._received = b""
        replies = self._replies
        reply = replies.stream if b'"stream":true' in body else replies.whole
        if replies.delay:
            asyncio.get_running_loop().call_later(replies.delay, self._transport.write, reply)
        else:
            self._transport.write(reply)


async def _serve(pipe: Connection, size: int, delay: float) -> None:
    loop = asyncio.get_running_loop()
    replies = _prepare(size, delay)
    server = await loop.create_server(lambda: _Connection(replies), "127.0.0.1", 0)
    stop = asyncio.Event()
    loop.add_reader(pipe.fileno(), stop.set)
    pipe.send(server.sockets[0].getsockname()[1])
    await stop.wait()
    server.close()


def _run(pipe: Connection, size: int, delay: float) -> None:
    asyncio.run(_serve(pipe, size, delay))


@contextmanager
def lean_provider(size: int, delay: float) -> Iterator[dict[str, str]]:
    """Run the provider in a process of its own. Yield the environment variables that lead the demo's clients to it.

    Args:
        size: characters of each answer, about.
        delay: seconds until it answers.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_run, args=(theirs, size, delay), daemon=True)
    process.start()
    try:
        port = ours.recv()
        yield {
            f"{client}_{name}": value
            for client in ("PRIMARY", "SECONDARY", "TERTIARY")
            for name, value in (
                ("BASE_URL", f"http://127.0.0.1:{port}/v1"),
                ("API_KEY", "sk-lean"),
                ("MODEL", "lean"),
            )
        }
    finally:
        ours.send("stop")
        process.join()
