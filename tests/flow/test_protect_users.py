"""protect() and the handler in use: any argument names, positional options, copies, mocks, threads."""

from __future__ import annotations

import asyncio
import copy
import pickle
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock, create_autospec, patch

import pytest

from resilience import BAMLErrorHandler, BAMLWrapper, RetryPolicy, Settings, protect
from resilience.errors import ConfigurationError
from resilience.testing import ScriptedBAML

pytestmark = pytest.mark.baml


class Generated:
    """A client shaped like a generated one: options may be positional, and arguments may have any name."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Mapping[str, Any]]] = []

    async def Explain(self, function_name: str, func: int = 0, baml_options: Mapping[str, Any] = {}) -> Any:  # noqa: N802 - as BAML generates it
        self.asked.append((func, baml_options))
        return function_name

    async def Choose(  # noqa: N802 - as above
        self, client_name: str, preferred_client: str, args: str, label: str, *, baml_options: Any = None
    ) -> str:
        return f"{client_name}{preferred_client}{args}{label}"

    def with_options(self, tb: Any = None, client: str | None = None, tags: Any = None) -> Generated:
        return self


@pytest.fixture
async def handler(tmp_path: Path) -> AsyncIterator[BAMLErrorHandler]:
    settings = Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db")
    made = BAMLErrorHandler(settings=settings, retry=RetryPolicy(initial_delay=0.0, max_delay=0.0))
    yield made
    await made.aclose()


async def test_arguments_may_have_the_names_of_our_own(handler: BAMLErrorHandler) -> None:
    """A BAML function with an argument `function_name`, `func` or `args` is called with it."""
    guarded = protect(Generated(), handler)

    assert await guarded.Explain(function_name="f", func=3) == "f"
    assert await guarded.Choose(client_name="a", preferred_client="b", args="c", label="d") == "abcd"


async def test_options_may_be_positional(handler: BAMLErrorHandler) -> None:
    """`baml_options` as the last positional argument, and the options of `with_options`, as the signatures allow."""
    b = Generated()
    guarded = protect(b, handler)
    await guarded.Explain("f", 1, {"tags": {"a": "b"}})
    await guarded.with_options(None, None, {"c": "d"}).Explain("f", 2)

    assert [(1, {"a": "b"}), (2, {"c": "d"})] == [(func, options["tags"]) for func, options in b.asked]
    with pytest.raises(TypeError, match="tag"):
        guarded.with_options(tag="e")  # type: ignore[call-arg] # the mistake is the test
    with pytest.raises(TypeError):
        await guarded.Explain("f", 1, {}, 4)  # type: ignore[call-arg] # as above


@pytest.mark.parametrize("used_before", [False, True])
async def test_functions_that_a_test_replaces_are_asked_while_they_are_replaced(
    handler: BAMLErrorHandler,
    used_before: bool,  # noqa: FBT001 - a case
) -> None:
    """A patch of the client or of its class reaches the guarded client, and is gone with its end."""

    async def fake(self: Generated, function_name: str, **_: Any) -> str:
        return "fake"

    b = Generated()
    guarded = protect(b, handler)
    kept = guarded.Explain
    if used_before:
        await guarded.Explain("real")
    with patch.object(b, "Explain", AsyncMock(return_value="instance")) as mock:
        assert await guarded.Explain("x") == await kept("x") == "instance"
        mock.assert_awaited_with("x")
    with patch.object(Generated, "Explain", fake):
        assert await guarded.Explain("x") == await kept("x") == "fake"
    assert await guarded.Explain("real") == await kept("real") == "real"


async def test_a_registry_of_none_is_no_registry(handler: BAMLErrorHandler) -> None:
    """`client_registry=None` leaves the choice of the client to BAML, and the circuit takes part."""
    b = Generated()
    await protect(b, handler).Explain("f", baml_options={"client_registry": None})

    (options,) = (options for _, options in b.asked)
    assert options["client_registry"] is None
    assert "Explain" in handler.circuits


async def test_a_guarded_client_can_be_copied(handler: BAMLErrorHandler) -> None:
    """copy.copy() of a guarded client is guarded by the same handler."""
    copied = copy.copy(protect(Generated(), handler))

    assert await copied.Explain("f") == "f"
    assert "Explain" in handler.circuits


def test_a_wrapper_takes_the_handler_of_a_guarded_client(handler: BAMLErrorHandler) -> None:
    """BAMLWrapper(protect(b, handler)) uses that handler, unless another is given."""
    other = BAMLErrorHandler()

    assert BAMLWrapper(protect(Generated(), handler)).error_handler is handler
    assert BAMLWrapper(protect(Generated(), handler), error_handler=other).error_handler is other


async def test_mocks_are_functions_too(handler: BAMLErrorHandler) -> None:
    """An AsyncMock answers every name; its failure is classified and raised unchanged."""
    failure = ConnectionError("refused")
    asked = AsyncMock(side_effect=[failure, 42])

    assert await handler.call_with_retry(asked, "A", "F") == 42
    with pytest.raises(ConnectionError) as caught:
        await handler.call_with_retry(AsyncMock(side_effect=failure), "A", "F")
    assert caught.value is failure
    assert {"network"} == {record.category for record in handler.get_error_history()}


@pytest.mark.parametrize("name", [None, "", 3])
async def test_a_client_needs_a_name(handler: BAMLErrorHandler, name: Any) -> None:
    """A call without a client name, perhaps the result of a failed look-up, is an error that says so."""
    with pytest.raises(ConfigurationError, match=r"F names the client"):
        await handler.call_with_fallback(lambda _: AsyncMock(), "F", name)


class SdkError(Exception):
    """An error of a provider's SDK, as mocks raise it."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"Error code: {status}")
        self.status_code = status
        self.headers = headers


