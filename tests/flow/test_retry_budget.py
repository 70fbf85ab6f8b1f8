"""The fleet's retry budget during calls: what an outage costs, which calls may retry, and what the record says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from support.circuit_bench import Agent

from resilience import BAMLErrorHandler, BreakerPolicy, FallbackPolicy, RetryPolicy, Settings
from resilience.breaker.stores.memory import MemoryStore
from resilience.errors import AllClientsFailedError
from resilience.execution.async_driver import call_async, run_async
from resilience.execution.call import Call
from resilience.execution.context import CallContext, CallServices, Policies
from resilience.history import Action
from resilience.testing import ManualClock

PATIENT: dict[str, Any] = {"min_calls": 1_000_000, "consecutive_failures": 1_000_000, "open_jitter": 0.0}
QUICK = RetryPolicy(initial_delay=0.001, jitter=False)


class DownError(Exception):
    """The error of a client that is down."""

    def __init__(self, status: int = 500, **headers: str) -> None:
        super().__init__(f"status {status}")
        self.status_code = status
        found = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = type("Response", (), {"status_code": status, "headers": found, "text": ""})()


class Provider:
    """Clients that are down for a number of attempts each, and count them."""

    def __init__(self, error: Callable[[], Exception] = DownError, **down: int) -> None:
        self.error = error
        self.down = down
        self.asked: dict[str, int] = {}

    def __call__(self, client: str) -> Any:
        async def ask() -> str:
            self.asked[client] = self.asked.get(client, 0) + 1
            if self.asked[client] <= self.down.get(client, 1_000_000):
                raise self.error()
            return client

        return ask


class Process:
    """One process of a fleet that shares a store; its sync thread runs whenever a sync is due."""

    def __init__(self, store: MemoryStore, clock: ManualClock, **breaker: Any) -> None:
        policy = BreakerPolicy(**{**PATIENT, **breaker})
        self.agent = Agent(store, clock, policy=policy)
        self.services = CallServices(self.agent.breaker, clock, lambda: 0.5, lambda _: None)
        self.policies = Policies(QUICK, FallbackPolicy(), policy)

    async def call(self, provider: Provider) -> bool:
        call = Call(CallContext(self.services, self.policies, "F", "A", provider))
        try:
            await self.agent.drive(run_async(call, (), {}))
        except DownError:
            return False
        return True


async def outage(processes: int, calls: int, clock: ManualClock, **breaker: Any) -> float:
    """Return the attempts per call in a total outage of the only client, at 100 calls a second spread over the processes."""
    store, provider = MemoryStore(clock=clock), Provider()
    fleet = [Process(store, clock, **breaker) for _ in range(processes)]
    for number in range(calls):
        assert await fleet[number % processes].call(provider) is False
        clock.advance(0.01)
        for process in fleet:
            process.agent.turn_if_due()
    return provider.asked["A"] / calls


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def make(clock: ManualClock, tmp_path: Any) -> AsyncIterator[Callable[..., BAMLErrorHandler]]:
    handlers: list[BAMLErrorHandler] = []

    def build(**policies: Any) -> BAMLErrorHandler:
        policies.setdefault("retry", QUICK)
        policies.setdefault("breaker", BreakerPolicy(**PATIENT))
        policies.setdefault("fallback", FallbackPolicy())
        settings = Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db")
        handlers.append(BAMLErrorHandler(settings=settings, clock=clock, random=lambda: 0.5, **policies))
        return handlers[-1]

    yield build
    for handler in handlers:
        await handler.aclose()


@pytest.mark.parametrize(("processes", "calls"), [(1, 202), (1, 1000), (3, 250), (8, 600)])
async def test_a_total_outage_costs_a_fifth_more_than_its_first_tries(
    processes: int, calls: int, clock: ManualClock
) -> None:
    """Without an open circuit and with three retries allowed: at most 1.2 attempts a call, over the fleet."""
    assert 1.0 < await outage(processes, calls, clock) <= 1.2


async def test_without_a_budget_it_costs_four_times_as_much(clock: ManualClock) -> None:
    """`retry_ratio=None` makes every retry that the RetryPolicy allows."""
    assert await outage(2, 50, clock, retry_ratio=None) == 4.0


async def test_a_fleet_with_little_traffic_may_retry_every_call(clock: ManualClock) -> None:
    """At one call a minute, each call of a four-hour outage gets its three retries, in whichever process it is made."""
    store, provider = MemoryStore(clock=clock), Provider()
    fleet = [Process(store, clock) for _ in range(4)]
    for minute in range(240):
        await fleet[minute % 4].call(provider)
        clock.advance(60.0)

    assert provider.asked["A"] == 4 * 240


async def test_a_short_fault_is_retried_in_full(clock: ManualClock) -> None:
    """Twenty calls that fail once in a healthy fleet all succeed at their second attempt."""
    store = MemoryStore(clock=clock)
    one = Process(store, clock)
    for number in range(20):
        provider = Provider(A=1)
        assert await one.call(provider) is True, number


async def test_a_denied_retry_says_so_in_the_record(make: Any) -> None:
    """The last error is raised unchanged, and its record says `budget`; the retried ones before it say nothing."""
    provider, handler = Provider(), make(breaker=BreakerPolicy(**PATIENT, retry_burst=2, retry_floor=0))
    with pytest.raises(DownError):
        await handler.call_with_retry(provider("A"), "A", "F")

    assert provider.asked["A"] <= 3
    newest, *older = handler.get_error_history()
    assert (newest.action, newest.denied, newest.backoff) == (Action.RAISE, "budget", None)
    assert {(record.action, record.denied) for record in older} == {(Action.RETRY, None)}


async def test_a_denied_retry_falls_back(make: Any) -> None:
    """Another client is asked instead; the record says fallback and why."""
    provider = Provider(B=0)
    breaker = BreakerPolicy(**PATIENT, retry_ratio=0.0, retry_burst=1, retry_floor=0)
    handler = make(fallback=FallbackPolicy(clients=("B",)), breaker=breaker)
    for _ in range(3):
        assert await handler.call_with_fallback(provider, "F", "A") == ("B", "B")

    assert provider.asked == {"A": 4, "B": 3}
    assert [record.denied for record in handler.get_error_history()] == ["budget", "budget", None, None]
    assert {record.action for record in handler.get_error_history() if record.denied} == {Action.FALLBACK}


async def test_each_client_has_its_own_budget(make: Any) -> None:
    """Retries of one client do not use up the budget of another."""
    breaker = BreakerPolicy(**PATIENT, retry_ratio=0.0, retry_burst=1, retry_floor=0)
    provider, handler = Provider(), make(fallback=FallbackPolicy(clients=("B",)), breaker=breaker)
    for _ in range(2):
        with pytest.raises(AllClientsFailedError):
            await handler.call_with_fallback(provider, "F", "A")

    assert provider.asked == {"A": 3, "B": 3}


@pytest.mark.parametrize(
    ("error", "retry", "denied"),
    [
        (DownError, RetryPolicy(deadline=10.0, initial_delay=20.0, jitter=False), "deadline"),
        (lambda: DownError(429, retry_after="90"), QUICK, "retry_after"),
        (lambda: DownError(400), QUICK, None),
        (DownError, RetryPolicy(max_retries=0), None),
    ],
)
async def test_other_reasons_are_recorded_too(make: Any, error: Any, retry: Any, denied: str) -> None:
    """The record names a wait beyond the deadline and one beyond max_retry_after, and nothing where no retry was due."""
    handler = make(retry=retry)
    with pytest.raises(DownError):
        await handler.call_with_retry(Provider(error)("A"), "A", "F")

    assert [denied] == [record.denied for record in handler.get_error_history()]


async def test_waiting_for_a_cool_down_is_no_retry(make: Any, clock: ManualClock) -> None:
    """A call that is refused, waits and then asks for the first time uses no retry of the budget."""
    breaker = BreakerPolicy(**PATIENT, retry_ratio=0.0, retry_burst=1, retry_floor=0)
    provider = Provider(lambda: DownError(429, retry_after="2"), A=1)
    handler = make(breaker=breaker, retry=RetryPolicy(max_retries=0))
    with pytest.raises(DownError):
        await handler.call_with_retry(provider("A"), "A", "F")
    patient = make(breaker=breaker, retry=RetryPolicy(max_retries=3, jitter=False))

    assert await patient.call_with_retry(provider("A"), "A", "F") == "A"
    assert clock.sleeps != []
    assert patient._open().breaker.may_retry("A") is True


async def test_what_has_no_circuit_has_no_budget(make: Any) -> None:
    """Calls with the caller's own client registry are retried by the RetryPolicy alone: their clients are not the fleet's."""
    provider, handler = Provider(), make(breaker=BreakerPolicy(**PATIENT, retry_burst=1, retry_floor=0))
    for _ in range(10):
        call = handler.prepare_call(provider, "F", "own", allow_fallback=False, unguarded="own")
        with pytest.raises(DownError):
            await call_async(call, (), {})

    assert provider.asked["own"] == 40
