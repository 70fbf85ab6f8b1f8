"""Guarded streams of BAML's sync client over the real runtime: the rules of async streams, on any thread, and interruptible."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support import baml_projects
from support.baml_projects import function
from support.programs import run_program
from support.stream_server import (
    Reply,
    Script,
    StreamServer,
    ThreadedServer,
    aborted_when_unwound,
    delta,
)

from resilience import (
    BAMLErrorHandler,
    BreakerPolicy,
    DeadlineExceededError,
    FallbackPolicy,
    RetryPolicy,
    Settings,
    protect,
    set_request_id,
)
from resilience.errors import StreamCutError, StreamLeftError, StreamStalledError

pytestmark = pytest.mark.baml

WORDS = ("one ", "two ", "three ", "four")
WHOLE = "".join(WORDS)
HALF = WORDS[:2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("sync_streams")
    sys.path.insert(0, str(folder))
    baml_projects.generate(folder, "sync_stream_project", function("Ask", "client Primary"))
    yield import_module("sync_stream_project.baml_client.sync_client").b
    sys.path.remove(str(folder))


@pytest.fixture
def baml_py() -> ModuleType:
    import baml_py  # noqa: PLC0415 - only tests that run BAML may load it

    return baml_py


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StreamServer]:
    """A server on a thread of its own: the test itself blocks."""
    with ThreadedServer() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        running.script("Primary", whole)
        running.script("Secondary", whole)
        yield running


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., BAMLErrorHandler]]:
    handlers: list[BAMLErrorHandler] = []

    def build(*backups: str, breaker: BreakerPolicy | None = None, **retry: Any) -> BAMLErrorHandler:
        handlers.append(
            BAMLErrorHandler(
                settings=Settings(store_url="memory://", privacy="off"),
                retry=RetryPolicy(initial_delay=0.0, max_delay=0.0, **retry),
                fallback=FallbackPolicy(clients=backups),
                breaker=breaker,
            )
        )
        return handlers[-1]

    yield build
    for handler in handlers:
        handler.close()


async def whole(reply: Reply) -> None:
    await reply.whole(*WORDS)


def half(then: Callable[[Reply], Any] | None = None) -> Script:
    """Return a script that sends half of the answer and then does *then*; without it, silence."""

    async def script(reply: Reply) -> None:
        await reply.begin()
        await reply.send(*map(delta, HALF))
        if then is not None:
            await then(reply)

    return script


def until_first(stream: Any) -> Iterator[Any]:
    """Return an iterator of *stream* that has given its first snapshot with content."""
    iterator: Iterator[Any] = iter(stream)
    while not next(iterator):
        pass
    return iterator


def categories(handler: BAMLErrorHandler) -> list[str]:
    return [str(record.category) for record in reversed(handler.get_error_history())]


def test_a_sync_stream_is_used_like_bamls(
    project: Any, server: StreamServer, make: Any, baml_py: ModuleType
) -> None:
    """It passes for a BamlSyncStream, asks when it is read, and gives whole snapshots and the final response."""
    stream = protect(project, make()).stream.Ask("x")

    assert isinstance(stream, baml_py.BamlSyncStream)
    assert ([], "", 0, 0) == (server.asked, stream.client, stream.attempt, stream.restarts)
    snapshots = list(stream)
    assert WHOLE == snapshots[-1]
    assert all(WHOLE.startswith(snapshot) for snapshot in snapshots)
    assert WHOLE == stream.get_final_response()
    assert ("Primary", 1, 0) == (stream.client, stream.attempt, stream.restarts)
    assert ["Primary"] == server.asked


def test_a_second_iteration_of_a_sync_stream_ends(project: Any, server: StreamServer, make: Any) -> None:
    """A stream that was read is empty the second time, and a failed one raises its error again; BAML's would hang."""
    stream = protect(project, make()).stream.Ask("x")
    server.script("Secondary", half(Reply.end))
    failed = protect(project, make()).with_options(client="Secondary").stream.Ask("x")

    assert list(stream)
    assert [] == list(stream)
    for _ in range(2):
        with pytest.raises(StreamCutError):
            list(failed)


def test_a_sync_stream_that_breaks_ends_whole(project: Any, server: StreamServer, make: Any) -> None:
    """After a cut the next client streams the whole answer, and the stream says that it began again."""
    shown = threading.Event()

    async def cut_when_shown(reply: Reply) -> None:
        await half()(reply)
        await asyncio.to_thread(shown.wait)
        await reply.cut()

    server.script("Primary", cut_when_shown)
    handler = make("Secondary")
    stream = protect(project, handler).stream.Ask("x")
    seen = []
    for snapshot in stream:
        if snapshot:
            seen.append((snapshot, stream.client, stream.attempt, stream.restarts))
            shown.set()

    assert ("Primary", 1, 0) == seen[0][1:]
    assert (WHOLE, "Secondary", 2, 1) == seen[-1]
    assert 1 == len(categories(handler))


