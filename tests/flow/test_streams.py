"""Guarded streams over the real BAML runtime: whole answers or clear errors, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support import baml_projects
from support.baml_projects import function
from support.stream_server import Reply, Script, StreamServer, aborted_when_unwound, delta

from resilience import (
    AllClientsFailedError,
    BAMLErrorHandler,
    BreakerPolicy,
    CircuitOpenError,
    CircuitState,
    DeadlineExceededError,
    FallbackPolicy,
    RetryPolicy,
    Settings,
    protect,
    telemetry,
)
from resilience.errors import (
    AttemptTimeoutError,
    ContentRefusedError,
    OutputTruncatedError,
    StreamCutError,
    StreamFailedError,
    StreamLeftError,
    StreamStalledError,
)
from resilience.history import CallOutcome

pytestmark = pytest.mark.baml

WORDS = ("one ", "two ", "three ", "four")
WHOLE = "".join(WORDS)
HALF = WORDS[:2]
PROJECT = (
    function("Ask", "client Primary")
    + "class Pair {\n  a string\n  b string\n}\n"
    + function("AskPair", "client Primary", result="Pair")
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("streams")
    sys.path.insert(0, str(folder))
    yield baml_projects.generate(folder, "stream_project", PROJECT).b
    sys.path.remove(str(folder))


@pytest.fixture
def baml_py() -> ModuleType:
    import baml_py  # noqa: PLC0415 - only tests that run BAML may load it

    return baml_py


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StreamServer]:
    async with StreamServer.running() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        running.script("Primary", whole)
        running.script("Secondary", whole)
        yield running


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., BAMLErrorHandler]]:
    handlers: list[BAMLErrorHandler] = []

    def build(
        *backups: str, breaker: BreakerPolicy | None = None, database_url: str | None = None, **retry: Any
    ) -> BAMLErrorHandler:
        kept = {"privacy": "off"} if database_url is None else {"database_url": database_url}
        handlers.append(
            BAMLErrorHandler(
                settings=Settings(store_url="memory://", **kept),  # type: ignore[arg-type]  # two of its fields
                retry=RetryPolicy(initial_delay=0.0, max_delay=0.0, **retry),
                fallback=FallbackPolicy(clients=backups),
                breaker=breaker,
            )
        )
        return handlers[-1]

    yield build
    for handler in handlers:
        await handler.aclose()


async def whole(reply: Reply) -> None:
    await reply.whole(*WORDS)


def begins(*events: str, then: Callable[[Reply], Any] | None = None) -> Script:
    """Return a script that sends events and then does *then*; without it, silence."""

    async def script(reply: Reply) -> None:
        await reply.begin()
        await reply.send(*events)
        if then is not None:
            await then(reply)

    return script


def half(then: Callable[[Reply], Any] | None = None) -> Script:
    """Return a script that sends half of the answer and then does *then*; without it, silence."""
    return begins(*map(delta, HALF), then=then)


async def read(stream: Any) -> list[Any]:
    return [snapshot async for snapshot in stream]


def categories(handler: BAMLErrorHandler) -> list[str]:
    return [str(record.category) for record in reversed(handler.get_error_history())]


async def acknowledged_snapshots(client: Any, server: StreamServer) -> list[Any]:
    """Return the snapshots of a stream whose server waits for the reader before each event."""
    taken = asyncio.Semaphore(1)

    async def script(reply: Reply) -> None:
        await reply.begin()
        for word in WORDS:
            await taken.acquire()
            await reply.send(delta(word))
        await taken.acquire()
        await reply.send(delta(finish="stop"), "[DONE]")
        await reply.end()

    server.script("Primary", script)
    snapshots = []
    async for snapshot in client.stream.Ask("x"):
        if snapshot and snapshot not in snapshots:
            snapshots.append(snapshot)
            taken.release()
    return snapshots


# --- a healthy stream -------------------------------------------------------------------------------------------------


async def test_a_healthy_stream_is_bamls_own(project: Any, server: StreamServer, make: Any) -> None:
    """The reader gets the snapshots that BAML gives, each a whole answer so far."""
    bare = await acknowledged_snapshots(project, server)
    guarded = await acknowledged_snapshots(protect(project, make()), server)

    assert bare == guarded
    assert guarded == ["".join(WORDS[:count]) for count in range(1, len(WORDS) + 1)]


async def test_a_guarded_stream_is_used_like_bamls(
    project: Any, server: StreamServer, make: Any, baml_py: ModuleType
) -> None:
    """It passes for a BamlStream, and says which client answered in which attempt."""
    stream = protect(project, make()).stream.Ask("x")

    assert isinstance(stream, baml_py.BamlStream)
    assert ("", 0, 0) == (stream.client, stream.attempt, stream.restarts)
    assert [] == server.asked  # nothing is asked before it is read
    assert WHOLE == (await read(stream))[-1]
    assert WHOLE == await stream.get_final_response()
    assert ("Primary", 1, 0) == (stream.client, stream.attempt, stream.restarts)


async def test_a_missing_argument_is_an_error_of_the_call(
    project: Any, server: StreamServer, make: Any
) -> None:
    """As in BAML, a wrong signature raises where the stream is asked for, and not where it is read."""
    guarded = protect(project, make())
    with pytest.raises(TypeError, match="missing"):
        guarded.stream.Ask()
    with pytest.raises(TypeError, match="unexpected"):
        guarded.stream.Ask("x", other=1)


async def test_the_final_response_needs_no_iteration(project: Any, server: StreamServer, make: Any) -> None:
    """`get_final_response` alone reads the stream, any number of times, and asks once."""
    stream = protect(project, make()).stream.Ask("x")

    assert WHOLE == await stream.get_final_response()
    assert WHOLE == await stream.get_final_response()
    assert [WHOLE] == await read(stream)
    assert ["Primary"] == server.asked


async def test_a_second_iteration_ends(project: Any, server: StreamServer, make: Any) -> None:
    """A stream that was read is empty the second time, and a failed one raises its error again; BAML's would hang."""
    stream = protect(project, make()).stream.Ask("x")
    await read(stream)
    server.script("Primary", half(Reply.end))
    failed = protect(project, make()).stream.Ask("x")
    with pytest.raises(StreamCutError):
        await read(failed)

    assert [] == await read(stream)
    with pytest.raises(StreamCutError):
        await read(failed)


