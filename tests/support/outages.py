"""Faults of a Redis server, and a process that lives through one: for the tests of faults and for `benchmarks/faults.py`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from resilience.breaker import Breaker, BreakerPolicy, Operation, Outcome
from resilience.breaker.messages import Order, StepRequest
from resilience.breaker.stores.redis import open_redis
from resilience.clock import SystemClock
from resilience.errors import CircuitOpenError
from support.valkey_servers import Valkey

_TIMEOUT = 60.0
_FULL = ("--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024")


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a server, and its end.

    Attributes:
        strike: starts it.
        heal: ends it.
        noticed: whether a process must fall back to its own circuits meanwhile; None: it may.
        before: prepares the server.
    """

    strike: Callable[[Valkey], None]
    heal: Callable[[Valkey], None] = lambda _: None
    noticed: bool | None = True
    before: Callable[[Valkey], None] = lambda _: None


def config(name: str, value: str | int) -> Callable[[Valkey], None]:
    """Return a function that sets an option of the server."""

    def change(valkey: Valkey) -> None:
        with valkey.looking() as client:
            client.config_set(name, value)

    return change


def command(*words: str) -> Callable[[Valkey], None]:
    """Return a function that sends a command to the server."""

    def order(valkey: Valkey) -> None:
        with valkey.looking() as client:
            execute: Any = client.execute_command
            execute(*words)

    return order


def restart(valkey: Valkey) -> None:
    """Restart with what was saved, or empty."""
    valkey.kill()
    valkey.start()


def save(valkey: Valkey) -> None:
    """Save a closed circuit to disk."""
    store = valkey.store()
    store.step([StepRequest(client="Down", order=Order(operation=Operation.CLOSE, actor="ann"))])
    store.close()
    command("SAVE")(valkey)


def load(valkey: Valkey) -> None:
    """Restart with a file that takes long to load."""
    command("DEBUG", "POPULATE", "20000")(valkey)
    command("SAVE")(valkey)
    valkey.kill()
    valkey.start(*_FULL)


def ask_for_a_password(valkey: Valkey) -> None:
    """Require a password, of open connections too."""
    with valkey.looking() as client:
        client.config_set("requirepass", "secret")
        client.client_kill_filter(_type="normal", skipme=True)


def ask_no_more(valkey: Valkey) -> None:
    """Require no password any more."""
    client = valkey.client(password="secret")  # noqa: S106 - the password of a server that lives for seconds
    client.config_set("requirepass", "")
    client.close()


def keep_busy(valkey: Valkey) -> None:
    """Run a script that never ends."""
    config("busy-reply-threshold", 1)(valkey)
    threading.Thread(target=_spin, args=(valkey.client(),), daemon=True).start()


def _spin(client: Redis) -> None:
    with contextlib.suppress(RedisError):
        client.eval("while true do end", 0)
    client.close()


def let_nobody_in(valkey: Valkey) -> None:
    """Fill the server's connections with other clients."""
    others = [valkey.client() for _ in range(3)]
    command("CLIENT", "KILL", "TYPE", "normal")(valkey)
    config("maxclients", 2)(valkey)
    for other in others[:2]:
        other.ping()
    valkey.guests = others[:2]


def let_all_in(valkey: Valkey) -> None:
    """Free the server's connections again."""
    first, *rest = valkey.guests
    first.config_set("maxclients", 1000)
    for guest in (first, *rest):
        guest.close()


FAULTS = {
    "refused": Fault(Valkey.kill, Valkey.start),
    "hung (SIGSTOP)": Fault(Valkey.hang, Valkey.go_on),
    "paused (CLIENT PAUSE)": Fault(command("CLIENT", "PAUSE", "60000", "WRITE"), command("CLIENT", "UNPAUSE")),
    "restarted empty": Fault(restart, noticed=None),
    "restarted with an old copy": Fault(restart, noticed=None, before=save),
    "FLUSHALL": Fault(command("FLUSHALL"), noticed=False),
    "SCRIPT FLUSH": Fault(command("SCRIPT", "FLUSH"), noticed=False),
    "connections killed": Fault(command("CLIENT", "KILL", "TYPE", "normal"), noticed=None),
    "out of memory": Fault(config("maxmemory", 1), config("maxmemory", 0)),
    "READONLY (replica)": Fault(command("REPLICAOF", "127.0.0.1", "1"), command("REPLICAOF", "NO", "ONE")),
    "MASTERDOWN": Fault(
        lambda valkey: (config("replica-serve-stale-data", "no")(valkey), command("REPLICAOF", "127.0.0.1", "1")(valkey))[0],
        command("REPLICAOF", "NO", "ONE"),
    ),
    "NOREPLICAS": Fault(config("min-replicas-to-write", 1), config("min-replicas-to-write", 0)),
    "LOADING": Fault(load, config("key-load-delay", 0)),
    "NOAUTH": Fault(ask_for_a_password, ask_no_more),
    "NOPERM": Fault(command("ACL", "SETUSER", "default", "-evalsha"), command("ACL", "SETUSER", "default", "+evalsha")),
    "BUSY script": Fault(keep_busy, command("SCRIPT", "KILL")),
    "too many clients": Fault(let_nobody_in, let_all_in),
}  # fmt: skip

