"""What the processes of the tests of circuits in Redis do."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from typing import Any

from resilience.breaker import Breaker, BreakerPolicy, Outcome
from resilience.breaker.messages import Batch, StepReply, StepRequest
from resilience.breaker.stores.redis import RedisStore, open_redis
from resilience.errors import CircuitOpenError

PATIENT = BreakerPolicy(min_calls=1_000_000, consecutive_failures=1_000_000)
NERVOUS = BreakerPolicy(
    consecutive_failures=1, open_for=0.01, open_max=0.01, probe_lease=0.05, open_jitter=0.0
)
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["resilience.breaker.stores.redis"])


def turn(store: RedisStore, policy: BreakerPolicy, **asked: Any) -> StepReply:
    """One step of client A."""
    (reply,) = store.step([StepRequest(client="A", policy=policy, **asked)])
    assert isinstance(reply, StepReply), reply
    return reply


def hammer(url: str, turns: int, barrier: Any) -> None:
    """Tell failures, one a step."""
    store = open_redis(url)
    barrier.wait()
    for _ in range(turns):
        turn(store, PATIENT, batches=(Batch(0, ((Outcome.FAILURE, 1),)),))
    store.close()


def flap(url: str, barrier: Any) -> None:
    """Make a circuit open, half-open and close as fast as it will, until killed."""
    store, n = open_redis(url), 0
    barrier.wait()
    while True:
        n += 1
        token = f"{os.getpid():x}-{n}"
        reply = turn(store, NERVOUS, token=token)
        outcome = Outcome.FAILURE if n % 2 else Outcome.SUCCESS
        batch = Batch(reply.epoch, ((outcome, 1),), token if reply.granted else "", "timeout")
        turn(store, NERVOUS, batches=(batch,))


def probe_and_hang(url: str, policy: BreakerPolicy, pipe: Connection) -> None:
    """Get the probe, say so, and never report it."""

    async def run() -> None:
        breaker = Breaker(open_redis(url), policy, wait_budget=5.0)
        while True:
            try:
                permit = await breaker.admit("A")
            except CircuitOpenError:
                await asyncio.sleep(0.01)
                continue
            pipe.send(permit.probe)
            await asyncio.sleep(60)

    asyncio.run(run())


def fail_with_a_clock_off(url: str, seconds: float) -> None:
    """Trip the circuit, in a process whose clocks are wrong by so much."""
    wall, monotonic = time.time, time.monotonic
    time.time = lambda: wall() + seconds
    time.monotonic = lambda: monotonic() + seconds
    breaker = Breaker(open_redis(url), wait_budget=10.0)

    async def run() -> None:
        for _ in range(5):
            breaker.settle(await breaker.admit("A"), Outcome.FAILURE, reason="timeout")

    asyncio.run(run())
    breaker.flush(10.0)
    breaker.close()


def first_call(url: str, pipe: Connection) -> None:
    """Say what a new process's first call meets."""

    async def run() -> str:
        breaker = Breaker(open_redis(url), wait_budget=10.0)
        try:
            await breaker.admit("A")
        except CircuitOpenError as refusal:
            return f"refused: {refusal.reason}"
        else:
            return "degraded" if breaker.degraded else "admitted"
        finally:
            breaker.close()

    pipe.send(asyncio.run(run()))