def test_the_limits_hold_for_sync_streams(project: Any, server: StreamServer, make: Any) -> None:
    """A stall and the deadline end a sync stream as they end an async one."""
    server.script("Primary", half())

    with pytest.raises(StreamStalledError):
        protect(project, make(max_retries=0, stall_timeout=0.3)).stream.Ask("x").get_final_response()
    with pytest.raises(DeadlineExceededError):
        list(protect(project, make(deadline=0.3)).stream.Ask("x"))

    for reply in server.replies["Primary"]:
        assert reply.left.wait(240)


def test_options_of_the_caller_work_for_sync_streams(
    project: Any, server: StreamServer, make: Any, baml_py: ModuleType
) -> None:
    """Collector, on_tick, tags and env of the caller reach BAML, given with the call or by `with_options`."""
    collector, ticks = baml_py.Collector("own"), []
    client = protect(project, make()).with_options(collector=collector, tags={"run": "7"})
    other = {"PRIMARY_BASE_URL": os.environ["SECONDARY_BASE_URL"]}

    stream = client.stream.Ask("x", {"on_tick": lambda *_: ticks.append(1), "env": other})

    assert WHOLE == stream.get_final_response()
    assert ["Secondary"] == server.asked
    assert "7" == collector.last.tags["run"]
    assert ticks


def test_the_callers_controller_ends_a_sync_stream(
    project: Any, server: StreamServer, make: Any, baml_py: ModuleType
) -> None:
    """An abort of the caller ends the stream with BAML's error, and nothing is asked again."""
    server.script("Primary", half())
    controller, handler = baml_py.AbortController(), make("Secondary")
    stream = protect(project, handler).stream.Ask("x", {"abort_controller": controller})

    iterator = until_first(stream)
    controller.abort()
    with pytest.raises(baml_py.baml_py.BamlAbortError):
        list(iterator)

    assert ["Primary"] == server.asked
    assert ["cancelled"] == categories(handler)


# --- any thread -------------------------------------------------------------------------------------------------------


def test_threads_of_a_pool_stream_at_once(project: Any, server: StreamServer, make: Any) -> None:
    """Threads of a pool read streams at the same time; one loop thread serves them all, with the request id of each."""
    handler = make()
    client = protect(project, handler)

    def read(number: int) -> Any:
        set_request_id(f"request-{number}")
        return list(client.stream.Ask(str(number)))[-1]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(read, range(24)))

    assert [WHOLE] * 24 == answers
    assert 1 == sum(thread.name == "resilience-streams" for thread in threading.enumerate())


async def test_a_sync_stream_works_beside_a_running_loop(
    project: Any, server: StreamServer, make: Any
) -> None:
    """In a notebook the thread that reads has a running event loop."""
    assert WHOLE == list(protect(project, make()).stream.Ask("x"))[-1]


def test_a_sync_stream_may_be_read_by_several_threads(project: Any, server: StreamServer, make: Any) -> None:
    """One thread iterates and another asks for the final response: one request serves both."""
    stream = protect(project, make()).stream.Ask("x")

    with ThreadPoolExecutor(2) as pool:
        final = pool.submit(stream.get_final_response)
        snapshots = pool.submit(list, stream)

    assert WHOLE == final.result()
    assert snapshots.result()[-1:] in ([], [WHOLE])
    assert ["Primary"] == server.asked


# --- leaving early ----------------------------------------------------------------------------------------------------


class Left(Exception):  # noqa: N818 - as a task queue raises it
    """Raised by a signal handler."""


def leave_by_break(stream: Any) -> None:
    for snapshot in stream:
        if snapshot:
            break


def leave_by_error(stream: Any) -> None:
    with contextlib.suppress(Left):
        for snapshot in stream:
            if snapshot:
                raise Left


def leave_by_closing(stream: Any) -> None:
    iterator: Any = until_first(stream)
    iterator.close()


def leave_as_garbage(stream: Any) -> None:
    holder = [until_first(stream)]
    holder.append(holder)  # type: ignore[arg-type]  # only the garbage collector frees a cycle
    del holder
    gc.collect()


def leave_by_signal(stream: Any) -> None:
    def stop(*_: object) -> None:
        raise Left

    iterator = until_first(stream)
    before = signal.signal(signal.SIGUSR1, stop)
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    try:
        with pytest.raises(Left):  # noqa: PT012 - wherever in this block a busy machine lets the signal arrive
            timer.start()
            list(iterator)
    finally:
        signal.signal(signal.SIGUSR1, before)
        timer.join()