UP = BreakerPolicy(max_staleness=0.05)
DOWN = BreakerPolicy(max_staleness=0.05, open_for=600.0, open_max=600.0)


@dataclass(slots=True)
class Lived:
    """What callers experienced.

    Attributes:
        waits: seconds that each admit took after the fault began.
        errors: exceptions other than refusals of the client that is down.
        let_through: calls admitted to the client that is down.
        degraded: whether the process reported that its store was away.
        back_after: seconds from the end of the fault until it no longer did.
        restored: whether a new process knows that the client is down.
    """

    waits: list[float] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    let_through: int = 0
    degraded: bool = False
    back_after: float = 0.0
    restored: bool = False


class RunningTime:
    """A clock that goes on only while this process gets CPU time, so that a stall of the machine is no wait of a caller.

    A thread ticks every 10 ms. A process that is starved or stopped misses ticks, and the time it missed is not counted.
    A caller that waits for another thread does not stop the ticks.
    """

    _TICK = 0.01

    def __init__(self) -> None:
        self._seconds = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Callable[[], float]:
        """Start the clock and return its reading in seconds."""
        self._thread.start()
        return lambda: self._seconds

    def __exit__(self, *_: object) -> None:
        """Stop the clock."""
        self._ended.set()
        self._thread.join()

    def _tick(self) -> None:
        while not self._ended.wait(self._TICK):
            self._seconds += self._TICK


class RunningClock(SystemClock):
    """The clock of a breaker by `RunningTime`: a stall of the machine is no silence of a store.

    Args:
        seconds: the reading of a `RunningTime`.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds

    def monotonic(self) -> float:
        """Return the seconds in which this process ran."""
        return self._seconds()


async def live_through(
    valkey: Valkey, fault: Fault, options: str = "", clock: Callable[[], float] = time.perf_counter
) -> Lived:
    """Call a client that is up and one that is down while the fault comes and goes.

    Args:
        valkey: the server.
        fault: the fault.
        options: options of the URL, after the question mark.
        clock: measures the callers' waits, in seconds.
    """
    lived = Lived()
    breaker = Breaker(open_redis(valkey.url + options), UP, policies={"Down": DOWN})
    try:
        await asyncio.to_thread(fault.before, valkey)
        for _ in range(5):
            breaker.settle(await breaker.admit("Down"), Outcome.FAILURE, reason="timeout")
        breaker.settle(await breaker.admit("Up"), Outcome.SUCCESS)
        await asyncio.to_thread(breaker.flush, _TIMEOUT)
        await asyncio.to_thread(fault.strike, valkey)
        callers = [asyncio.create_task(_call(breaker, lived, clock)) for _ in range(8)]
        await _until(lambda: breaker.degraded, _TIMEOUT if fault.noticed else 0.5)
        lived.degraded = breaker.degraded
        await asyncio.sleep(0.3)
        await asyncio.to_thread(fault.heal, valkey)
        healed = time.monotonic()
        await _until(lambda: not breaker.degraded, _TIMEOUT)
        lived.back_after = time.monotonic() - healed
        lived.restored = await _knows(valkey)
        for task in callers:
            task.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        lived.degraded = lived.degraded and not breaker.degraded
    finally:
        await asyncio.to_thread(breaker.close)
    return lived


async def _call(breaker: Breaker, lived: Lived, clock: Callable[[], float]) -> None:
    while True:
        for client in ("Up", "Down"):
            began = clock()
            try:
                permit = await breaker.admit(client)
            except CircuitOpenError as refusal:
                if client == "Up":
                    lived.errors.append(refusal)
            except Exception as exc:  # noqa: BLE001 - any exception is a finding
                lived.errors.append(exc)
            else:
                lived.let_through += client == "Down"
                breaker.settle(permit, Outcome.SUCCESS)
            lived.waits.append(clock() - began)
        await asyncio.sleep(0.005)


async def _knows(valkey: Valkey) -> bool:
    """Return whether a new process refuses the client that is down. Processes that remember it restore it within seconds."""
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        other = Breaker(open_redis(valkey.url), policies={"Down": DOWN}, wait_budget=5.0)
        try:
            await other.admit("Down")
        except CircuitOpenError:
            return True
        finally:
            await asyncio.to_thread(other.close)
        await asyncio.sleep(0.02)
    return False


async def _until(happened: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:  # noqa: ASYNC110 - the thread sets no event
        await asyncio.sleep(0.01)