async def test_options_of_the_caller_work(
    project: Any, server: StreamServer, make: Any, baml_py: ModuleType
) -> None:
    """The caller's own collector and on_tick see the stream, given with the call or by `with_options`."""
    collector, ticks = baml_py.Collector("own"), []

    client = protect(project, make()).with_options(collector=collector)
    stream = client.stream.Ask("x", {"on_tick": lambda *_: ticks.append(1)})

    assert WHOLE == await stream.get_final_response()
    assert "Primary" == collector.last.calls[0].client_name
    assert ticks


async def test_a_good_answer_on_an_open_connection_is_finished(
    project: Any, server: StreamServer, make: Any
) -> None:
    """A provider that says `stop` and never closes has answered: the text so far is the answer, asked for once."""
    server.script("Primary", begins(*map(delta, WORDS), delta(finish="stop")))
    handler = make("Secondary", stall_timeout=30.0)
    stream = protect(project, handler).stream.Ask("x")

    assert WHOLE == await stream.get_final_response()
    assert ["Primary"] == server.asked
    assert [] == handler.get_error_history()


async def test_keep_alives_do_not_put_the_end_off(project: Any, server: StreamServer, make: Any) -> None:
    """Events without content after the finish reason do not keep the reader waiting."""

    async def then_keep_alives(reply: Reply) -> None:
        await begins(*map(delta, WORDS), delta(finish="stop"))(reply)
        while not reply.gone.is_set():
            await reply.send(delta())
            await asyncio.sleep(0.02)

    server.script("Primary", then_keep_alives)

    assert WHOLE == await protect(project, make()).stream.Ask("x").get_final_response()
    assert ["Primary"] == server.asked