WAYS = [leave_by_break, leave_by_error, leave_by_closing, leave_as_garbage, leave_by_signal]


@pytest.mark.parametrize("leave", WAYS)
def test_leaving_a_sync_stream_aborts_and_counts_nothing(
    project: Any, server: StreamServer, make: Any, leave: Callable[[Any], None]
) -> None:
    """However the loop is left, the connection closes, the circuit counts nothing, and no other client is asked."""
    server.script("Primary", half())
    handler = make("Secondary")
    stream = protect(project, handler).stream.Ask("x")

    leave(stream)

    assert server.replies["Primary"][0].left.wait(240)
    with pytest.raises(StreamLeftError):
        stream.get_final_response()
    assert (0, []) == (handler.circuits["Primary"].failures, handler.get_error_history())
    assert ["Primary"] == server.asked


def test_the_abort_of_a_sync_stream_comes_before_bamls_generator_unwinds(
    project: Any, server: StreamServer, make: Any, baml_py: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BAML's generator joins its thread when it unwinds. Without an abort before that it would block for up to 5 s."""
    aborted = aborted_when_unwound(baml_py, monkeypatch)
    server.script("Primary", half())

    leave_by_break(protect(project, make()).stream.Ask("x"))

    assert [True] == aborted


def test_an_interrupted_wait_for_the_first_snapshot_gives_the_probe_back(
    project: Any, server: StreamServer, make: Any
) -> None:
    """A signal during a silent probe aborts it; its place is free again for the next call."""
    server.script("Primary", lambda reply: reply.status(503), half(), whole)
    breaker = BreakerPolicy(consecutive_failures=1, open_for=0.05, open_max=0.05, half_open_probes=1)
    handler = make(max_retries=0, breaker=breaker)
    client = protect(project, handler)
    with contextlib.suppress(Exception):
        client.stream.Ask("x").get_final_response()

    while len(server.asked) < 2:  # until the circuit lets a probe through
        with contextlib.suppress(Exception):
            leave_by_signal(client.stream.Ask("x"))
    final = None
    while final is None:
        with contextlib.suppress(Exception):
            final = client.stream.Ask("x").get_final_response()

    assert WHOLE == final


# --- processes --------------------------------------------------------------------------------------------------------


def test_a_child_may_not_stream_with_the_client_of_its_parent(
    project: Any, server: StreamServer, tmp_path: Path
) -> None:
    """In a forked child a new stream and one of the parent's are refused before BAML is touched; the parent streams on."""
    program = """
        import os
        from sync_stream_project.baml_client.sync_client import b
        from resilience import BAMLErrorHandler, ForkedRuntimeError, Settings, protect
        guarded = protect(b, BAMLErrorHandler(settings=Settings(store_url="memory://", privacy="off")))
        begun = iter(guarded.stream.Ask("x"))
        next(begun)
        child = os.fork()
        if child == 0:
            refused = 0
            for use in (lambda: guarded.stream.Ask("x"), lambda: next(begun)):
                try:
                    use()
                except ForkedRuntimeError:
                    refused += 1
            os._exit(40 + refused)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), list(guarded.stream.Ask("x"))[-1], list(begun)[-1:], flush=True)
    """
    done = run(program, server, tmp_path)

    assert (0, "42") == (done.returncode, done.stdout[:2]), done.stderr
    assert WHOLE in done.stdout


def test_a_process_ends_cleanly_while_a_stream_runs(
    project: Any, server: StreamServer, tmp_path: Path
) -> None:
    """Ctrl-C ends the wait for a stream, and the end of the program one that is half read, without SIGABRT."""
    server.script("Primary", half())
    program = """
        import os, signal
        from sync_stream_project.baml_client.sync_client import b
        from resilience import BAMLErrorHandler, Settings, protect
        b = protect(b, BAMLErrorHandler(settings=Settings(store_url="memory://", privacy="off")))
        abandoned = iter(b.stream.Ask("x"))
        next(abandoned)
        sent = []
        def interrupt(*_):  # on BAML's thread, when the main thread waits for the stream
            if not sent:
                sent.append(os.kill(os.getpid(), signal.SIGINT))
        waiting = b.stream.Ask("x", {"on_tick": interrupt})
        try:
            waiting.get_final_response()
        except KeyboardInterrupt:
            print("left", flush=True)
    """
    done = run(program, server, tmp_path)

    assert ("left\n", 0) == (done.stdout, done.returncode), done.stderr


def run(program: str, server: StreamServer, folder: Path) -> subprocess.CompletedProcess[str]:
    return run_program(program, server.environment(), folder)
