"""A client that refuses every request as wrong, beside an idle backup: behaviour corrects the words of its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from resilience import BAMLErrorHandler, FallbackPolicy, Settings
from resilience.testing import ManualClock

REFUSAL = "The request was not accepted (code E-1734)"  # a text from which no rule can tell that the client is to blame


class RefusedError(Exception):
    """A 4xx as SDKs raise it."""

    def __init__(self, status: int = 400, body: Any = None) -> None:
        super().__init__(REFUSAL)
        self.status_code, self.body = status, body


class Provider:
    """Two clients: A refuses what *refuses* says, B answers always."""

    def __init__(self, refuses: Callable[[str], Exception | None]) -> None:
        self.refuses = refuses
        self.asked: list[str] = []

    def __call__(self, client: str) -> Callable[[str], Any]:
        async def ask(text: str) -> str:
            self.asked.append(client)
            error = self.refuses(text) if client == "A" else None
            if error is not None:
                raise error
            return client

        return ask


@pytest.fixture
async def handler(tmp_path: Any) -> AsyncIterator[BAMLErrorHandler]:
    settings = Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db")
    fallback = FallbackPolicy(clients=("B",))
    async with BAMLErrorHandler(settings=settings, fallback=fallback, clock=ManualClock()) as made:
        yield made


async def lost(handler: BAMLErrorHandler, provider: Provider, calls: list[tuple[str, str]]) -> int:
    """Make *calls*, each a function and its argument, one after the other. Return how many failed."""
    failed = 0
    for function, text in calls:
        try:
            await handler.call_with_fallback(provider, function, "A", text)
        except RefusedError:
            failed += 1
    return failed


async def test_a_degraded_client_loses_four_of_200_calls(handler: BAMLErrorHandler) -> None:
    """From the fifth refusal in a row on, calls fall back; the record says why, and the circuit stays closed."""
    provider = Provider(lambda _: RefusedError())

    assert await lost(handler, provider, [("F", f"text {n}") for n in range(200)]) == 4
    assert provider.asked.count("A") == 200
    latest = handler.get_error_history()[0]
    assert latest.detail == {"corrected": "by behaviour: the client refuses every request"}
    assert latest.category.value == "invalid_request"
    assert handler.circuits["A"].state == "closed"


async def test_calls_in_flight_together_count_too(handler: BAMLErrorHandler) -> None:
    """Of 200 calls at once, those whose refusal comes fifth or later fall back."""
    provider = Provider(lambda _: RefusedError())
    calls = (handler.call_with_fallback(provider, "F", "A", f"text {n}") for n in range(200))
    results = await asyncio.gather(*calls, return_exceptions=True)

    assert sum(isinstance(result, RefusedError) for result in results) == 4


async def test_one_wrong_request_is_raised_however_often(handler: BAMLErrorHandler) -> None:
    """One function with two different requests proves nothing about the client."""
    provider = Provider(lambda _: RefusedError())

    assert await lost(handler, provider, [("F", f"text {n % 2}") for n in range(20)]) == 20


async def test_two_functions_are_different_requests(handler: BAMLErrorHandler) -> None:
    """Two functions show it with the same argument, too."""
    provider = Provider(lambda _: RefusedError(422))

    assert await lost(handler, provider, [(f"F{n % 2}", "text") for n in range(20)]) == 4


async def test_a_broken_function_takes_no_other_with_it(handler: BAMLErrorHandler) -> None:
    """While another function is answered, the refusals of a broken one are its own fault, and the other stays on its client."""
    provider = Provider(lambda text: RefusedError() if text.startswith("bad") else None)
    calls = [(name, f"{kind} {n}") for n in range(30) for name, kind in (("Bad", "bad"), ("Good", "good"))]

    assert await lost(handler, provider, calls) == 30
    assert "B" not in provider.asked


async def test_a_code_that_names_a_field_never_counts(handler: BAMLErrorHandler) -> None:
    """The provider has read the request and found its fault: no other client is asked."""
    body = {"error": {"message": "no such parameter", "code": "unknown_parameter"}}
    provider = Provider(lambda _: RefusedError(400, body))

    assert await lost(handler, provider, [(f"F{n}", f"text {n}") for n in range(20)]) == 20


async def test_a_success_starts_the_row_again(handler: BAMLErrorHandler) -> None:
    """After one success it takes five refusals again."""
    provider = Provider(lambda text: None if text == "good" else RefusedError())
    refused = [("F", f"text {n}") for n in range(6)]

    assert await lost(handler, provider, refused) == 4
    assert await lost(handler, provider, [("F", "good"), *refused]) == 4
