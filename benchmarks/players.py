"""The processes of the fleet's benchmark: each guards one dependency and notes every call that was let through.

Instants are of `time.monotonic`, which on Linux is one clock for all processes of a machine; so notes can be compared.
"""

from __future__ import annotations

import asyncio
import logging
import math
import multiprocessing
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Final, NamedTuple, Self

from benchmarks import guards
from benchmarks.guards import Down, Guard, Rules

PAUSE: Final = 0.005
"""Seconds after which a refused task asks again."""
_READY_WITHIN: Final = 60.0
_OPEN_WITHIN: Final = 30.0
"""Seconds within which the prober's failures must have opened its circuit, on a busy machine too."""
_LONG: Final = 600.0


class Call(NamedTuple):
    """One call that was let through to the dependency."""

    process: int
    began: float
    ended: float
    answered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """What the processes do.

    Attributes:
        guard: by what the dependency is guarded.
        rules: its settings.
        tasks: callers in each process, each calling again as soon as it may.
        latency: seconds the dependency takes, give or take a tenth.
        seconds: how long callers begin new calls.
        back_after: seconds after which the dependency answers; before, every call fails.
        fails_after: seconds after which it fails at all; before, every call is answered.
        pause: seconds that a task waits after each of its calls. The tasks of a process call together, the processes in turn.
        until_after: seconds after which a process ends with its next call; None: it continues.
    """

    guard: str
    rules: Rules
    tasks: int = 4
    latency: float = 0.05
    seconds: float = 1.0
    back_after: float = _LONG
    fails_after: float = 0.0
    pause: float = 0.0
    until_after: float | None = None


class Fleet:
    """Processes that play, each at the end of a pipe."""

    def __init__(self, processes: int) -> None:
        # A fresh interpreter that has imported us is forked: starting is cheap, and no thread or connection is inherited.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["benchmarks.players"])
        self.pipes: list[Connection] = []
        self._processes = []
        for number in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=run, args=(number, theirs), daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process, pipe in zip(self._processes, self.pipes, strict=True):
            process.kill()
            process.join()
            pipe.close()

    def prepare(self, play: Play, clocks_off: Sequence[float] = ()) -> None:
        """Have everybody connect, and wait until all have."""
        for number, pipe in enumerate(self.pipes):
            off = clocks_off[number % len(clocks_off)] if clocks_off else 0.0
            pipe.send(replace(play, rules=replace(play.rules, clock_off=off)))
        for pipe in self.pipes:
            receive(pipe)

    def begin(self) -> float:
        """Let those who are prepared begin together; gives the instant."""
        at = time.monotonic() + 0.05
        for pipe in self.pipes:
            pipe.send(at)
        return at

    def calls(self) -> list[Call]:
        """Wait for the end of the play. Return the admitted calls in order of their start."""
        return sorted((call for pipe in self.pipes for call in receive(pipe)), key=lambda call: call.began)

    def play(self, play: Play, clocks_off: Sequence[float] = ()) -> list[Call]:
        """Prepare, begin, and give the calls."""
        self.prepare(play, clocks_off)
        self.begin()
        return self.calls()


def receive(pipe: Connection) -> Any:
    """Return what a process sends. Raise an error if it sends nothing."""
    if not pipe.poll(_READY_WITHIN):
        msg = f"a process of the benchmark said nothing for {_READY_WITHIN:g} s"
        raise TimeoutError(msg)
    return pipe.recv()


def run(number: int, pipe: Connection) -> None:
    """Run a process: play until the pipe ends."""
    logging.disable(logging.CRITICAL)
    while True:
        try:
            play: Play = pipe.recv()
        except EOFError:
            return
        pipe.send(asyncio.run(_play(number, play, pipe)))


async def _play(number: int, play: Play, pipe: Connection) -> list[Call]:
    _wrong_wall_clock(play.rules.clock_off)
    guard = guards.make(play.guard, play.rules)
    await guard.warm()
    pipe.send("ready")
    begin = await asyncio.to_thread(pipe.recv)
    await asyncio.sleep(begin - time.monotonic())
    calls = await _perform(number, play, begin, guard)
    await guard.close()
    return calls