@pytest.mark.parametrize(
    ("raised", "category", "status"),
    [
        (SdkError(503), "service_unavailable", 503),
        (SdkError(401), "authentication", 401),
        (ExceptionGroup("both", [ValueError("x"), SdkError(503)]), "service_unavailable", 503),
    ],
)
async def test_the_error_of_a_double_is_read_as_an_sdks(
    raised: Exception, category: str, status: int
) -> None:
    """A mock of a BAML client that raises what an SDK raises: its status is a real one, not one that BAML made up for a refused connection."""
    settings = Settings(store_url="memory://", privacy="off")
    async with BAMLErrorHandler(settings=settings, retry=RetryPolicy(max_retries=0)) as one:
        with pytest.raises(type(raised)):
            await protect(ScriptedBAML(Ask=[raised]), one).Ask()
        (record,) = one.get_error_history()

    assert (category, status) == (record.category.value, record.status)


async def test_groups_and_interrupts_are_raised_unchanged(handler: BAMLErrorHandler) -> None:
    """An ExceptionGroup is classified by its most telling member; a BaseException is raised at once and counts for nothing."""
    group = ExceptionGroup("both", [ConnectionError("a"), ValueError("b")])
    asked = AsyncMock(side_effect=group)
    with pytest.raises(ExceptionGroup) as caught:
        await handler.call_with_retry(asked, "A", "F")
    assert caught.value is group
    assert asked.await_count == 4

    stop = BaseExceptionGroup("stop", [KeyboardInterrupt()])
    stopped = AsyncMock(side_effect=stop)
    with pytest.raises(BaseExceptionGroup) as interrupted:
        await handler.call_with_retry(stopped, "B", "F")
    assert interrupted.value is stop
    assert stopped.await_count == 1
    assert [] == handler.get_error_history(client="B")


async def test_a_failing_sibling_ends_a_call(handler: BAMLErrorHandler) -> None:
    """In a TaskGroup a call is cancelled by its sibling's failure, and the circuit counts nothing."""
    began = asyncio.Event()

    async def hang() -> None:
        began.set()
        await asyncio.Event().wait()

    async def fail() -> None:
        await began.wait()
        raise LookupError

    async def family() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(handler.call_with_retry(hang, "A", "F"))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        await family()
    assert caught.value.subgroup(LookupError) is not None
    assert [] == handler.get_error_history()


async def test_guarded_calls_may_nest_and_be_many(handler: BAMLErrorHandler) -> None:
    """A guarded function may call guarded functions, a thousand at once."""

    async def answer() -> int:
        await asyncio.sleep(0)
        return 1

    async def many() -> int:
        calls = (handler.call_with_retry(answer, "inner", "F") for _ in range(1000))
        return sum(await asyncio.gather(*calls))

    assert await handler.call_with_retry(many, "outer", "F") == 1000


async def test_a_call_outlives_the_closing_of_its_handler(handler: BAMLErrorHandler) -> None:
    """aclose() during a call does not affect it: its own error is raised."""
    began, go = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        began.set()
        await go.wait()
        raise LookupError

    call = asyncio.create_task(handler.call_with_retry(slow, "A", "F"))
    await began.wait()
    await handler.aclose()
    go.set()

    with pytest.raises(LookupError):
        await call


def test_a_handler_serves_several_loops(handler: BAMLErrorHandler) -> None:
    """One handler in several threads with a loop each, and in loops one after the other."""

    async def answer() -> int:
        return 1

    async def calls() -> int:
        return sum([await handler.call_with_retry(answer, "A", "F") for _ in range(20)])

    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(asyncio.run(calls()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [20] * 4 == answers
    assert asyncio.run(calls()) == 20


def test_threads_that_open_a_handler_at_once_enter_once(tmp_path: Path) -> None:
    """Eight threads make the first use of a handler together, and one aclose() releases its runtime: nothing stays open."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(40):
            settings = Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/{number}.db")
            handler, barrier = BAMLErrorHandler(settings=settings), threading.Barrier(8)

            def use(handler: BAMLErrorHandler = handler, barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                assert handler.circuits == {}

            threads = [threading.Thread(target=use) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            opened = handler._open()
            asyncio.run(handler.aclose())
            assert handler._open() is not opened
            asyncio.run(handler.aclose())
    finally:
        sys.setswitchinterval(interval)


def test_a_guarded_client_is_not_pickled(handler: BAMLErrorHandler) -> None:
    """It belongs to this process. The error says what to do instead, and copies and mocks with its spec are still made."""
    guarded = protect(Generated(), handler)

    with pytest.raises(TypeError, match=r"call protect\(b\) in the other process"):
        pickle.dumps(guarded)
    assert isinstance(copy.copy(guarded), Generated)
    for double in (create_autospec(guarded), Mock(spec=guarded)):
        assert asyncio.iscoroutinefunction(double.Explain)
        with pytest.raises(AttributeError):
            double.NoSuch  # noqa: B018 - reading it is the test