async def test_a_good_answer_survives_a_broken_connection(
    project: Any, server: StreamServer, make: Any
) -> None:
    """A connection that breaks after the finish reason takes nothing from the answer."""
    server.script("Primary", begins(*map(delta, WORDS), delta(finish="stop"), then=Reply.cut))

    assert WHOLE == await protect(project, make("Secondary")).stream.Ask("x").get_final_response()
    assert ["Primary"] == server.asked


async def test_an_open_connection_of_a_typed_function_is_finished(
    project: Any, server: StreamServer, make: Any
) -> None:
    """The text of a typed function is parsed as BAML would."""
    server.script("Primary", begins(delta('{"a": "1", '), delta('"b": "2"}'), delta(finish="stop")))

    pair = await protect(project, make()).stream.AskPair("x").get_final_response()

    assert ("1", "2") == (pair.a, pair.b)


# --- faults -----------------------------------------------------------------------------------------------------------


async def test_an_error_before_the_first_event_falls_back(
    project: Any, server: StreamServer, make: Any
) -> None:
    """A 503 leads to the next client, is recorded, and restarts nothing that was shown."""
    server.script("Primary", lambda reply: reply.status(503))
    handler = make("Secondary")
    stream = protect(project, handler).stream.Ask("x")

    assert WHOLE == (await read(stream))[-1]
    assert ("Secondary", 2, 0) == (stream.client, stream.attempt, stream.restarts)
    assert ["service_unavailable"] == categories(handler)


async def test_the_only_client_is_asked_again(project: Any, server: StreamServer, make: Any) -> None:
    """Without another client the same one is retried, by the rules of all calls."""
    server.script("Primary", lambda reply: reply.status(500), whole)
    stream = protect(project, make()).stream.Ask("x")

    assert WHOLE == await stream.get_final_response()
    assert ("Primary", 2) == (stream.client, stream.attempt)


