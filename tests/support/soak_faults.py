"""The faults of the soak, and their order by a seed. Each fault ends by itself, and leaves the fleet able to go on."""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from resilience import admin
from resilience.breaker import Operation
from resilience.errors import StoreError
from resilience.history.schema.sqlite_driver import module as sqlite3
from support.soak_fleet import Fleet, Happened
from support.valkey_servers import Valkey

Fault = Callable[[Fleet, random.Random], None]
AGENTS = 3
"""Agents between two faults."""
_TRIES = 20


def provider_down(fleet: Fleet, chance: random.Random) -> None:
    """Let the primary client fail in one way."""
    fleet.provider.mode = chance.choice(("503", "500", "429", "reset", "hang"))
    time.sleep(chance.uniform(0.5, 2.0))
    fleet.provider.mode = "ok"


def history_locked(fleet: Fleet, chance: random.Random) -> None:
    """Hold the write lock of the history, or of a table of it; or end its connections."""
    seconds = chance.uniform(0.3, 3.0)
    if fleet.postgres is None:
        _hold(fleet.database_url, seconds)
    elif chance.random() < 0.5:
        fleet.postgres.hang_up(fleet.database_url)
    else:
        fleet.postgres.lock(fleet.database_url, "resilience.calls", seconds)


def history_away(fleet: Fleet, chance: random.Random) -> None:
    """Take the history away for a moment: a database without connections, or another folder in the place of that of the file."""
    if fleet.postgres is None:
        moved = fleet.folder / f"data.{len(fleet.removed)}"
        fleet.removed.append(fleet.data.rename(moved))
        time.sleep(chance.uniform(0.0, 1.0))
        fleet.data.mkdir(exist_ok=True)  # an agent may have made it again
        return
    fleet.postgres.shut(fleet.database_url)
    time.sleep(chance.uniform(0.2, 1.5))
    fleet.postgres.open(fleet.database_url)


def circuits_away(fleet: Fleet, chance: random.Random) -> None:
    """Stop, restart, empty or fill Redis, or end its connections; lock or remove the file of the circuits."""
    seconds = chance.uniform(0.2, 2.0)
    if fleet.valkey is not None:
        _redis_away(
            fleet.valkey, chance.choice(("hang", "restart", "flush", "full", "hang up", "scripts")), seconds
        )
    elif chance.random() < 0.5:
        _hold(fleet.store_url, seconds)
    else:
        for path in (fleet.folder / "circuits").iterdir():
            path.unlink(missing_ok=True)


def _redis_away(valkey: Valkey, how: str, seconds: float) -> None:
    if how == "hang":
        valkey.hang()
        time.sleep(seconds)
        valkey.go_on()
        return
    if how == "restart":
        valkey.kill()
        time.sleep(seconds)
        valkey.start()
        return
    with valkey.looking() as client:
        match how:
            case "flush":
                client.flushall()
            case "hang up":
                client.client_kill_filter(_type="normal")
            case "scripts":
                client.script_flush()
            case _:
                client.config_set("maxmemory", 1)
                time.sleep(seconds)
                client.config_set("maxmemory", 0)


def disk_full(fleet: Fleet, chance: random.Random) -> None:
    """Let one agent, or each, have no room in any file, or for some bytes more alone. Sometimes one is killed meanwhile.

    The kernel refuses what goes beyond RLIMIT_FSIZE, and writes what fits, as it does on a full disk.
    """
    agents = fleet.serving if chance.random() < 0.5 else [chance.choice(fleet.serving)]
    live = fleet.logs / "operations.jsonl"
    bytes_left = chance.randint(0, 2000)
    limit = live.stat().st_size + bytes_left if chance.random() < 0.5 and live.exists() else 0
    try:
        for agent in agents:
            _limit_files(agent.process.pid, limit)
        time.sleep(chance.uniform(0.3, 2.0))
        if chance.random() < 0.3:
            fleet.kill(chance.choice(agents))
            fleet.start()
    finally:
        for agent in agents:
            _limit_files(agent.process.pid, resource.RLIM_INFINITY)


