"""Main functions of the processes in the tests of circuits; in a module of their own, so that starting one imports little."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from resilience.breaker import Breaker, BreakerPolicy, Outcome, open_store
from resilience.breaker.local import round_trips
from resilience.breaker.messages import Batch, StepReply, StepRequest
from resilience.breaker.stores import sqlite as sqlite_store
from resilience.breaker.stores.sqlite import SQLiteStore
from resilience.errors import CircuitOpenError

PATIENT = BreakerPolicy(min_calls=1_000_000, consecutive_failures=1_000_000)
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["resilience.breaker.stores.sqlite", "resilience.breaker"])


def fail(store: SQLiteStore, count: int = 1, policy: BreakerPolicy = PATIENT, epoch: int = 0) -> StepReply:
    return step_for(store, policy, batches=(Batch(epoch, ((Outcome.FAILURE, count),)),))


def patient(step: Callable[[], StepReply]) -> StepReply:
    """Repeat a step while the file is locked. A step that found it locked was not carried out."""
    while True:
        try:
            return step()
        except sqlite3.OperationalError:
            time.sleep(0.001)


def flap(path: Path, barrier: Any) -> None:
    policy = BreakerPolicy(
        consecutive_failures=1, open_for=0.01, open_max=0.01, probe_lease=0.05, open_jitter=0.0
    )
    store = SQLiteStore(path)
    barrier.wait()
    n = 0
    while True:
        n += 1
        token = f"{os.getpid():x}-{n}"
        reply = patient(lambda: step_for(store, policy, token=token))  # noqa: B023 - run before the next round
        batch = Batch(
            reply.epoch,
            ((Outcome.FAILURE if n % 2 else Outcome.SUCCESS, 1),),
            token if reply.granted else "",
            "timeout",
        )
        patient(lambda: step_for(store, policy, batches=(batch,)))  # noqa: B023 - run before the next round


def step_for(store: SQLiteStore, policy: BreakerPolicy, **request: Any) -> StepReply:
    (reply,) = store.step([StepRequest(client="A", policy=policy, **request)])
    assert isinstance(reply, StepReply)
    return reply


def probe_and_hang(path: Path, pipe: Connection) -> None:
    async def run() -> None:
        breaker = Breaker(
            SQLiteStore(path), BreakerPolicy(open_for=0.05, probe_lease=0.4, open_jitter=0.0), wait_budget=5.0
        )
        while True:
            try:
                permit = await breaker.admit("A")
            except CircuitOpenError:
                await asyncio.sleep(0.01)
                continue
            pipe.send(permit.probe)
            await asyncio.sleep(60)

    asyncio.run(run())


def first_call(path: Path, barrier: Any, pipe: Connection) -> None:
    async def run() -> str:
        breaker = Breaker(SQLiteStore(path), wait_budget=10.0)
        barrier.wait()
        try:
            breaker.settle(await breaker.admit("A"), Outcome.SUCCESS)
        except CircuitOpenError as refusal:
            return f"refused: {refusal.reason}"
        else:
            return "degraded" if breaker.degraded else "admitted"
        finally:
            breaker.close()

    pipe.send(asyncio.run(run()))


def report_failures(path: Path, results: int, barrier: Any, pipe: Connection) -> None:
    """Report failures through a breaker, each in a transaction of its own. Send how often the store was away."""
    # On a busy machine nothing counts as away merely because it takes long.
    vars(round_trips).update(SILENCE_SECONDS=600.0, SILENCE_MAX=600.0)
    vars(sqlite_store).update(_LOCK_TIMEOUT=600.0)

    async def run() -> str:
        breaker = Breaker(SQLiteStore(path), PATIENT, wait_budget=10.0)
        barrier.wait()
        degraded = 0
        for _ in range(results):
            breaker.settle(await breaker.admit("A"), Outcome.FAILURE)
            sent = await asyncio.to_thread(breaker.flush, 60.0)
            degraded += breaker.degraded or not sent
        breaker.close()
        return "shared" if not degraded else f"degraded at {degraded} of {results}"

    pipe.send(asyncio.run(run()))


def work_and_end(url: str, results: int) -> None:
    """Use a new breaker and end without closing it."""
    settle_some(Breaker(open_store(url), PATIENT, wait_budget=10.0), results)


def settle_some(breaker: Breaker, results: int) -> None:
    """Make *results* calls that succeed."""

    async def run() -> None:
        for _ in range(results):
            breaker.settle(await breaker.admit("A"), Outcome.SUCCESS)

    asyncio.run(run())
