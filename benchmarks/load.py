"""What the shared breaker asks of a Redis: commands a second under a fleet's load, and the steps that one core can make."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import statistics
import threading
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisError

from benchmarks import guards
from benchmarks.guards import ENDLESS, Rules
from benchmarks.players import receive
from resilience.breaker import BreakerPolicy, Outcome
from resilience.breaker.messages import Batch, StepRequest
from resilience.breaker.stores.redis import open_redis

LATENCY: Final = 0.2
_PIPELINE: Final = 50
_PIPELINES: Final = 4
_ROUNDS: Final = 50
_SETTLING: Final = 1.0
"""Seconds before anything is counted: connections, first reads, and the pace that adapts."""

Laps = dict[str, float]


async def _work() -> None:
    await asyncio.sleep(LATENCY)


async def _calls(guard: guards.Guard | None, rate: float, begin: float, end: float) -> tuple[int, float, int]:
    """Make calls at this rate, evenly spread. Return their number, the CPU seconds of this thread, and how many raised."""
    made, tasks, raised = 0, set[asyncio.Task[None]](), list[BaseException]()

    def done(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if (error := task.exception()) is not None:
            raised.append(error)

    await asyncio.sleep(begin - time.monotonic())
    started = time.thread_time()
    while (now := time.monotonic()) < end:
        due = int((now - begin) * rate) - made
        for _ in range(due):
            task = asyncio.ensure_future(_work() if guard is None else guard.call(_work))
            tasks.add(task)
            task.add_done_callback(done)
        made += due
        await asyncio.sleep(0.005)
    used = time.thread_time() - started
    await asyncio.gather(*tasks, return_exceptions=True)
    return made, used, len(raised)


def member(name: str, rules: Rules, rate: float, seconds: float, pipe: Connection) -> None:
    """Run a process: the same load without the guard first, then with it."""
    pipe.send(asyncio.run(_member(name, rules, rate, seconds, pipe)))


async def _member(name: str, rules: Rules, rate: float, seconds: float, pipe: Connection) -> dict[str, float]:
    guard = guards.make(name, rules)
    await guard.warm()
    pipe.send("ready")
    begin = await asyncio.to_thread(pipe.recv)
    bare, bare_cpu, _ = await _calls(None, rate, begin, begin + seconds)
    begin = await asyncio.to_thread(pipe.recv)
    whole = time.process_time()
    made, cpu, errors = await _calls(guard, rate, begin, begin + _SETTLING + seconds)
    whole = time.process_time() - whole
    await guard.close()
    return {
        "calls": made,
        "errors": errors,
        "cpu_us": 1e6 * cpu / made,
        "bare_us": 1e6 * bare_cpu / max(1, bare),
        "process_us": 1e6 * whole / made,
    }


def commands(client: Redis) -> dict[str, int]:
    """Return the calls of each command so far, those inside scripts included."""
    reported: dict[str, Any] = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(each["calls"]) for name, each in reported.items()}


def fleet_load(name: str, rules: Rules, *, processes: int, rate: float, seconds: float) -> Laps:
    """Commands a second that *processes* at *rate* calls a second each send, and the event loop's CPU a call beyond a bare one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.load"])
    pipes, members = [], []
    for _ in range(processes):
        ours, theirs = context.Pipe()
        members.append(
            context.Process(
                target=member,
                args=(name, replace(rules, failures=ENDLESS), rate, seconds, theirs),
                daemon=True,
            )
        )
        members[-1].start()
        pipes.append(ours)
    for pipe in pipes:
        receive(pipe)
    _begin(pipes)
    time.sleep(seconds + 2 * LATENCY)
    begin = _begin(pipes)
    time.sleep(max(0.0, begin + _SETTLING - time.monotonic()))
    with Redis.from_url(rules.url) as client:
        before, at = commands(client), time.monotonic()
        time.sleep(seconds - 0.2)
        after, took = commands(client), time.monotonic() - at
    reported = [receive(pipe) for pipe in pipes]
    for each in members:
        each.join()
    sent = {key: (count - before.get(key, 0)) / took for key, count in after.items() if key != "info"}
    return {
        "calls_per_s": round(sum(each["calls"] for each in reported) / (seconds + _SETTLING)),
        "errors": sum(each["errors"] for each in reported),
        "requests_per_s": round(_requests(name, sent), 1),
        "commands_per_s": round(sum(sent.values()), 1),
        "loop_us_per_call": round(
            statistics.median(each["cpu_us"] - each["bare_us"] for each in reported), 1
        ),
        "process_us_per_call": round(statistics.median(each["process_us"] for each in reported), 1),
        "bare_loop_us_per_call": round(statistics.median(each["bare_us"] for each in reported), 1),
    }


def _requests(name: str, sent: dict[str, float]) -> float:
    """Return what clients sent, without the commands that a script made inside the server."""
    scripts = sent.get("evalsha", 0.0) + sent.get("eval", 0.0)
    return (
        scripts
        if name == guards.OURS
        else scripts
        + sum(sent.get(each, 0.0) for each in ("get", "set", "incr", "hgetall", "watch", "multi", "exec"))
    )


def _begin(pipes: list[Connection]) -> float:
    at = time.monotonic() + 0.05
    for pipe in pipes:
        pipe.send(at)
    return at


def steps_per_second(url: str) -> dict[str, float]:
    """Return the steps that one core of the server makes, the best of some rounds: other load on the machine only slows it."""
    policy = BreakerPolicy(min_calls=ENDLESS, consecutive_failures=ENDLESS)
    batch = (Batch(0, ((Outcome.SUCCESS, 12), (Outcome.FAILURE, 1), (Outcome.SUCCESS, 30))),)
    kinds = {
        "telling": StepRequest(client="bench-steps", policy=policy, batches=batch),
        "peeking": StepRequest(client="bench-steps", policy=policy),
    }
    return {kind: round(max(_steps(url, request) for _ in range(_ROUNDS))) for kind, request in kinds.items()}


def _steps(url: str, request: StepRequest) -> float:
    """Return the steps that were made over the CPU they took, both by the server's own count; two threads keep it busy."""

    def send() -> None:
        store = open_redis(url)
        for _ in range(_PIPELINES):
            with contextlib.suppress(RedisError):  # a busy machine may be slower than the store is patient
                store.step([request] * _PIPELINE)
        store.close()

    with Redis.from_url(url) as client:
        threads = [threading.Thread(target=send) for _ in range(2)]
        made, used = commands(client).get("evalsha", 0), _busy(client)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (commands(client)["evalsha"] - made) / (_busy(client) - used)


def _busy(client: Redis) -> float:
    """Seconds of CPU the server's main thread has used."""
    reported: dict[str, Any] = client.info("cpu")
    return float(reported["used_cpu_user_main_thread"]) + float(reported["used_cpu_sys_main_thread"])