def disk_read_only(fleet: Fleet, chance: random.Random) -> None:
    """Make the log folder, and the folders of the files of history and circuits, read-only; start an agent meanwhile."""
    folders = [fleet.logs, *([] if fleet.postgres else [fleet.data]), fleet.folder / "circuits"]
    with _read_only([folder for folder in folders if folder.exists()]):
        fleet.start()
        time.sleep(chance.uniform(0.5, 3.0))
    chance.choice(fleet.serving).terminate()


def logs_removed(fleet: Fleet, _: random.Random) -> None:
    """Remove the live log files."""
    for path in fleet.logs.glob("*.jsonl"):
        path.unlink(missing_ok=True)


def ordered(fleet: Fleet, chance: random.Random) -> None:
    """Hold the circuit of the primary client open by an order; start an agent meanwhile."""
    _order(fleet, Operation.OPEN)
    began = time.time()
    fleet.start()
    time.sleep(chance.uniform(2.0, 4.0))
    fleet.orders.append((began, time.time()))
    _order(fleet, Operation.RESET)


def killed(fleet: Fleet, chance: random.Random) -> None:
    """Kill an agent, and start another one."""
    fleet.kill(chance.choice(fleet.serving))
    fleet.start()


def terminated(fleet: Fleet, chance: random.Random) -> None:
    """End an agent as a deploy does, and start another one."""
    chance.choice(fleet.serving).terminate()
    fleet.start()


def stopped(fleet: Fleet, chance: random.Random) -> None:
    """Stop an agent for a while."""
    agent = chance.choice(fleet.serving)
    agent.process.send_signal(signal.SIGSTOP)
    time.sleep(chance.uniform(0.3, 2.0))
    agent.process.send_signal(signal.SIGCONT)


def forked(fleet: Fleet, chance: random.Random) -> None:
    """Let an agent fork a child that makes calls."""
    chance.choice(fleet.serving).process.send_signal(signal.SIGUSR1)


def starved(fleet: Fleet, chance: random.Random) -> None:
    """Keep the processors busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        time.sleep(chance.uniform(0.5, 2.0))
    finally:
        for other in others:
            other.kill()
            other.wait()


FAULTS: tuple[Fault, ...] = (
    *(provider_down, provider_down, provider_down, ordered),
    *(history_locked, history_away, circuits_away, circuits_away),
    *(disk_full, disk_full, disk_read_only, logs_removed),
    *(killed, killed, terminated, stopped, forked, starved),
)


def schedule(fleet: Fleet, seed: int, seconds: float) -> Iterator[str]:
    """Make faults for *seconds*, and yield the name of each. The seed decides which, and with which values."""
    chance, ends = random.Random(seed), time.monotonic() + seconds  # noqa: S311 - a repeatable order
    while time.monotonic() < ends:
        time.sleep(chance.uniform(0.1, 0.8))
        fault = chance.choice(FAULTS)
        began = time.time()
        fault(fleet, chance)
        fleet.happened.append(Happened(fault.__name__, began, time.time()))
        _limit_agents(fleet)
        yield fault.__name__


def _limit_agents(fleet: Fleet) -> None:
    """End agents beyond the usual number as a deploy does: some faults start one more."""
    for agent in fleet.serving[:-AGENTS]:
        agent.terminate()


def _limit_files(pid: int, size: int) -> None:
    with suppress(ProcessLookupError):  # it has ended
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@contextmanager
def _read_only(folders: list[Path]) -> Iterator[None]:
    modes: dict[Path, int] = {}
    try:
        for folder in folders:
            for path in (*folder.rglob("*"), folder):
                with suppress(FileNotFoundError):
                    modes[path] = path.stat().st_mode
                    path.chmod(modes[path] & ~0o222)
        yield
    finally:
        for path, mode in reversed(modes.items()):
            with suppress(FileNotFoundError):
                path.chmod(mode)


def _order(fleet: Fleet, operation: Operation) -> None:
    """Give an order. On a busy machine a store in perfect order may seem away."""
    for _ in range(_TRIES):
        with suppress(StoreError):
            asyncio.run(
                admin.apply_order(
                    "Primary", operation, actor="soak", settings=fleet.settings, new=True, create=True
                )
            )
            return
        time.sleep(1.0)
    msg = "no order was possible"
    raise TimeoutError(msg)


def _hold(url: str, seconds: float) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        other.execute("ROLLBACK")
