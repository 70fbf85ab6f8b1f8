"""Bugs of other layers for LLM calls: each test names the report that it would reproduce.

Bugs that other tests cover are not repeated: billing, `x-should-retry` and stated waits that are too long (test_decision),
hangs and deadlines, killed and cancelled probes, stores that are away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from resilience import (
    AllClientsFailedError,
    BAMLErrorHandler,
    BreakerPolicy,
    CircuitState,
    ErrorCategory,
    FallbackPolicy,
    RetryPolicy,
    Settings,
)
from resilience.failure import RetryMode
from resilience.testing import ManualClock

STUBBORN = RetryPolicy(
    jitter=False, max_retries=1, retry_modes={ErrorCategory.SERVICE_UNAVAILABLE: RetryMode.ALWAYS}
)


class Refusal(Exception):  # noqa: N818 - as an SDK raises it
    """An error with a status and a stated wait, as SDKs raise it."""

    def __init__(self, status: int, wait: float | None = None, body: Any = None) -> None:
        super().__init__(str(status))
        self.status_code = status
        self.body = body
        self.headers = {} if wait is None else {"retry-after": str(wait)}


class Clients:
    """Clients that follow a script and then answer with their name."""

    def __init__(self, **scripts: list[Exception]) -> None:
        self.scripts = scripts
        self.asked = ""

    def __call__(self, client: str) -> Callable[[], Coroutine[Any, Any, str]]:
        async def ask() -> str:
            self.asked += client
            if self.scripts.get(client):
                raise self.scripts[client].pop(0)
            return client

        return ask


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def make(clock: ManualClock, tmp_path: Path) -> AsyncIterator[Callable[..., BAMLErrorHandler]]:
    handlers: list[BAMLErrorHandler] = []

    def build(*backups: str, **policies: Any) -> BAMLErrorHandler:
        policies.setdefault("retry", RetryPolicy(jitter=False))
        policies.setdefault("breaker", BreakerPolicy(open_jitter=0.0, max_staleness=0.0))
        settings = Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db")
        handlers.append(
            BAMLErrorHandler(
                settings=settings,
                clock=clock,
                random=lambda: 0.5,
                fallback=FallbackPolicy(clients=backups),
                **policies,
            )
        )
        return handlers[-1]

    yield build
    for handler in handlers:
        await handler.aclose()


async def test_the_latest_stated_wait_counts(make: Any, clock: ManualClock) -> None:
    """BerriAI/litellm#20722: each answer's own Retry-After is waited for, not the first one's."""
    clients = Clients(A=[Refusal(429, 2), Refusal(429, 9)])

    assert await make().call_with_fallback(clients, "F", "A") == ("A", "A")
    assert sum(clock.sleeps) >= 11


async def test_a_wait_that_is_over_is_not_reported(make: Any) -> None:
    """The error's `retry_after` is the latest of each client, since earlier waits have been slept out."""
    clients = Clients(A=[Refusal(503, 2), Refusal(503, 30)], B=[Refusal(401)])

    with pytest.raises(AllClientsFailedError) as caught:
        await make("B", retry=STUBBORN).call_with_fallback(clients, "F", "A")
    assert clients.asked == "AAB"
    assert caught.value.retry_after == 30


async def test_when_all_are_in_cooldown_the_error_says_how_long(make: Any) -> None:
    """BerriAI/litellm#27823: when every client is in its cool-down, the error has the shortest wait as a number."""
    clients = Clients(A=[Refusal(429, 300)], B=[Refusal(429, 200)])
    handler = make("B")
    for _ in range(2):
        with pytest.raises(AllClientsFailedError) as caught:
            await handler.call_with_fallback(clients, "F", "A")
        assert caught.value.retry_after == pytest.approx(200, abs=2)
    assert clients.asked == "AB"


async def test_a_backup_has_a_cooldown_too(make: Any) -> None:
    """BerriAI/litellm#34416, superagent#1145: a burst that a 429 moves to the backup ends when the backup answers 429 too."""
    clients = Clients(A=[Refusal(429, 60)], B=[Refusal(429, 60)])
    handler = make("B", "C")

    assert ["C"] * 3 == [(await handler.call_with_fallback(clients, "F", "A"))[1] for _ in range(3)]
    assert clients.asked == "ABCCC"


async def test_an_unpaid_bill_costs_one_request(make: Any, clock: ManualClock) -> None:
    """BerriAI/litellm#32785, langchainjs#1929: insufficient_quota is not asked again, in this call or the next."""
    clients = Clients(A=[Refusal(429, body={"code": "insufficient_quota"}) for _ in range(9)])
    handler = make("B")

    assert ["B"] * 3 == [(await handler.call_with_fallback(clients, "F", "A"))[1] for _ in range(3)]
    assert clients.asked == "ABBB"
    assert [] == clock.sleeps


async def test_earlier_successes_do_not_delay_the_trip(make: Any) -> None:
    """LiteLLM opened after n + 1 failures when n calls had succeeded before; ours opens after five in any case."""
    clients = Clients()
    handler = make("B", retry=RetryPolicy(max_retries=0))
    for _ in range(100):
        await handler.call_with_fallback(clients, "F", "A")
    clients.scripts["A"] = [Refusal(503) for _ in range(9)]
    for _ in range(7):
        assert await handler.call_with_fallback(clients, "F", "A") == ("B", "B")

    assert clients.asked == "A" * 100 + "AB" * 5 + "BB"
    assert handler.circuits["A"].state is CircuitState.OPEN


async def test_a_probe_that_was_the_callers_mistake_blocks_nothing(make: Any, clock: ManualClock) -> None:
    """bytedance/deer-flow#3991: a probe that ends in a 400 says nothing about the client; the next call probes and closes."""
    clients = Clients(A=[*(Refusal(503) for _ in range(5)), Refusal(400)])
    handler = make(retry=RetryPolicy(max_retries=0))
    for _ in range(5):
        with pytest.raises(Refusal):
            await handler.call_with_fallback(clients, "F", "A")
    await _until(lambda: handler.circuits["A"].state is CircuitState.OPEN)
    clock.advance(31)
    with pytest.raises(Refusal, match="400"):
        await handler.call_with_fallback(clients, "F", "A")

    assert await handler.call_with_fallback(clients, "F", "A") == ("A", "A")
    assert len(clients.asked) == 7


async def test_waiting_for_a_cool_down_takes_no_attempt_away(make: Any) -> None:
    """The wait of a 429 ends shortly before the circuit's cool-down; four attempts are still made."""
    clients = Clients(A=[Refusal(429, 2) for _ in range(9)])

    with pytest.raises(Refusal):
        await make().call_with_fallback(clients, "F", "A")
    assert clients.asked == "AAAA"


async def _until(true: Callable[[], bool]) -> None:
    """Wait for another thread."""
    async with asyncio.timeout(240):
        while not true():  # noqa: ASYNC110 - another thread makes it true
            await asyncio.sleep(0.005)
