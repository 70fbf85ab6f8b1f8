"""A Redis behind a slow line is not away: its circuits are shared, its probes are exact, and no process flaps."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import pytest
from support.delay_proxy import DelayProxy
from support.outages import RunningClock, RunningTime
from support.valkey_servers import Valkey

from resilience.breaker import Breaker, BreakerPolicy, CircuitState, Outcome, Permit
from resilience.breaker.messages import Batch, StepReply, StepRequest
from resilience.breaker.stores.redis import RedisStore, open_redis
from resilience.errors import CircuitOpenError

ROUND_TRIPS: Final = (0.03, 0.06, 0.1, 0.2)
DOWN: Final = BreakerPolicy(open_for=600.0, open_max=600.0)
PROBES: Final = (1, 3, 10)
_TIMEOUT: Final = 120.0


@pytest.fixture
def clock() -> Iterator[RunningClock]:
    with RunningTime() as seconds:
        yield RunningClock(seconds)


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with Valkey(tcp=True) as running:
        yield running


@pytest.fixture
def store(valkey: Valkey) -> Iterator[RedisStore]:
    """The store of another process, which is near the server."""
    made = valkey.store()
    yield made
    made.close()


def step(store: RedisStore, client: str, policy: BreakerPolicy, failures: int = 0) -> StepReply:
    batches = (Batch(0, ((Outcome.FAILURE, failures),), "", "timeout"),) if failures else ()
    (reply,) = store.step([StepRequest(client=client, policy=policy, batches=batches)])
    assert isinstance(reply, StepReply), reply
    return reply


async def admit(breaker: Breaker, client: str) -> Permit | None:
    """Return a permit; None if the client is refused."""
    try:
        return await breaker.admit(client)
    except CircuitOpenError:
        return None


async def test_circuits_are_shared(
    valkey: Valkey, store: RedisStore, clock: RunningClock, caplog: pytest.LogCaptureFixture
) -> None:
    """At round trips of 30 to 200 ms no call goes to a client that the fleet knows to be down, nor to one that fails later."""
    caplog.set_level(logging.INFO, "resilience")
    step(store, "Down", DOWN, failures=5)

    async def live(round_trip: float) -> tuple[str, int]:
        later, seen = f"Later {round_trip}", Counter[str]()
        with DelayProxy(valkey.port, round_trip) as link:
            breaker = Breaker(open_redis(f"redis://127.0.0.1:{link.port}"), clock=clock)
            async with asyncio.timeout(_TIMEOUT):
                permit = await admit(breaker, later)
                step(store, later, DOWN, failures=5)
                while permit is not None:  # replies bring the news, although no call waits for them so long
                    breaker.settle(permit, Outcome.SUCCESS)
                    seen["let through"] += await admit(breaker, "Down") is not None
                    seen["Up refused"] += await admit(breaker, "Up") is None
                    seen["degraded"] += breaker.degraded
                    await asyncio.sleep(0.01)
                    permit = await admit(breaker, later)
            await asyncio.to_thread(breaker.close)
        return str(+seen), link.connections

    lived = await asyncio.gather(*map(live, ROUND_TRIPS))

    assert lived == [("Counter()", 1)] * len(ROUND_TRIPS)
    assert [text for text in caplog.messages if "is away" in text] == []


async def test_probes_are_exactly_as_many_as_allowed(
    valkey: Valkey, store: RedisStore, clock: RunningClock
) -> None:
    """At round trips of 30 to 200 ms twelve callers of three processes get 1, 3 or 10 probes, and these close the circuit."""

    async def probe(round_trip: float) -> list[tuple[int, CircuitState]]:
        policies = {f"{n} over {round_trip}": probing(n) for n in PROBES}
        for client, policy in policies.items():
            step(store, client, policy, failures=5)
        with DelayProxy(valkey.port, round_trip) as link:
            url = f"redis://127.0.0.1:{link.port}"
            fleet = [Breaker(open_redis(url), policies=policies, clock=clock) for _ in range(3)]
            counts = await asyncio.gather(*(probes(fleet, client, policies[client]) for client in policies))
            await asyncio.gather(*(asyncio.to_thread(breaker.flush, _TIMEOUT) for breaker in fleet))
            await asyncio.gather(*(asyncio.to_thread(breaker.close) for breaker in fleet))
        return [
            (n, step(store, client, policies[client]).state)
            for n, client in zip(counts, policies, strict=True)
        ]

    async with asyncio.timeout(_TIMEOUT):
        found = await asyncio.gather(*map(probe, ROUND_TRIPS))

    assert found == [[(n, CircuitState.CLOSED) for n in PROBES]] * len(ROUND_TRIPS)


def probing(allowed: int) -> BreakerPolicy:
    """A circuit whose opening is over at once, and whose leases outlive the test."""
    return BreakerPolicy(
        open_for=0.01,
        open_max=0.01,
        probe_lease=600.0,
        half_open_probes=allowed,
        successes_to_close=allowed,
    )


async def probes(fleet: Sequence[Breaker], client: str, policy: BreakerPolicy) -> int:
    """Let four callers of each process ask until enough have a probe, and once more. Return the probes, which then succeed."""
    found: list[tuple[Breaker, Permit]] = []
    asked = [breaker for breaker in fleet for _ in range(4)]
    enough = False
    while not enough:
        enough = len(found) >= policy.half_open_probes
        permits = await asyncio.gather(*(admit(breaker, client) for breaker in asked))
        found += [
            (breaker, permit) for breaker, permit in zip(asked, permits, strict=True) if permit is not None
        ]
        await asyncio.sleep(0.01)
    for breaker, permit in found:
        breaker.settle(permit, Outcome.SUCCESS)
    return sum(permit.probe for _, permit in found)
