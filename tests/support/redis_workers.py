"""Main functions of the processes in the tests of circuits in Redis."""

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


def take_step(store: RedisStore, policy: BreakerPolicy, **fields: Any) -> StepReply:
    """Make one step with the circuit of client A."""
    (reply,) = store.step([StepRequest(client="A", policy=policy, **fields)])
    assert isinstance(reply, StepReply), reply
    return reply


def hammer(url: str, steps: int, barrier: Any) -> None:
    """Report failures, one a step."""
    store = open_redis(url)
    barrier.wait()
    for _ in range(steps):
        take_step(store, PATIENT, batches=(Batch(0, ((Outcome.FAILURE, 1),)),))
    store.close()


def flap(url: str, barrier: Any) -> None:
    """Open, half-open and close a circuit as fast as possible, until killed."""
    store, n = open_redis(url), 0
    barrier.wait()
    while True:
        n += 1
        token = f"{os.getpid():x}-{n}"
        reply = take_step(store, NERVOUS, token=token)
        outcome = Outcome.FAILURE if n % 2 else Outcome.SUCCESS
        batch = Batch(reply.epoch, ((outcome, 1),), token if reply.granted else "", "timeout")
        take_step(store, NERVOUS, batches=(batch,))


def probe_and_hang(url: str, policy: BreakerPolicy, pipe: Connection) -> None:
    """Acquire the probe, report that to the test, and never settle it."""

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
    """Open the circuit, in a process whose clocks are wrong by *seconds*."""
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
    """Send the result of a new process's first call."""

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
