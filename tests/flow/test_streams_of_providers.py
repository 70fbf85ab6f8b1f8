"""The raw events of real BAML streams say whether the answer is whole, in the protocol of each provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from support import baml_projects
from support.provider_bodies import GOAL, TEXT, client_options
from support.provider_streams import DIALECTS, PIECES, Stream, content_type, event_bytes

from resilience.baml.stream_outcome import StreamReading
from resilience.failure import classify
from resilience.testing import ProviderSimulator

pytestmark = pytest.mark.baml

SSE = [name for name in DIALECTS if name != "aws-bedrock"]


@dataclass
class Server:
    """A server that answers every request with the same stream.

    Attributes:
        url: its URL.
        provider: the provider whose protocol it speaks.
        events: the events it sends before it ends the response.
    """

    url: str = ""
    provider: str = ""
    events: Stream = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
        kind = content_type(self.provider)
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n".encode())
        for event in self.events:
            writer.write(event_bytes(self.provider, event))
        await writer.drain()
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A running server."""
    running = Server()
    listening = await asyncio.start_server(running.serve, "127.0.0.1", 0)
    async with listening:
        running.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield running


@pytest.fixture
def streamed(b: Any, simulator: ProviderSimulator, server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that streams events through BAML, and returns their reading and the exception of the stream."""
    del simulator  # its environment variables let BAML build the clients of the sources
    import baml_py  # noqa: PLC0415 - only tests that run BAML may load it

    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    async def stream(provider: str, events: Stream) -> tuple[StreamReading, Exception | None]:
        if provider == "aws-bedrock" and not baml_projects.BEDROCK_TAKES_AN_ENDPOINT:
            pytest.skip("this BAML asks Bedrock only at its own address")
        server.provider, server.events = provider, events
        registry = baml_py.ClientRegistry()
        collector: Any = baml_py.Collector("c")  # its type leaves out the calls of streams
        registry.add_llm_client("Own", provider, client_options(provider, server.url))
        registry.set_primary("Own")
        options = {"client_registry": registry, "collector": collector}
        raised: Exception | None = None
        try:
            await b.stream.ParseResearchGoal(GOAL, baml_options=options).get_final_response()
        except Exception as exc:  # noqa: BLE001 - whatever BAML makes of the stream
            raised = exc
        reading = StreamReading(provider)
        for event in collector.last.calls[0].sse_responses() or []:
            reading.feed(event.text)
        return reading, raised

    return stream


@pytest.mark.parametrize("provider", DIALECTS)
async def test_finish_reasons(streamed: Any, provider: str) -> None:
    """BAML accepts a whole answer, a cut one and one without any finish reason. The events tell them apart."""
    dialect = DIALECTS[provider]
    whole, raised = await streamed(provider, dialect.events(dialect.good))
    assert (whole.verdict(), whole.text, raised) == (None, TEXT, None)

    cut, raised = await streamed(provider, dialect.events(dialect.cut))
    assert (cut.verdict(), cut.text, raised) == ("output_truncated", TEXT, None)

    unfinished, raised = await streamed(provider, dialect.events(dialect.good)[: -dialect.last])
    assert (unfinished.verdict(), raised) == ("output_truncated", None)
    assert unfinished.text == "".join(PIECES[: 3 if provider in {"google-ai", "vertex-ai"} else 4])


@pytest.mark.parametrize("provider", SSE)
async def test_errors(streamed: Any, provider: str) -> None:
    """BAML forgets an error that a readable event follows. The events keep it."""
    dialect = DIALECTS[provider]
    events = dialect.events(dialect.good)

    for rest in ([], events[3:]):
        reading, raised = await streamed(provider, [*events[:3], dialect.error, *rest])
        assert reading.verdict() == dialect.category
        assert raised is None or not rest


async def test_an_error_of_bedrock(streamed: Any) -> None:
    """An error of Bedrock is no event. The exception has its code."""
    dialect = DIALECTS["aws-bedrock"]

    reading, raised = await streamed("aws-bedrock", [*dialect.events(dialect.good)[:3], dialect.error])

    assert reading.verdict() == "output_truncated"
    assert classify(raised).category == dialect.category


@pytest.mark.parametrize("provider", SSE)
async def test_damage(streamed: Any, provider: str) -> None:
    """BAML skips an event that is not JSON. Only Responses repeats its text at the end."""
    dialect = DIALECTS[provider]
    events = dialect.events(dialect.good)
    at = len(events) - dialect.last - 2

    reading, _ = await streamed(provider, [*events[:at], '{"bro', *events[at + 1 :]])

    is_healed = provider == "openai-responses"
    assert reading.verdict() == (None if is_healed else "output_truncated")
    assert (reading.text == TEXT) is is_healed
