"""Blocking calls: the same rules on the caller's thread, waits that signals end, and nothing left behind."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import baml_projects
from support.baml_projects import function, strategy
from support.programs import run_program

from resilience import (
    AllClientsFailedError,
    BAMLErrorHandler,
    CircuitOpenError,
    DeadlineExceededError,
    ErrorCategory,
    FallbackPolicy,
    RetryPolicy,
    Settings,
    protect,
    request_id,
)
from resilience.errors import AttemptTimeoutError
from resilience.execution import sync_driver
from resilience.testing import Answer, Hang, ManualClock, ProviderSimulator, Status

pytestmark = pytest.mark.baml

PROJECT = (
    function("Ask", "client Primary")
    + strategy("Chain", "fallback", "Primary", "Secondary")
    + function("Chained", "client Chain")
    + "retry_policy Thrice {\n  max_retries 2\n  strategy {\n    type constant_delay\n    delay_ms 10\n  }\n}\n"
    + "client<llm> Eager {\n  provider openai-generic\n  retry_policy Thrice\n  options {\n    base_url env.PRIMARY_BASE_URL\n"
    '    api_key env.PRIMARY_API_KEY\n    model "m"\n  }\n}\n' + function("Eagerly", "client Eager")
)


class ProviderError(Exception):
    """An error as SDKs raise them."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status_code = status


class Fleet:
    """Clients that do what their script says and then answer."""

    def __init__(self, **scripts: list[Any]) -> None:
        self.scripts = {name: list(script) for name, script in scripts.items()}
        self.asked: list[str] = []

    def __call__(self, client: str) -> Callable[..., Any]:
        def ask(*args: Any, **kwargs: Any) -> Any:
            self.asked.append(client)
            script = self.scripts.get(client, [])
            step = script.pop(0) if script else f"answer of {client}"
            if isinstance(step, BaseException):
                raise step
            return step() if callable(step) else step

        return ask


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., BAMLErrorHandler]]:
    handlers: list[BAMLErrorHandler] = []

    def build(*backups: str, **policies: Any) -> BAMLErrorHandler:
        policies.setdefault("retry", RetryPolicy(initial_delay=0.0, max_delay=0.0))
        policies.setdefault("fallback", FallbackPolicy(clients=backups))
        settings = Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db")
        handlers.append(BAMLErrorHandler(settings=settings, **policies))
        return handlers[-1]

    yield build
    for handler in handlers:
        handler.close()


# --- any function -----------------------------------------------------------------------------------------------------


def test_a_call_is_retried_and_falls_back(make: Any) -> None:
    """The blocking verbs follow the same policies and leave the same records as the async ones."""
    fleet, clock = Fleet(A=[ProviderError(500), ProviderError(503)]), ManualClock()
    handler = make("B", retry=RetryPolicy(jitter=False), clock=clock)

    assert ("answer of B", "B") == handler.sync.call_with_fallback(fleet, "F", "A", 1, x=2)
    assert ["A", "A", "B"] == fleet.asked
    assert ["fallback", "retry"] == [str(record.action) for record in handler.get_error_history()]
    assert 1 == len(clock.sleeps)


def test_the_callers_own_exception_comes_back(make: Any) -> None:
    """With one client the exception object of the function is raised; with several a group of them."""
    error = ProviderError(400)
    with pytest.raises(ProviderError) as raised:
        make().sync.call_with_retry(Fleet(A=[error])("A"), "A", "F")
    with pytest.raises(AllClientsFailedError) as failed:
        make("B").sync.call_with_fallback(Fleet(A=[ProviderError(404)], B=[ProviderError(404)]), "F", "A")

    assert error is raised.value
    assert ["A", "B"] == list(failed.value.by_client)


def test_an_open_circuit_refuses(make: Any) -> None:
    """After enough failures a blocking call is refused without asking the client."""
    fleet, handler = Fleet(A=[ProviderError(503)] * 20), make(retry=RetryPolicy(max_retries=0))
    for _ in range(8):
        with pytest.raises((ProviderError, CircuitOpenError)):
            handler.sync.call_with_retry(fleet("A"), "A", "F")
    before = len(fleet.asked)

    with pytest.raises(CircuitOpenError):
        handler.sync.call_with_retry(fleet("A"), "A", "F")

    assert before == len(fleet.asked)


