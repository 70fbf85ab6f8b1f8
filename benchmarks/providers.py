"""Plays the faults of each provider against real BAML calls: `python -m benchmarks.providers [--json]`.

Each cell of the table is one guarded call of a generated BAML client against a server on loopback, which answers in the
provider's own form. A cell is right if the recorded category and the stated wait are those of the fault. The bodies are
those of documents and issues, not of live providers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from resilience import BAMLErrorHandler, FallbackPolicy, RetryPolicy, Settings, protect
from resilience.demo import client
from resilience.failure import ErrorCategory as Category

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from support.provider_bodies import ANSWERS, ERRORS, GOAL, WHOLE, Reply, client_options

_HANG = 1.0
"""Seconds after which an attempt counts as hanging."""
_WAIT = 7.0
"""Seconds that every reply with a stated wait states. Bedrock states none."""
_TOLERANCE = 0.5
"""Seconds by which a wait may differ: Gemini states two, and rounds one of them."""

PROVIDERS = tuple(ANSWERS)
FAULTS: dict[str, frozenset[Category]] = {
    "success": frozenset(),
    "429": frozenset({Category.RATE_LIMIT}),
    "503": frozenset({Category.SERVICE_UNAVAILABLE, Category.OVERLOADED}),
    "529": frozenset({Category.OVERLOADED, Category.SERVICE_UNAVAILABLE}),
    "401": frozenset({Category.AUTHENTICATION}),
    "403": frozenset({Category.PERMISSION}),
    "404": frozenset({Category.NOT_FOUND}),
    "400 context length": frozenset({Category.CONTEXT_LENGTH}),
    "billing": frozenset({Category.QUOTA_EXHAUSTED}),
    "refusal": frozenset({Category.CONTENT_POLICY}),
    "content filter": frozenset({Category.CONTENT_POLICY}),
    "token limit": frozenset({Category.OUTPUT_TRUNCATED}),
    "not the type": frozenset({Category.OUTPUT_INVALID}),
    "broken JSON": frozenset({Category.NETWORK, Category.SERVER_ERROR}),
    "HTML": frozenset({Category.SERVICE_UNAVAILABLE}),
    "hang": frozenset({Category.TIMEOUT}),
    "reset": frozenset({Category.NETWORK}),
}
"""The categories that are right for each fault; none for an answer."""

_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Cell:
    """One call.

    Attributes:
        provider: the provider in BAML's words.
        fault: a key of `FAULTS`.
        category: the category of the record; None without one.
        retry_after: the wait of the record, in seconds.
        answered: whether the call returned the right value.
    """

    provider: str
    fault: str
    category: Category | None
    retry_after: float | None
    answered: bool

    @property
    def is_right(self) -> bool:
        """Whether the call ended as its fault demands."""
        expected = FAULTS[self.fault]
        if not expected:
            return self.answered and self.category is None
        if self.fault == "429" and not self._states_the_wait():
            return False
        return not self.answered and self.category in expected

    def _states_the_wait(self) -> bool:
        if self.provider == "aws-bedrock":
            return self.retry_after is None
        return self.retry_after is not None and abs(self.retry_after - _WAIT) <= _TOLERANCE


def reply(provider: str, fault: str) -> Reply:
    """Return what the server sends for *fault*; `hang` and `reset` send nothing."""
    if fault in ERRORS[provider]:
        return ERRORS[provider][fault]
    if fault == "HTML":
        return Reply(502, _PAGE)
    if fault == "broken JSON":
        whole = json.dumps(ANSWERS[provider]["success"])
        return Reply(200, whole[: len(whole) // 2])
    return Reply(200, ANSWERS[provider][fault])


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request. The first two parts of its path name the provider and the fault."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    await reader.readexactly(length)
    provider, fault = map(unquote, head.decode().split(" ")[1].split("/")[1:3])
    if fault == "hang":
        await reader.read()  # until the caller gives up
    elif fault == "reset":
        writer.transport.abort()
        return
    else:
        writer.write(_response(reply(provider, fault)))
        await writer.drain()
    writer.close()


def _response(sent: Reply) -> bytes:
    is_text = isinstance(sent.body, str)
    body = (sent.body if isinstance(sent.body, str) else json.dumps(sent.body)).encode()
    kind = "text/html" if is_text and sent.status != 200 else "application/json"  # noqa: PLR2004 - RFC 9110, 15.3.1
    fields = {
        "content-type": kind,
        "content-length": str(len(body)),
        "connection": "close",
        **sent.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {sent.status} X\r\n{lines}\r\n".encode() + body


@asynccontextmanager
async def _server() -> AsyncIterator[str]:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def play(b: Any, provider: str, fault: str, server: str) -> Cell:
    """Make one guarded call.

    Args:
        b: the generated client.
        provider: the provider in BAML's words.
        fault: a key of `FAULTS`.
        server: the URL of the server.
    """
    import baml_py  # noqa: PLC0415 - after `main` has set BAML's environment

    registry = baml_py.ClientRegistry()
    url = f"{server}/{quote(provider)}/{quote(fault)}"
    registry.add_llm_client("Own", provider, client_options(provider, url))
    registry.set_primary("Own")
    handler = BAMLErrorHandler(
        retry=RetryPolicy(max_retries=0, max_output_retries=0, attempt_timeout=_HANG),
        fallback=FallbackPolicy(),
        settings=Settings(store_url="memory://", privacy="off"),
    )
    answered = False
    try:
        result = await protect(b, handler).ParseResearchGoal(GOAL, baml_options={"client_registry": registry})
        answered = bool(result.suggested_methods == WHOLE["suggested_methods"])
    except Exception:  # noqa: BLE001, S110 - the record says what was raised
        pass
    finally:
        await handler.aclose()
    records = handler.get_error_history()
    first = records[0] if records else None
    return Cell(
        provider=provider,
        fault=fault,
        category=None if first is None else first.category,
        retry_after=None if first is None else first.retry_after,
        answered=answered,
    )


async def measure() -> list[Cell]:
    """Play every cell of the table, one after another."""
    b = client.load().b
    async with _server() as server:
        return [await play(b, provider, fault, server) for fault in FAULTS for provider in PROVIDERS]


def show(cells: list[Cell]) -> None:
    """Print the table, then each cell that is wrong, then the share."""
    print(f"{'':20}" + "".join(f"{provider[:15]:>16}" for provider in PROVIDERS))
    for fault in FAULTS:
        row = [cell for cell in cells if cell.fault == fault]
        print(f"{fault:20}" + "".join(f"{'ok' if cell.is_right else 'WRONG':>16}" for cell in row))
    for cell in cells:
        if not cell.is_right:
            print(
                f"wrong: {cell.provider}, {cell.fault}: {cell.category}, wait {cell.retry_after}, {cell.answered=}"
            )
    print(f"right: {sum(cell.is_right for cell in cells)} of {len(cells)}")


def main() -> None:
    """Play the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="Print the cells as JSON.")
    options = parser.parse_args()
    os.environ["BAML_LOG"] = "off"
    os.environ["AWS_MAX_ATTEMPTS"] = "1"  # the AWS SDK retries by itself
    for name in ("PRIMARY", "SECONDARY", "TERTIARY"):  # the clients of the sources, which no call asks
        for part in ("BASE_URL", "API_KEY", "MODEL"):
            os.environ[f"{name}_{part}"] = "http://127.0.0.1:9"
    cells = asyncio.run(measure())
    if options.json:
        print(json.dumps([{"provider": c.provider, "fault": c.fault, "right": c.is_right} for c in cells]))
    else:
        show(cells)


if __name__ == "__main__":
    main()
