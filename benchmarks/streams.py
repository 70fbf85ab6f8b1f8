"""Plays the faults of streams in the protocol of each provider: `python -m benchmarks.streams [--json] [--quick] [--sync]`.

Each cell is one stream of a generated async or sync BAML client against the provider simulator on loopback, once as BAML alone reads it and
once guarded with one backup. A guarded cell is right if the whole answer arrives, from the backup only where the provider did
not give it, or if the error of the fault is raised. Three wrongs are counted apart:

- a cut success: a result that is not the whole answer;
- a hang: no end within 10 s;
- a wasted ask: a second request for an answer that was good, refused or impossible.

The events are those of documents and issues, not of live providers. For the oldest BAML:
`uv run --isolated --with baml-py==0.209.0 python -m benchmarks.streams`.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resilience import BAMLErrorHandler, FallbackPolicy, RetryPolicy, Settings, protect
from resilience.failure import ErrorCategory as Category
from resilience.testing import (
    Behaviour,
    Empty,
    Finish,
    Hang,
    Malformed,
    ProviderSimulator,
    Reset,
    Status,
    Stream,
    StreamFault,
    StreamPlace,
    answer_bodies,
)

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from support import baml_projects
from support.baml_projects import function, provider_client

_HANG = 10.0
"""Seconds after which a cell counts as hanging."""
_LIMIT = 2.0
"""Seconds of `first_token_timeout` and `stall_timeout`."""
_WORKERS = 8

TEXT = " ".join(f"word{number}" for number in range(60))
PLAN = {"title": "A plan", "steps": [f"step {number}" for number in range(12)], "verdict": "it will work"}
PROVIDERS = tuple(
    name
    for name in baml_projects.PROVIDER_OPTIONS
    if name != "aws-bedrock" or baml_projects.BEDROCK_TAKES_AN_ENDPOINT
)
CHAT = ("openai", "openai-generic", "azure-openai", "ollama")
GOOGLE = ("google-ai", "vertex-ai")

_PLACES: tuple[tuple[StreamPlace, str], ...] = (
    ("headers", "before any event"),
    ("opening", "before content"),
    ("content", "in the middle"),
    ("event", "inside an event"),
    ("finish", "before the finish reason"),
)
_BREAKS: tuple[StreamFault, ...] = ("cut", "close", "end", "stall")
_TRANSPORT = {Category.NETWORK, Category.OUTPUT_TRUNCATED}
"""What a broken connection is. BAML 0.209 calls it a success, so that only the missing finish reason shows it."""
_ASKED_AGAIN = {Category.NETWORK, Category.SERVER_ERROR, Category.OUTPUT_INVALID, Category.UNKNOWN}
"""The categories after which the same client may be asked once more."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What the provider does, and how a guarded stream must end.

    Attributes:
        behaviour: what it does.
        categories: the categories of the failure that are right; none for a good answer.
        raised: whether the failure is for the caller, not for the backup.
    """

    behaviour: Behaviour
    categories: frozenset[Category] = frozenset()
    raised: bool = False


def _bad(behaviour: Behaviour, *categories: Category) -> Fault:
    return Fault(behaviour, frozenset(categories))


def _final(behaviour: Behaviour, *categories: Category) -> Fault:
    return Fault(behaviour, frozenset(categories), raised=True)


def _refused(behaviour: Behaviour) -> Fault:
    return _final(behaviour, Category.CONTENT_POLICY)


_OVERLOADED = (Category.OVERLOADED, Category.SERVICE_UNAVAILABLE)
GOOD: dict[str, Fault] = {
    "whole": Fault(Stream()),
    "whole, event by event": Fault(Stream(interval=0.02)),
    "slow to begin": Fault(Stream(delay=0.5)),
    "thinking first": Fault(Stream(fault="thinking", at="opening")),
    "heartbeats, then content": Fault(Stream(fault="heartbeats", at="opening", seconds=0.5)),
    "silence in the middle": Fault(Stream(fault="stall", seconds=0.7)),
    "no end mark": Fault(Stream(fault="end", at="mark")),
    "open after the finish reason": Fault(Stream(fault="stall", at="mark")),
    "open after the end": Fault(Stream(fault="stall", at="end")),
    "heartbeats after the end": Fault(Stream(fault="heartbeats", at="end")),
    "reset after the finish reason": Fault(Stream(fault="cut", at="mark")),
    "reset after the end": Fault(Stream(fault="cut", at="end")),
    "closed after the end": Fault(Stream(fault="close", at="end")),
    "broken event after the finish reason": Fault(Stream(fault="malformed", at="mark")),
    "finish reason twice": Fault(Stream(fault="finish", at="mark")),
    "finish reason early and late": Fault(Stream(fault="finish", at="opening", interval=0.02)),
    "error after the end": Fault(Stream(error="overloaded", at="end")),
}
BAD: dict[str, Fault] = {
    "503": _bad(Status(503), *_OVERLOADED),
    "429, Retry-After": _bad(Status(429, retry_after=1), Category.RATE_LIMIT),
    "500": _bad(Status(500), Category.SERVER_ERROR),
    "404": _bad(Status(404), Category.NOT_FOUND),
    "reset before the headers": _bad(Reset(), Category.NETWORK),
    "reset in the headers": _bad(Stream(fault="cut", at="head"), Category.NETWORK),
    "silence before the headers": _bad(Hang(), Category.TIMEOUT),
    "HTML": _bad(Malformed(), Category.NETWORK, Category.OUTPUT_TRUNCATED, Category.OUTPUT_INVALID),
    "empty body": _bad(Malformed(""), Category.NETWORK, Category.OUTPUT_TRUNCATED, Category.OUTPUT_INVALID),
    **{
        f"{fault} {place}": _bad(
            Stream(fault=fault, at=at), *({Category.TIMEOUT} if fault == "stall" else _TRANSPORT)
        )
        for at, place in _PLACES
        for fault in _BREAKS
    },
    "heartbeats only": _bad(Stream(fault="heartbeats", at="opening"), Category.TIMEOUT),
    "heartbeats after content": _bad(Stream(fault="heartbeats"), Category.TIMEOUT),
    "end mark, no finish reason": _bad(Stream(finish=None), Category.OUTPUT_TRUNCATED),
    "broken event in the middle": _bad(Stream(fault="malformed"), *_TRANSPORT),
    "broken finish event": _bad(Stream(fault="malformed", at="finish"), *_TRANSPORT),
    "empty answer": _bad(Empty(), Category.OUTPUT_INVALID),
    "overloaded at the start": _bad(Stream(error="overloaded", at="opening"), *_OVERLOADED),
    "overloaded in the middle": _bad(Stream(error="overloaded"), *_OVERLOADED),
    "overloaded, then goes on": _bad(Stream(error="overloaded", goes_on=True), *_OVERLOADED),
    "overloaded, then open": _bad(Stream(error="overloaded", fault="stall"), *_OVERLOADED),
    "overloaded, then reset": _bad(Stream(error="overloaded", fault="cut"), *_OVERLOADED),
    "overloaded as the end": _bad(Stream(error="overloaded", at="finish"), *_OVERLOADED),
    "rate limit in the middle": _bad(Stream(error="rate_limit"), Category.RATE_LIMIT),
    "server error in the middle": _bad(Stream(error="server_error"), Category.SERVER_ERROR),
    "unavailable in the middle": _bad(Stream(error="unavailable"), *_OVERLOADED),
    "billing at the start": _bad(Stream(error="billing", at="opening"), Category.QUOTA_EXHAUSTED),
    "context length at the start": _bad(
        Stream(error="context_length", at="opening"), Category.CONTEXT_LENGTH
    ),
    "401": _final(Status(401), Category.AUTHENTICATION),
    "400": _final(Status(400), Category.INVALID_REQUEST),
    "authentication at the start": _final(
        Stream(error="authentication", at="opening"), Category.AUTHENTICATION
    ),
    "invalid request at the start": _final(
        Stream(error="invalid_request", at="opening"), Category.INVALID_REQUEST
    ),
    "refusal at the start": _refused(Stream(fault="refusal", at="opening")),
    "refusal in the middle": _refused(Stream(fault="refusal")),
}
_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "chat": {
        "good": ("tool_calls",),
        "cut": ("length",),
        "refused": ("content_filter",),
        "failed": ("error",),
    },
    "openai-responses": {
        "good": (),
        "cut": ("max_output_tokens",),
        "refused": ("content_filter",),
        "failed": (),
    },
    "anthropic": {
        "good": ("stop_sequence", "tool_use"),
        "cut": ("max_tokens", "model_context_window_exceeded", "pause_turn"),
        "refused": ("refusal",),
        "failed": (),
    },
    "google": {
        "good": (),
        "cut": ("MAX_TOKENS",),
        "refused": ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE"),
        "failed": ("OTHER", "MALFORMED_FUNCTION_CALL"),
    },
    "aws-bedrock": {
        "good": ("stop_sequence", "tool_use"),
        "cut": ("max_tokens", "model_context_window_exceeded"),
        "refused": ("content_filtered", "guardrail_intervened"),
        "failed": ("malformed_model_output",),
    },
}
"""The finish reasons of each protocol beside that of a whole answer."""


def _words(provider: str, *, typed: bool) -> Iterator[tuple[str, Fault]]:
    """Yield the faults of all finish reasons of *provider*. The text of a bad one is cut, but a typed one parses."""
    family = "chat" if provider in CHAT else "google" if provider in GOOGLE else provider
    text = json.dumps({**PLAN, "verdict": "it wi"}) if typed else TEXT[: len(TEXT) // 2]
    for word in _WORDS[family]["good"]:
        yield f"finish {word}", Fault(Stream(finish=word))
    for word in _WORDS[family]["cut"]:
        yield f"finish {word}", _bad(Finish(word, text), Category.OUTPUT_TRUNCATED)
    for word in _WORDS[family]["failed"]:
        yield f"finish {word}", _bad(Finish(word, text), Category.OUTPUT_INVALID)
    for word in _WORDS[family]["refused"]:
        yield f"finish {word}", _refused(Finish(word, text))


_TYPED = (
    *(
        "whole",
        "open after the end",
        "reset after the finish reason",
        "cut in the middle",
        "end in the middle",
    ),
    *("end before the finish reason", "broken event in the middle", "overloaded, then goes on"),
    *("stall in the middle", "refusal at the start", "empty answer", "end mark, no finish reason"),
)
"""The faults that are played for functions with a typed result too."""


def faults(provider: str) -> Iterator[tuple[str, bool, Fault]]:
    """Yield name, whether the result is typed, and fault of each cell of *provider*."""
    everything = {**GOOD, **BAD, **dict(_words(provider, typed=False))}
    if provider in GOOGLE:  # `STOP` in every event, as old models send it, with pauses between them
        everything["finish reason in every event"] = Fault(Stream(fault="finish", at="opening", interval=0.4))
    everything["whole JSON instead of a stream"] = _bad(
        Malformed(json.dumps(_document(provider))), *_TRANSPORT, Category.OUTPUT_INVALID
    )
    if provider == "vertex-ai":  # BAML takes its thoughts for a part of the answer
        del everything["thinking first"]
    if provider == "openai-responses":  # its last event repeats the whole text
        everything["broken event in the middle"] = Fault(Stream(fault="malformed"))
    for name, fault in everything.items():
        yield name, False, fault
    for name in _TYPED:
        yield name, True, everything[name]
    for name, fault in _words(provider, typed=True):
        yield name, True, fault


def _document(provider: str) -> dict[str, Any]:
    dialect: Any = {"openai-generic": "openai", "ollama": "openai", "vertex-ai": "google-ai"}.get(
        provider, provider
    )
    return answer_bodies.answer_body(dialect, "m", TEXT, "stop")


@dataclass(frozen=True, slots=True)
class Cell:
    """One stream.

    Attributes:
        provider: the provider in BAML's words.
        fault: the name of the fault.
        typed: whether the function has a typed result.
        bare: what BAML alone made of it: `whole`, `CUT`, `HANG`, or the class of its exception.
        guarded: the same of the guarded stream.
        category: the category of its first failure; None without one.
        seconds: the seconds that it took.
        asked: how often the client was asked, and how often the backup.
        wrong: what is wrong with the guarded stream; empty if nothing is.
    """

    provider: str
    fault: str
    typed: bool
    bare: str
    guarded: str
    category: str | None
    seconds: float
    asked: tuple[int, int]
    wrong: str


class Table:
    """Plays cells, several at a time.

    Args:
        clients: the generated clients, async and sync.
        simulator: has two clients for each worker.
        bare: whether BAML alone is played too. It is always async: the sync stream of BAML would hold the simulator up.
        sync: whether the guarded client is sync.
    """

    def __init__(
        self, clients: tuple[Any, Any], simulator: ProviderSimulator, *, bare: bool, sync: bool
    ) -> None:
        self._bare_client = clients[0]
        self._b = clients[sync]
        self._sync = sync
        self._simulator = simulator
        self._bare = bare
        self.cells: list[Cell] = []

    async def play(self, cells: list[tuple[str, str, bool, Fault]]) -> None:
        """Play *cells*: provider, name of the fault, whether typed, fault."""
        waiting = list(reversed(cells))

        async def work(number: int) -> None:
            while waiting:
                self.cells.append(await self._cell(number, *waiting.pop()))

        await asyncio.gather(*(work(number) for number in range(_WORKERS)))

    async def _cell(self, number: int, provider: str, name: str, typed: bool, fault: Fault) -> Cell:  # noqa: FBT001 - a row
        self._script(number, fault.behaviour, typed=typed)
        bare = (
            "" if not self._bare else (await self._ask(self._bare_client, number, provider, typed=typed))[0]
        )
        before = self._asked(number)
        handler = BAMLErrorHandler(
            retry=RetryPolicy(
                initial_delay=0.01,
                max_delay=0.1,
                attempt_timeout=2 * _LIMIT,
                first_token_timeout=_LIMIT,
                stall_timeout=_LIMIT,
            ),
            fallback=FallbackPolicy(clients=("Backup",)),
            settings=Settings(store_url="memory://", namespace=f"{provider}-{name}-{typed}", privacy="off"),
        )
        began = time.monotonic()
        guarded, raised = await self._ask(protect(self._b, handler), number, provider, typed=typed)
        seconds = time.monotonic() - began
        records = handler.get_error_history()
        await handler.aclose()
        primary, backup = (now - then for now, then in zip(self._asked(number), before, strict=True))
        first = records[-1].category if records else None
        return Cell(
            provider=provider,
            fault=name,
            typed=typed,
            bare=bare,
            guarded=guarded,
            category=None if first is None else str(first),
            seconds=round(seconds, 2),
            asked=(primary, backup),
            wrong=_wrong(fault, guarded, first, primary, backup, raised=raised),
        )

    def _script(self, number: int, behaviour: Behaviour, *, typed: bool) -> None:
        """Let the client of a worker do *behaviour*, and its backup answer."""
        content = json.dumps(PLAN) if typed else TEXT
        if isinstance(behaviour, Stream):
            fields = {name: getattr(behaviour, name) for name in Stream.__slots__ if name != "content"}
            behaviour = Stream(content, **fields)
        self._simulator.client(f"P{number}").set(behaviour)
        self._simulator.client(f"S{number}").set(Stream(content))

    def _asked(self, number: int) -> tuple[int, int]:
        return self._simulator.client(f"P{number}").asked, self._simulator.client(f"S{number}").asked

    async def _ask(self, b: Any, number: int, provider: str, *, typed: bool) -> tuple[str, bool]:
        """Return what became of one stream, and whether it raised."""
        import baml_py  # noqa: PLC0415 - after `main` has set BAML's environment

        controller = baml_py.AbortController()
        name = ("Typed" if typed else "Text") + baml_projects.provider_name(provider)
        env = {
            "PRIMARY_BASE_URL": self._simulator.url(f"P{number}"),
            "BACKUP_BASE_URL": self._simulator.url(f"S{number}"),
        }
        stream = getattr(b.stream, name)("a question", {"env": env, "abort_controller": controller})
        try:
            async with asyncio.timeout(_HANG):
                is_sync = self._sync and b is not self._bare_client
                reading = asyncio.ensure_future(
                    asyncio.to_thread(_read_sync, stream) if is_sync else _read(stream)
                )
                try:
                    result = await asyncio.shield(reading)
                except asyncio.CancelledError:
                    controller.abort()  # before BAML's generator unwinds, which would block the loop
                    await asyncio.wait({reading}, timeout=3)
                    reading.add_done_callback(lambda done: done.cancelled() or done.exception())
                    raise
        except TimeoutError as exc:
            is_ours = type(exc) is not TimeoutError
            return (type(exc).__name__ if is_ours else "HANG"), is_ours
        except Exception as exc:  # noqa: BLE001 - whatever BAML makes of it
            return type(exc).__name__, True
        whole = result.model_dump() == PLAN if typed else result == TEXT
        return ("whole" if whole else "CUT"), False


async def _read(stream: Any) -> Any:
    async for _ in stream:
        pass
    return await stream.get_final_response()


def _read_sync(stream: Any) -> Any:
    for _ in stream:
        pass
    return stream.get_final_response()


def _wrong(
    fault: Fault, ended: str, category: Category | None, primary: int, backup: int, *, raised: bool
) -> str:
    """Return what is wrong with a guarded stream; empty if nothing is."""
    if ended in {"CUT", "HANG"}:
        return {"CUT": "cut success", "HANG": "hang"}[ended]
    if not fault.categories:
        return "" if ended == "whole" and (primary, backup) == (1, 0) else _or("wasted ask", ended)
    if category not in fault.categories:
        return f"category {category}"
    if fault.raised:
        return "" if raised and (primary, backup) == (1, 0) else "wasted ask"
    if ended != "whole":
        return f"raised {ended}"
    return "" if primary <= 1 + (category in _ASKED_AGAIN) else "wasted ask"


def _or(wrong: str, ended: str) -> str:
    return wrong if ended == "whole" else f"raised {ended}"


def _project() -> tuple[Any, Any]:
    """Generate the clients; return the async and the sync one."""
    folder = Path(tempfile.mkdtemp(prefix="streams-"))
    sys.path.insert(0, str(folder))
    text = (
        "class Plan {\n  title string\n  steps string[]\n  verdict string\n}\n"
        'client<llm> Backup {\n  provider openai-generic\n  options {\n    base_url env.BACKUP_BASE_URL\n    model "m"\n  }\n}\n'
    )
    for provider in PROVIDERS:
        name, client = baml_projects.provider_name(provider), provider_client(provider)
        text += client
        text += function(f"Text{name}", f"client {name}Client")
        text += function(f"Typed{name}", f"client {name}Client", result="Plan")
    b = baml_projects.generate(folder, "streams_project", text).b
    return b, importlib.import_module("streams_project.baml_client.sync_client").b


async def measure(*, quick: bool, sync: bool, only: Mapping[str, str | None]) -> list[Cell]:
    """Play the table.

    Args:
        quick: leaves BAML alone out.
        sync: plays the sync client.
        only: parts of the names of the providers and faults that are played; None for all.
    """
    cells = [
        (provider, name, typed, fault)
        for provider in PROVIDERS
        for name, typed, fault in faults(provider)
        if (only["provider"] or "") in provider and (only["fault"] or "") in name
    ]
    names = [f"{kind}{number}" for kind in "PS" for number in range(_WORKERS)]
    b = _project()
    with ProviderSimulator.in_thread(clients=names) as simulator:
        table = Table(b, simulator, bare=not quick, sync=sync)
        await table.play(cells)
    return table.cells


def show(cells: list[Cell]) -> None:
    """Print each cell, then the counts."""
    for cell in sorted(cells, key=lambda cell: (cell.fault, cell.typed, PROVIDERS.index(cell.provider))):
        kind = "typed" if cell.typed else "text"
        print(
            f"{cell.fault:38} {kind:5} {cell.provider:16} bare {cell.bare or '-':22} guarded {cell.guarded:22} "
            f"{cell.category or '-':20} {cell.seconds:5.2f} s  asked {cell.asked}  {cell.wrong and f'WRONG: {cell.wrong}'}"
        )
    print(f"\ncells: {len(cells)}, right: {sum(not cell.wrong for cell in cells)}")
    print(f"{'':16}{'cut success':>12}{'hang':>8}{'wasted ask':>12}")
    counts = [sum(cell.wrong == wrong for cell in cells) for wrong in ("cut success", "hang", "wasted ask")]
    print(f"{'guarded':16}{counts[0]:>12}{counts[1]:>8}{counts[2]:>12}")
    bare = [sum(cell.bare == word for cell in cells) for word in ("CUT", "HANG")]
    print(f"{'BAML alone':16}{bare[0]:>12}{bare[1]:>8}{'-':>12}")


def main() -> None:
    """Play the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="Print the cells as JSON.")
    parser.add_argument("--quick", action="store_true", help="Leave BAML alone out.")
    parser.add_argument("--sync", action="store_true", help="Guard the sync client instead of the async one.")
    parser.add_argument("--provider", help="Only providers whose name has this part.")
    parser.add_argument("--fault", help="Only faults whose name has this part.")
    options = parser.parse_args()
    os.environ["BAML_LOG"] = "off"
    os.environ["AWS_MAX_ATTEMPTS"] = "1"  # the AWS SDK retries by itself
    for name in ("PRIMARY", "SECONDARY", "TERTIARY", "BACKUP"):
        for part in ("BASE_URL", "API_KEY", "MODEL"):
            os.environ[f"{name}_{part}"] = "http://127.0.0.1:9"
    only = {"provider": options.provider, "fault": options.fault}
    cells = asyncio.run(measure(quick=options.quick, sync=options.sync, only=only))
    if options.json:
        print(json.dumps([asdict(cell) for cell in cells]))
    else:
        show(cells)
    os._exit(
        any(cell.wrong for cell in cells)
    )  # threads of BAML's own streams that hang would keep the process


if __name__ == "__main__":
    main()
