"""The faults of the soak, and their order by a seed. Each fault ends by itself, and leaves the fleet able to go on."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from resilience.history.schema.sqlite_driver import module as sqlite3
from support.soak_fleet import Fleet

Fault = Callable[[Fleet, random.Random], None]


def provider_down(fleet: Fleet, chance: random.Random) -> None:
    """Let the primary client fail in one way."""
    fleet.provider.mode = chance.choice(("503", "500", "429", "reset", "hang"))
    time.sleep(chance.uniform(0.5, 2.0))
    fleet.provider.mode = "ok"


def history_locked(fleet: Fleet, chance: random.Random) -> None:
    """Hold the write lock of the history, or of a table of it."""
    seconds = chance.uniform(0.3, 3.0)
    if fleet.postgres is not None:
        fleet.postgres.hang_up(fleet.database_url)
        return
    _hold(fleet.database_url, seconds)


def history_away(fleet: Fleet, chance: random.Random) -> None:
    """Take the database away for a moment: no connections, or a folder in its place."""
    if fleet.postgres is None:
        _hold(fleet.database_url, chance.uniform(0.1, 0.5))
        return
    fleet.postgres.shut(fleet.database_url)
    time.sleep(chance.uniform(0.2, 1.5))
    fleet.postgres.open(fleet.database_url)


def circuits_away(fleet: Fleet, chance: random.Random) -> None:
    """Stop, restart or empty Redis; lock the file of the circuits."""
    seconds = chance.uniform(0.2, 2.0)
    if fleet.valkey is None:
        _hold(fleet.store_url, seconds)
        return
    match chance.choice(("hang", "restart", "flush")):
        case "hang":
            fleet.valkey.hang()
            time.sleep(seconds)
            fleet.valkey.go_on()
        case "restart":
            fleet.valkey.kill()
            time.sleep(seconds)
            fleet.valkey.start()
        case _:
            with fleet.valkey.looking() as client:
                client.flushall()


def killed(fleet: Fleet, chance: random.Random) -> None:
    """Kill an agent, and start another one."""
    fleet.kill(chance.choice(fleet.living))
    fleet.start()


def terminated(fleet: Fleet, chance: random.Random) -> None:
    """End an agent as a deploy does, and start another one."""
    chance.choice(fleet.living).process.send_signal(signal.SIGTERM)
    fleet.start()


def stopped(fleet: Fleet, chance: random.Random) -> None:
    """Stop an agent for a while."""
    agent = chance.choice(fleet.living)
    agent.process.send_signal(signal.SIGSTOP)
    time.sleep(chance.uniform(0.3, 2.0))
    agent.process.send_signal(signal.SIGCONT)


def forked(fleet: Fleet, chance: random.Random) -> None:
    """Let an agent fork a child that makes calls."""
    chance.choice(fleet.living).process.send_signal(signal.SIGUSR1)


def starved(fleet: Fleet, chance: random.Random) -> None:
    """Keep the processors busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    time.sleep(chance.uniform(0.5, 2.0))
    for other in others:
        other.kill()
        other.wait()


FAULTS: tuple[Fault, ...] = (
    *(provider_down, provider_down, history_locked, history_away, circuits_away),
    *(killed, terminated, stopped, forked, starved),
)


def schedule(fleet: Fleet, seed: int, seconds: float) -> Iterator[str]:
    """Make faults for *seconds*, and yield the name of each. The seed decides which, and with which values."""
    chance, ends = random.Random(seed), time.monotonic() + seconds  # noqa: S311 - a repeatable order
    while time.monotonic() < ends:
        time.sleep(chance.uniform(0.1, 0.8))
        fault = chance.choice(FAULTS)
        fault(fleet, chance)
        yield fault.__name__


def _hold(url: str, seconds: float) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        other.execute("ROLLBACK")