async def ask_argument(given: str) -> str:
    return given


def test_the_wrong_kind_of_function_is_refused_before_it_is_called(make: Any) -> None:
    """A coroutine function in a blocking verb, or the reverse, is a TypeError that names the verb to use."""
    calls: list[str] = []

    async def ask_async() -> None:
        calls.append("async")

    def ask_sync() -> None:
        calls.append("sync")

    handler = make()
    with pytest.raises(TypeError, match=r"await handler\.call_with_retry"):
        handler.sync.call_with_retry(ask_async, "A", "F")
    with pytest.raises(TypeError, match=r"await handler\.call_with_fallback"):
        handler.sync.call_with_fallback(lambda _: ask_async, "F", "A")
    with pytest.raises(TypeError, match=r"handler\.sync\.call_with_retry"):
        asyncio.run(handler.call_with_retry(ask_sync, "A", "F"))
    with pytest.raises(TypeError, match=r"handler\.sync\.call_with_fallback"):
        asyncio.run(handler.call_with_fallback(lambda _: ask_sync, "F", "A"))
    with pytest.raises(TypeError, match=r"call_with_retry\(.*ask_sync\): it is a blocking function"):
        asyncio.run(handler.call_with_retry(partial(partial(ask_sync)), "A", "F"))

    assert [] == calls
    assert "given" == asyncio.run(handler.call_with_retry(partial(ask_argument, "given"), "A", "F"))


def test_a_coroutine_from_a_blocking_function_is_refused_and_closed(make: Any) -> None:
    """A lambda that returns a coroutine is a TypeError of the call at once; no client is blamed for it."""
    made = []

    def forget_to_await() -> Any:
        made.append(ask_argument("never"))
        return made[-1]

    handler = make("B")
    with pytest.raises(TypeError, match="returns a coroutine, which was closed"):
        handler.sync.call_with_fallback(lambda _: forget_to_await, "F", "A")

    assert ["CORO_CLOSED"] == [inspect.getcoroutinestate(coroutine) for coroutine in made]
    assert [] == handler.get_error_history()


def test_a_function_that_does_not_stop_is_left(make: Any) -> None:
    """attempt_timeout ends the wait; the function keeps a thread until it returns, and the backup answers."""
    go_on = threading.Event()
    handler = make("B", retry=RetryPolicy(max_retries=0, attempt_timeout=0.2))

    assert ("answer of B", "B") == handler.sync.call_with_fallback(Fleet(A=[go_on.wait]), "F", "A")
    assert ErrorCategory.TIMEOUT is handler.get_error_history()[0].category
    assert 1 == sync_driver._threads.left
    go_on.set()


def test_the_deadline_ends_the_call(make: Any) -> None:
    """`deadline` covers a hanging function, and the error names it."""
    go_on = threading.Event()
    handler = make(retry=RetryPolicy(deadline=0.2))

    with pytest.raises(DeadlineExceededError):
        handler.sync.call_with_retry(Fleet(A=[go_on.wait])("A"), "A", "F")
    go_on.set()


def test_context_variables_reach_the_function(make: Any) -> None:
    """The function runs on another thread and still sees the caller's context, such as the request id."""
    seen: list[Any] = []

    def ask() -> None:
        from resilience.request_id import current_request_id  # noqa: PLC0415 - read where the function runs

        seen.append((current_request_id(), threading.current_thread() is threading.main_thread()))

    with request_id("request-1"):
        make().sync.call_with_retry(ask, "A", "F")

    assert [("request-1", False)] == seen


def test_threads_of_a_pool_share_one_handler(make: Any) -> None:
    """Many threads call at once; every call is answered and no thread is left but idle ones of the pool."""
    fleet, handler = Fleet(), make()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: handler.sync.call_with_retry(fleet("A"), "A", "F", n), range(200)))

    assert ["answer of A"] * 200 == answers


async def test_a_blocking_call_works_beside_a_running_loop(make: Any) -> None:
    """In a notebook the calling thread has a running event loop: a blocking call needs none of its own."""
    assert "answer of A" == make().sync.call_with_retry(Fleet()("A"), "A", "F")


