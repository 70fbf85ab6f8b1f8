"""The id of the current request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor

import pytest

from resilience.request_id import current_request_id, request_id, request_id_of, set_request_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def test_a_request_has_its_id_within_the_block() -> None:
    """Inside the block the id is the given one, afterwards the previous one."""
    with request_id("outer"):
        with request_id("order-7.a_b") as given:
            assert ("order-7.a_b", "order-7.a_b") == (given, current_request_id())
        assert current_request_id() == "outer"
    assert current_request_id() is None


@pytest.mark.parametrize(
    "value", [None, "", "x" * 65, "a b", "a\nb", "naïve", "a@b.c", 7, f"00-{'0' * 32}-00f067aa0ba902b7-01"]
)
def test_what_may_not_enter_a_log_is_replaced(value: str | None) -> None:
    """A missing, long or invalid id is replaced by a new one of 32 hex digits."""
    with request_id(value) as first, request_id(value) as second:
        assert re.fullmatch("[0-9a-f]{32}", first)
        assert first != second


def test_a_traceparent_stands_for_its_trace() -> None:
    """Of a W3C traceparent the trace id is used, so that rows can be joined with traces."""
    with request_id(TRACEPARENT) as given:
        assert given == TRACE


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Request-ID": "abc"}, "abc"),
        ({"x-request-id": "abc", "traceparent": TRACEPARENT}, "abc"),
        ({"X-REQUEST-ID": "a b", "Traceparent": TRACEPARENT}, TRACE),
        ({"X-Request-ID": "a b"}, None),
        ({}, None),
    ],
)
def test_headers_bring_an_id(headers: dict[str, str], expected: str | None) -> None:
    """`X-Request-ID` takes precedence over `traceparent`, in any case of letters; an invalid value is ignored."""
    assert expected == request_id_of(headers)


async def test_tasks_have_their_own_and_threads_of_to_thread_inherit() -> None:
    """A task's id is its own; `asyncio.to_thread` inherits it, a bare executor does not."""

    async def serve(name: str) -> tuple[str | None, str | None]:
        set_request_id(name)
        await asyncio.sleep(0)
        return current_request_id(), await asyncio.to_thread(current_request_id)

    assert [("a", "a"), ("b", "b")] == list(await asyncio.gather(serve("a"), serve("b")))
    assert current_request_id() is None
    with request_id("here"), ThreadPoolExecutor(1) as executor:
        assert executor.submit(current_request_id).result() is None


async def test_a_generator_closed_by_another_task_does_not_fail() -> None:
    """A block in an asynchronous generator can be left in another context than it was entered in."""

    async def lines() -> AsyncGenerator[str | None, None]:
        with request_id("stream"):
            yield current_request_id()
            yield None

    stream = lines()
    assert await anext(stream) == "stream"
    await asyncio.create_task(stream.aclose())