async def _perform(number: int, play: Play, begin: float, guard: Guard) -> list[Call]:
    stage = _Stage(number, play, begin)
    await asyncio.sleep(play.pause * max(0, number) / 8)
    await asyncio.gather(*(_caller(guard, stage, play.pause) for _ in range(play.tasks)))
    return stage.calls


_right_time = time.time


def _wrong_wall_clock(seconds: float) -> None:
    """Set this process's wall clock wrong by a number of seconds."""
    time.time = _right_time if not seconds else lambda: _right_time() + seconds


class _Stage:
    """The dependency, as one process sees it."""

    def __init__(self, number: int, play: Play, begin: float) -> None:
        self._number = number
        self._latency = play.latency
        self._back = begin + play.back_after
        self._fails = begin + play.fails_after
        self._end = begin + play.seconds
        self._enough = math.inf if play.until_after is None else begin + play.until_after
        self.calls: list[Call] = []
        self._random = random.Random(number)  # noqa: S311 - no secret; the same latencies in each run

    def over(self) -> bool:
        """Return whether no more calls may begin."""
        return time.monotonic() >= self._end or any(call.began > self._enough for call in self.calls)

    async def dependency(self) -> None:
        """Take a while, then answer or not."""
        began = time.monotonic()
        await asyncio.sleep(self._latency * self._random.uniform(0.9, 1.1))
        ended = time.monotonic()
        answered = ended >= self._back or ended < self._fails
        self.calls.append(Call(self._number, began, ended, answered))
        if not answered:
            raise Down


async def _caller(guard: Guard, stage: _Stage, pause: float) -> None:
    while not stage.over():
        try:
            await guard.call(stage.dependency)
        except Down:
            pass
        except guard.refusals:
            await asyncio.sleep(pause or PAUSE)
            continue
        if pause:
            await asyncio.sleep(pause)


# -- the prober that does not come back -----------------------------------------------------------------------------------------


def start_prober(play: Play) -> tuple[Any, Connection]:
    """Run a process that opens the circuit, waits, gets the probe, says when, and hangs in it, while its other tasks play."""
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=probe, args=(play, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def probe(play: Play, pipe: Connection) -> None:
    """Run the prober: it cancels its probe when told to, says when, and then what its other tasks did."""
    logging.disable(logging.CRITICAL)
    asyncio.run(_probe(play, pipe))


async def _probe(play: Play, pipe: Connection) -> None:
    _wrong_wall_clock(play.rules.clock_off)
    guard = guards.make(play.guard, play.rules)
    await guard.warm()
    await open_circuit(guard)
    task = asyncio.ensure_future(_hang_in_probe(guard, pipe))
    begin = await asyncio.to_thread(pipe.recv)
    others = asyncio.ensure_future(_perform(-1, play, begin, guard))
    await asyncio.to_thread(pipe.recv)
    task.cancel()
    pipe.send(time.monotonic())
    await asyncio.wait((task,))
    pipe.send(await others)
    await guard.close()


async def open_circuit(guard: Guard) -> None:
    """Fail until a call is refused.

    The refusal must be waited for: a store may open the circuit long before a busy process hears of it. A call of this process that
    is admitted before that is no probe and holds no lease.

    Raises:
        TimeoutError: no call was refused.
    """

    async def fail() -> None:
        raise Down

    async with asyncio.timeout(_OPEN_WITHIN):
        while True:
            try:
                await guard.call(fail)
            except Down:
                await asyncio.sleep(0.001)
            except guard.refusals:
                return


async def _hang_in_probe(guard: Guard, pipe: Connection) -> None:
    asked = 0.0

    async def hang() -> None:
        # When this process asked, not when it heard: the store grants the lease in between, and on a busy machine that is long.
        pipe.send(asked)
        await asyncio.sleep(_LONG)

    while True:
        asked = time.monotonic()
        try:
            await guard.call(hang)
        except guard.refusals:
            await asyncio.sleep(PAUSE)