def test_the_handler_closes_and_opens_again(make: Any, tmp_path: Path) -> None:
    """`with handler.sync` writes all rows at its end, and a later call opens the handler again."""
    handler = make(retry=RetryPolicy(max_retries=0))
    with handler.sync as sync:
        with pytest.raises(ProviderError):
            sync.call_with_retry(Fleet(A=[ProviderError(503)])("A"), "A", "F")
        assert handler._open().recorder.flush(60.0)  # a busy machine takes its time to create the database

    assert 1 == len(handler.history.sync.errors())
    assert "answer of A" == handler.sync.call_with_retry(Fleet()("A"), "A", "F")


def test_an_interruption_returns_the_lease(make: Any) -> None:
    """A signal handler that raises ends the wait at once; the circuit counts nothing and admits the next call."""

    class SoftLimit(Exception):  # noqa: N818 - as a task queue raises it
        pass

    def stop(*_: object) -> None:
        raise SoftLimit

    go_on = threading.Event()
    handler = make()
    before = signal.signal(signal.SIGUSR1, stop)
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(SoftLimit):
            handler.sync.call_with_retry(Fleet(A=[go_on.wait])("A"), "A", "F")
    finally:
        signal.signal(signal.SIGUSR1, before)
        timer.join()
        go_on.set()

    assert "answer of A" == handler.sync.call_with_retry(Fleet()("A"), "A", "F")
    assert (0, 0) == (handler.circuits["A"].failures, len(handler.get_error_history()))


# --- BAML's sync client -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("sync")
    sys.path.insert(0, str(folder))
    baml_projects.generate(folder, "sync_project", PROJECT)
    from importlib import import_module  # noqa: PLC0415 - the package exists only now

    yield import_module("sync_project.baml_client.sync_client").b
    sys.path.remove(str(folder))


async def test_a_sync_client_is_guarded(project: Any, make: Any, simulator: ProviderSimulator) -> None:
    """protect(sync_b) keeps the class, answers through a 503, and falls back by strategy."""
    guarded = protect(project, make())
    simulator.client("Primary").script([Status(503), Answer(), Status(401)])

    assert isinstance(guarded, type(project))
    assert await asyncio.to_thread(guarded.Ask, "x")
    assert await asyncio.to_thread(guarded.Chained, it="x")
    assert await asyncio.to_thread(guarded.with_options(client="Tertiary").Ask, "x")

    asked = [line.client for line in simulator.requests]
    assert ["Primary", "Primary", "Primary", "Secondary", "Tertiary"] == asked