# Categories, separated by blanks where versions of BAML differ: some older ones call a broken connection a success, so that
# only the missing finish reason shows it.
FAULTS: dict[str, tuple[Script, type[Exception] | None, str]] = {
    "connection broken": (half(Reply.cut), None, "network output_truncated"),
    "clean end without a finish reason": (half(Reply.end), StreamCutError, "output_truncated"),
    "end mark without a finish reason": (
        begins(*map(delta, HALF), "[DONE]", then=Reply.end),
        StreamCutError,
        "output_truncated",
    ),
    "token limit": (
        begins(*map(delta, HALF), delta(finish="length"), "[DONE]", then=Reply.end),
        OutputTruncatedError,
        "output_truncated",
    ),
    "token limit, open connection": (
        begins(*map(delta, HALF), delta(finish="length")),
        OutputTruncatedError,
        "output_truncated",
    ),
    "stall": (half(), StreamStalledError, "timeout"),
    "silence after opening events": (begins(delta(), delta()), AttemptTimeoutError, "timeout"),
    "error event that BAML passes over": (
        begins(
            *map(delta, HALF),
            '{"error": {"type": "overloaded_error", "message": "Overloaded"}}',
            delta(WORDS[2]),
            delta(finish="stop"),
            "[DONE]",
            then=Reply.end,
        ),
        StreamFailedError,
        "overloaded",
    ),
    "error event at the end": (
        begins(
            *map(delta, HALF),
            '{"error": {"type": "overloaded_error", "message": "Overloaded"}}',
            then=Reply.end,
        ),
        None,
        "overloaded",
    ),
    "damaged event": (
        begins(delta(WORDS[0]), '{"choices": [{"del', delta(WORDS[2]), delta(finish="stop"), then=Reply.end),
        StreamCutError,
        "output_truncated",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_ends_in_the_whole_answer_of_the_next_client(
    project: Any, server: StreamServer, make: Any, fault: str
) -> None:
    """Whatever breaks a stream, the reader ends with the whole answer of another client."""
    script, _, category = FAULTS[fault]
    server.script("Primary", script)
    handler = make("Secondary", first_token_timeout=1.0, stall_timeout=1.0)
    stream = protect(project, handler).stream.Ask("x")

    snapshots = await read(stream)

    assert WHOLE == snapshots[-1]
    assert WHOLE == await stream.get_final_response()
    assert categories(handler)[0] in category.split()
    assert 1 == len(categories(handler))
    assert ["Primary", "Secondary"] == server.asked


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_of_the_only_client_is_an_error(
    project: Any, server: StreamServer, make: Any, fault: str
) -> None:
    """Without another client both the iteration and the final response raise; a cut answer never passes as a good one."""
    script, error, category = FAULTS[fault]
    server.script("Primary", script)
    handler = make(max_retries=0, max_output_retries=0, first_token_timeout=1.0, stall_timeout=1.0)
    stream = protect(project, handler).stream.Ask("x")

    with pytest.raises(Exception) as iterated:  # noqa: PT011 - compared below
        await read(stream)
    with pytest.raises(Exception) as final:  # noqa: PT011 - compared below
        await stream.get_final_response()

    assert final.value is iterated.value
    assert error is None or type(final.value) is error
    assert categories(handler)[0] in category.split()
    assert 1 == len(categories(handler))


async def test_a_cut_typed_answer_is_no_success(project: Any, server: StreamServer, make: Any) -> None:
    """BAML closes the brackets of a cut object; its finish reason gives it away."""
    server.script(
        "Primary", begins(delta('{"a": "1", "b": "cut he'), delta(finish="length"), "[DONE]", then=Reply.end)
    )

    with pytest.raises(OutputTruncatedError):
        await protect(project, make()).stream.AskPair("x").get_final_response()


async def test_a_refusal_goes_to_no_ordinary_backup(project: Any, server: StreamServer, make: Any) -> None:
    """A refused answer is an error for content, and is not asked for again."""
    server.script("Primary", begins(delta("I"), delta(finish="content_filter"), "[DONE]", then=Reply.end))
    handler = make("Secondary")

    with pytest.raises(ContentRefusedError):
        await protect(project, handler).stream.Ask("x").get_final_response()

    assert ["content_policy"] == categories(handler)
    assert ["Primary"] == server.asked


async def test_all_clients_may_fail(project: Any, server: StreamServer, make: Any) -> None:
    """When no client streams a whole answer, the error names them all."""
    server.script("Primary", half(Reply.end))
    server.script("Secondary", half(Reply.end))

    with pytest.raises(AllClientsFailedError) as failed:
        await read(protect(project, make("Secondary")).stream.Ask("x"))

    assert ["Primary", "Secondary"] == list(failed.value.by_client)


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_the_attempt_timeout_does_not_cut_a_healthy_stream(
    project: Any, server: StreamServer, make: Any
) -> None:
    """Once content has arrived, a stream may take longer than an attempt."""
    released = asyncio.Event()

    async def slow(reply: Reply) -> None:
        await reply.begin()
        await reply.send(*map(delta, HALF))
        await released.wait()
        await reply.send(*map(delta, WORDS[2:]), delta(finish="stop"), "[DONE]")
        await reply.end()

    server.script("Primary", slow)
    handler = make("Secondary", attempt_timeout=1.0)
    stream = protect(project, handler).stream.Ask("x")
    final = asyncio.ensure_future(stream.get_final_response())
    asyncio.get_running_loop().call_later(1.5, released.set)

    assert WHOLE == await final
    assert ["Primary"] == server.asked


async def test_the_attempt_timeout_covers_the_time_to_the_first_content(
    project: Any, server: StreamServer, make: Any
) -> None:
    """A stream that never begins costs no more than an attempt."""
    server.script("Primary", begins())
    handler = make("Secondary", attempt_timeout=1.0)

    assert WHOLE == await protect(project, handler).stream.Ask("x").get_final_response()
    assert ["timeout"] == categories(handler)


async def test_the_deadline_covers_all_attempts(project: Any, server: StreamServer, make: Any) -> None:
    """At the deadline the stream is aborted, whatever it has shown."""
    server.script("Primary", half())

    with pytest.raises(DeadlineExceededError):
        await read(protect(project, make("Secondary", deadline=1.0)).stream.Ask("x"))

    await server.replies["Primary"][0].gone.wait()


async def test_a_restart_is_seen(project: Any, server: StreamServer, make: Any) -> None:
    """After a restart the snapshots begin again, and the stream says so."""
    released = asyncio.Event()

    async def cut_when_shown(reply: Reply) -> None:
        await half()(reply)
        await released.wait()
        await reply.cut()

    server.script("Primary", cut_when_shown)
    stream = protect(project, make("Secondary")).stream.Ask("x")
    seen = []
    async for snapshot in stream:
        if snapshot:
            seen.append((stream.client, stream.attempt, stream.restarts))
            released.set()

    assert ("Primary", 1, 0) == seen[0]
    assert ("Secondary", 2, 1) == seen[-1]
    assert ["Primary", "Secondary"] == server.asked  # not the same client again: the reader waits


@pytest.mark.parametrize("restart", ["before_content", "never"])
async def test_a_stream_that_has_shown_content_may_be_final(
    project: Any, server: StreamServer, make: Any, restart: str
) -> None:
    """For readers of differences, nothing is asked after content was shown."""
    released = asyncio.Event()

    async def cut_when_shown(reply: Reply) -> None:
        await half()(reply)
        await released.wait()
        await reply.end()

    server.script("Primary", cut_when_shown)
    stream = protect(project, make("Secondary", stream_restart=restart)).stream.Ask("x")

    iterator = await until_first(stream)
    released.set()
    with pytest.raises(StreamCutError):
        await read(iterator)  # which may show one more snapshot first

    assert ["Primary"] == server.asked


@pytest.mark.parametrize(("restart", "asked"), [("before_content", 2), ("never", 1)])
async def test_a_restart_before_content(
    project: Any, server: StreamServer, make: Any, restart: str, asked: int
) -> None:
    """An error before any content may lead to another client, unless restarts are off."""
    server.script("Primary", lambda reply: reply.status(503))
    stream = protect(project, make("Secondary", stream_restart=restart)).stream.Ask("x")

    with contextlib.suppress(Exception):
        await stream.get_final_response()

    assert asked == len(server.asked)


# --- leaving early ----------------------------------------------------------------------------------------------------


async def until_first(stream: Any) -> AsyncIterator[Any]:
    """Return an iterator of *stream* that has given its first snapshot with content."""
    iterator: AsyncIterator[Any] = stream.__aiter__()
    while not await anext(iterator):
        pass
    return iterator


async def test_break_aborts_and_counts_nothing(project: Any, server: StreamServer, make: Any) -> None:
    """After `break` the connection closes, no thread of the stream is left, and the circuit has counted nothing."""
    server.script("Primary", half())
    handler, before = make("Secondary"), threading.active_count()
    stream = protect(project, handler).stream.Ask("x")
    async for snapshot in stream:
        if snapshot:
            break

    await server.replies["Primary"][0].gone.wait()
    with pytest.raises(StreamLeftError):
        await stream.get_final_response()

    assert 0 == len(handler.get_error_history())
    assert ["Primary"] == server.asked
    assert threading.active_count() <= before + 2  # the handler's own two


@pytest.mark.parametrize("way", ["aclose", "cancel", "end of the loop"])
async def test_the_abort_comes_before_bamls_generator_unwinds(
    project: Any,
    server: StreamServer,
    make: Any,
    baml_py: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    """BAML's generator joins its thread when it unwinds. Without an abort before that it would block the loop for 5 s."""
    aborted = aborted_when_unwound(baml_py, monkeypatch)
    server.script("Primary", half())
    iterator: Any = await until_first(protect(project, make()).stream.Ask("x"))

    if way == "aclose":
        await iterator.aclose()
    elif (
        way == "end of the loop"
    ):  # which cancels all tasks in any order, also that of the stream before its attempt
        (task,) = (task for task in asyncio.all_tasks() if type(task) is not asyncio.Task)
        task.cancel()
        await asyncio.wait({task})
    else:
        reader = asyncio.ensure_future(read(iterator))
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.wait({reader})

    assert [True] == aborted


async def test_closing_the_iterator_waits_for_the_end(project: Any, server: StreamServer, make: Any) -> None:
    """`aclose` returns after the request has ended."""
    server.script("Primary", half())
    stream = protect(project, make()).stream.Ask("x")
    iterator: Any = await until_first(stream)

    await iterator.aclose()

    await server.replies["Primary"][0].gone.wait()
    assert not [thread for thread in threading.enumerate() if "threading_target" in thread.name]


@pytest.mark.parametrize("script", [begins(), half()], ids=["silent", "begun"])
async def test_a_cancellation_aborts_and_counts_nothing(
    project: Any, server: StreamServer, make: Any, script: Script
) -> None:
    """A cancelled reader ends the request; the cancellation goes on."""
    asked = asyncio.Event()

    async def noted(reply: Reply) -> None:
        await script(reply)
        asked.set()

    server.script("Primary", noted)
    handler = make("Secondary")
    reader = asyncio.ensure_future(read(protect(project, handler).stream.Ask("x")))
    await asked.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader

    await server.replies["Primary"][0].gone.wait()
    assert 0 == len(handler.get_error_history())


async def test_an_attempt_that_was_left_gives_its_probe_back(
    project: Any, server: StreamServer, make: Any
) -> None:
    """A stream that is left while it probes a half-open circuit returns the lease: the next probe is admitted."""
    server.script("Primary", lambda reply: reply.status(503), half(), whole)
    breaker = BreakerPolicy(consecutive_failures=1, open_for=0.05, open_max=0.05, half_open_probes=1)
    handler = make(max_retries=0, breaker=breaker)
    client = protect(project, handler)
    with contextlib.suppress(Exception):
        await client.stream.Ask("x").get_final_response()

    iterator: Any = None
    while iterator is None:
        with contextlib.suppress(CircuitOpenError):
            iterator = await until_first(client.stream.Ask("x"))
    await iterator.aclose()
    final = None
    while final is None:
        with contextlib.suppress(CircuitOpenError):
            final = await client.stream.Ask("x").get_final_response()

    assert WHOLE == final


async def test_the_final_response_after_break_is_bamls(project: Any, server: StreamServer, make: Any) -> None:
    """Who asks for the final response directly after `break` still reads the stream, as with BAML."""
    released = asyncio.Event()

    async def in_two_parts(reply: Reply) -> None:
        await half()(reply)
        await released.wait()
        await reply.send(*map(delta, WORDS[2:]), delta(finish="stop"), "[DONE]")
        await reply.end()

    server.script("Primary", in_two_parts)
    stream = protect(project, make()).stream.Ask("x")
    async for snapshot in stream:
        if snapshot:
            break
    released.set()

    assert WHOLE == await stream.get_final_response()


async def test_the_callers_controller_ends_the_stream(
    project: Any, server: StreamServer, make: Any, baml_py: ModuleType
) -> None:
    """An abort of the caller ends the stream with BAML's error; nothing is asked again, and no circuit counts it."""
    server.script("Primary", half())
    controller, handler = baml_py.AbortController(), make("Secondary")
    stream = protect(project, handler).stream.Ask("x", {"abort_controller": controller})

    iterator = await until_first(stream)
    controller.abort()
    with pytest.raises(baml_py.baml_py.BamlAbortError):
        await stream.get_final_response()
    await iterator.aclose()  # type: ignore[attr-defined]  # a generator

    assert ["Primary"] == server.asked
    assert ["cancelled"] == categories(handler)
    with pytest.raises(baml_py.baml_py.BamlAbortError):  # BAML itself would ask
        await protect(project, handler).stream.Ask("x", {"abort_controller": controller}).get_final_response()
    assert ["Primary"] == server.asked


# --- circuits and records ---------------------------------------------------------------------------------------------


async def test_the_circuit_counts_streams(project: Any, server: StreamServer, make: Any) -> None:
    """Streams that stall open the circuit of their client, and the next one goes to the backup at once."""
    server.script("Primary", half())
    handler = make("Secondary", breaker=BreakerPolicy(consecutive_failures=2), stall_timeout=0.3)
    client = protect(project, handler)
    for _ in range(3):
        assert WHOLE == await client.stream.Ask("x").get_final_response()

    assert CircuitState.OPEN == handler.circuits["Primary"].state
    assert ["Primary", "Secondary"] == list(dict.fromkeys(server.asked))
    assert "Secondary" == server.asked[-1]
    assert {"timeout"} == set(categories(handler))


async def test_the_history_has_streams(project: Any, server: StreamServer, make: Any, tmp_path: Path) -> None:
    """Calls and errors say that they were streamed, and how long the first content took; other calls have neither."""
    server.script("Primary", lambda reply: reply.status(503), half(Reply.end))
    database = f"sqlite:///{tmp_path}/history.db"
    handler = make("Secondary", database_url=database, stall_timeout=30.0)
    client = protect(project, handler)
    for _ in range(2):
        assert WHOLE == await client.stream.Ask("x").get_final_response()
    server.script("Primary", lambda reply: reply.status(503))
    server.script("Secondary", lambda reply: reply.status(400))
    with pytest.raises(AllClientsFailedError):
        await client.Ask("x")
    assert await handler._open().recorder.aflush(60.0)

    calls = {call.outcome: call for call in await handler.history.calls()}
    cut = await handler.history.errors(category="output_truncated")
    others = [error for error in await handler.history.errors() if error.category != "output_truncated"]

    assert {"recovered_fallback", "failed"} == {outcome.value for outcome in calls}
    streamed, plain = calls[CallOutcome.RECOVERED_FALLBACK], calls[CallOutcome.FAILED]
    assert (True, False, None) == (streamed.streamed, plain.streamed, plain.time_to_first_token)
    assert 0 < (streamed.time_to_first_token or 0) <= streamed.duration
    assert [True] == [error.streamed for error in cut]
    assert all(0 < (error.time_to_first_token or 0) <= error.duration for error in cut)
    assert [False, False, True] == sorted(error.streamed for error in others)
    assert {None} == {error.time_to_first_token for error in others}


async def test_spans_and_metrics_have_the_first_content(
    project: Any, server: StreamServer, make: Any
) -> None:
    """The client's span says that it streamed and when content began; a histogram counts each attempt with content."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing = TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry.use(
        tracer_provider=tracing,
        meter_provider=MeterProvider(metric_readers=[reader], shutdown_on_exit=False),
    )
    labels = {
        "gen_ai.client.operation.time_to_first_chunk": "error.type",
        "resilience.attempt.time_to_first_token": "client",
    }
    server.script("Primary", half(Reply.end))
    try:
        await protect(project, make("Secondary")).stream.Ask("x").get_final_response()
    finally:
        telemetry.use()

    clients = [span for span in exporter.get_finished_spans() if span.name.startswith("chat")]
    assert [True, True] == [(span.attributes or {})["gen_ai.request.stream"] for span in clients]
    assert all((span.attributes or {})["gen_ai.response.time_to_first_chunk"] for span in clients)
    counted = {
        (metric.name, (point.attributes or {}).get(label)): point.count  # type: ignore[union-attr]  # of a histogram
        for resource in reader.get_metrics_data().resource_metrics  # type: ignore[union-attr]  # there are some
        for metric in resource.scope_metrics[0].metrics
        if (label := labels.get(metric.name))
        for point in metric.data.data_points
    }
    assert {
        ("gen_ai.client.operation.time_to_first_chunk", "output_truncated"): 1,
        ("gen_ai.client.operation.time_to_first_chunk", None): 1,
        ("resilience.attempt.time_to_first_token", "Primary"): 1,
        ("resilience.attempt.time_to_first_token", "Secondary"): 1,
    } == counted