async def test_a_retry_policy_is_switched_off_for_sync_calls(
    project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """A 401 is one request, as for async calls."""
    simulator.client("Primary").set(Status(401))

    with pytest.raises(Exception):  # noqa: B017, PT011 - what the provider said
        await asyncio.to_thread(protect(project, make()).Eagerly, "x")

    assert 1 == len(simulator.requests)


async def test_a_hanging_provider_is_left_and_its_connection_closed(
    project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """The time limit aborts the BAML call: the connection closes, and no thread is left."""
    simulator.client("Primary").set(Hang())
    handler = make("Secondary", retry=RetryPolicy(max_retries=0, attempt_timeout=0.5))

    assert await asyncio.to_thread(protect(project, handler).Ask, "x")

    assert ErrorCategory.TIMEOUT is handler.get_error_history()[0].category
    async with asyncio.timeout(240):
        while simulator.in_flight or sync_driver._threads.left:  # noqa: ASYNC110 - other threads' counters
            await asyncio.sleep(0.01)


async def test_the_callers_abort_controller_works(
    project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """abort() of the caller's own controller ends the call as cancelled, and no other client is asked."""
    import baml_py  # noqa: PLC0415 - only tests that run BAML may load it

    simulator.client("Primary").set(Hang())
    handler, controller = make("Secondary"), baml_py.AbortController()
    asyncio.get_running_loop().call_later(0.3, controller.abort)

    with pytest.raises(Exception, match=r"[Aa]bort"):
        await asyncio.to_thread(
            protect(project, handler).Ask, "x", baml_options={"abort_controller": controller}
        )

    assert ErrorCategory.CANCELLED is handler.get_error_history()[0].category
    assert ["Primary"] == [line.client for line in simulator.requests]


async def test_an_abort_ends_the_wait_before_a_retry(
    project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """An abort during a backoff of ten minutes raises BAML's error, and the client is not asked again."""
    import baml_py  # noqa: PLC0415 - only tests that run BAML may load it

    simulator.client("Primary").set(Status(503))
    controller = baml_py.AbortController()
    handler = make(retry=RetryPolicy(initial_delay=600.0, max_delay=600.0, jitter=False))
    options = {"abort_controller": controller}
    call = asyncio.create_task(asyncio.to_thread(protect(project, handler).Ask, "x", baml_options=options))
    async with asyncio.timeout(240):
        while not handler.get_error_history():  # noqa: ASYNC110 - the handler's own list
            await asyncio.sleep(0.01)
        controller.abort()
        with pytest.raises(Exception, match=r"[Aa]bort"):
            await call

    assert 1 == simulator.client("Primary").asked


async def test_ctrl_c_ends_a_hanging_call(project: Any, simulator: ProviderSimulator, tmp_path: Path) -> None:
    """KeyboardInterrupt reaches the program while BAML waits for the provider, and the process ends."""
    simulator.client("Primary").set(Hang())
    program = """
        import os, signal, sys, threading
        from sync_project.baml_client.sync_client import b
        from resilience import BAMLErrorHandler, Settings, protect
        handler = BAMLErrorHandler(settings=Settings(store_url="memory://", privacy="off"))
        threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            protect(b, handler).Ask("x")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        handler.close()
    """
    done = await asyncio.to_thread(run, program, simulator, tmp_path)

    assert ("interrupted\n", 0) == (done.stdout, done.returncode), done.stderr


async def test_a_child_of_a_process_that_imported_the_client_is_refused(
    project: Any, simulator: ProviderSimulator, tmp_path: Path
) -> None:
    """A forked child gets ForkedRuntimeError before BAML is touched, and the parent goes on."""
    program = """
        import os, sys
        from sync_project.baml_client.sync_client import b
        from resilience import BAMLErrorHandler, ForkedRuntimeError, Settings, protect
        guarded = protect(b, BAMLErrorHandler(settings=Settings(store_url="memory://", privacy="off")))
        child = os.fork()
        if child == 0:
            try:
                guarded.Ask("x")
            except ForkedRuntimeError as refused:
                os._exit(7 if "worker_process_init" in str(refused) else 1)
            os._exit(2)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), bool(guarded.Ask("x")), flush=True)
    """
    done = await asyncio.to_thread(run, program, simulator, tmp_path)

    assert ("7 True\n", 0) == (done.stdout, done.returncode), done.stderr


async def test_a_child_that_imports_the_client_itself_answers(
    project: Any, simulator: ProviderSimulator, tmp_path: Path
) -> None:
    """Workers of a prefork pool that import baml_client themselves make blocking calls."""
    program = """
        import os, sys
        from resilience import BAMLErrorHandler, Settings, protect
        handler = BAMLErrorHandler(settings=Settings(store_url="memory://", privacy="off"))
        child = os.fork()
        if child == 0:
            from sync_project.baml_client.sync_client import b
            os._exit(7 if protect(b, handler).Ask("x") else 1)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    """
    done = await asyncio.to_thread(run, program, simulator, tmp_path)

    assert ("7\n", 0) == (done.stdout, done.returncode), done.stderr


def test_what_a_time_limit_left_is_an_attempt_timeout(make: Any) -> None:
    """Alone, the caller gets AttemptTimeoutError with the client and the limit."""
    go_on = threading.Event()
    with pytest.raises(AttemptTimeoutError, match=r"'A' did not answer within 0\.1 s"):
        make(retry=RetryPolicy(max_retries=0, attempt_timeout=0.1)).sync.call_with_retry(
            Fleet(A=[go_on.wait])("A"), "A", "F"
        )
    go_on.set()


def run(program: str, simulator: ProviderSimulator, folder: Path) -> subprocess.CompletedProcess[str]:
    return run_program(program, simulator.environment(), folder)
