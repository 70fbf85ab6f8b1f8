"""Plays the demo: a simulator, a fleet of agent processes, an outage, and what one could see of it while it ran."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, Final

from resilience.breaker import Store, open_store
from resilience.config.settings import project_folder
from resilience.demo import agents, client, outage
from resilience.demo.outage import Phase
from resilience.demo.server import SharedRedis
from resilience.demo.sharing import Sharing, sharing
from resilience.demo.summary import Snapshot, Summary, snapshot, summarise
from resilience.demo.watch import CLIENTS, Frame, Watch
from resilience.errors import ConfigurationError
from resilience.testing import ProviderSimulator

AGENTS: Final = 5
"""Agents in each process."""
_IMPORTED_ONCE: Final = ["resilience.demo.agents", "resilience.breaker.stores.redis", "alembic.command"]
"""What every process would import by itself at its first call; none of them starts a thread."""
_LOOK_EVERY: Final = 0.25
_READY_WITHIN: Final = 60.0
_DONE_WITHIN: Final = 30.0


@dataclass(slots=True)
class DemoRun:
    """A finished run: its summary, and what the agents counted themselves."""

    summary: Summary
    snapshot: Snapshot
    counted: int = 0
    answered: int = 0
    noticed: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    sharing: Sharing | None = None

    @property
    def whole(self) -> bool:
        """Every call got an answer, SQL knows of every one, and what was to be survived happened."""
        answered = self.counted == self.answered == self.summary.calls == self.summary.succeeded > 0
        return answered and (self.sharing is None or self.sharing.happened)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the summary, and what the processes shared where that was shown."""
        return self.summary.as_dict() | ({"sharing": self.sharing.as_dict()} if self.sharing else {})


def play(
    seconds: float,
    processes: int,
    show: Callable[[Frame], None],
    *,
    real: bool = False,
    redis: SharedRedis | None = None,
) -> DemoRun:
    """Run the fleet for *seconds* and show a frame four times a second.

    Args:
        seconds: how long the agents begin new work.
        processes: agent processes.
        show: is given every frame.
        real: ask the provider the environment names instead of a simulator, without an outage.
        redis: show what it is for, and kill it if it is the demo's own.

    Raises:
        ConfigurationError: *real*, and the environment names no provider.
    """
    phases = _phases(seconds, real=real, redis=redis)
    folder = _folder()
    with ExitStack() as stack:
        simulator = stack.enter_context(_simulator(real=real))
        environment = _environment(simulator, folder, phases)
        if redis is not None:
            environment["RESILIENCE_REDIS_URL"] = redis.url
        fleet = stack.enter_context(_fleet(processes, environment))
        store = _store(environment)
        stack.callback(store.close)
        fleet.assemble()
        if simulator is not None:
            _raise_curtain(simulator, fleet, phases)
        began = fleet.end_after(seconds)
        watch = Watch(folder / "resilience.db", store, simulator, phases, seconds)
        while fleet.working() and watch.elapsed() < seconds + _DONE_WITHIN:
            if redis is not None:
                redis.keep(away=watch.phase().away)
            show(frame := watch.frame())
            if _may_join(frame, phases):
                fleet.begin(at=frame.at)
            time.sleep(_LOOK_EVERY)
        show(watch.frame())
        run = _run(watch, fleet.tallies(), folder)
        if redis is not None:
            run.sharing = sharing(
                watch.database, fleet.began, began, phases, redis=redis, noticed=run.noticed
            )
        return run


def _raise_curtain(simulator: ProviderSimulator, fleet: _Fleet, phases: Sequence[Phase]) -> None:
    """Begin the play; where one process is to learn for all, when that one is at work."""
    if outage.joining(phases):
        fleet.begin(1)
        deadline = time.monotonic() + _READY_WITHIN
        while not any(simulator.counts[outage.VICTIM].values()) and time.monotonic() < deadline:
            time.sleep(0.01)
    outage.stage(simulator, phases)
    simulator.begin()


def _may_join(frame: Frame, phases: Sequence[Phase]) -> bool:
    """Has the time come for all to work: where one is to learn for them, when the circuit tells what it learned?"""
    joining = outage.joining(phases)
    if not joining:
        return True
    known = any(row.client == outage.VICTIM and row.state == "open" for row in frame.rows)
    return frame.at >= joining and (known or frame.at >= outage.shared_outage(phases)[1])


def _phases(seconds: float, *, real: bool, redis: SharedRedis | None) -> tuple[Phase, ...]:
    if real:
        return (Phase("your provider", 0.0, seconds),)
    return outage.play(seconds) if redis is None else outage.sharing(seconds, own=redis.own)


def _store(environment: Mapping[str, str]) -> Store:
    """The circuits of the agents with this environment."""
    named = environment.get("RESILIENCE_REDIS_URL")
    return open_store(
        named or environment["RESILIENCE_STORE_URL"], namespace=environment["RESILIENCE_NAMESPACE"]
    )


def _run(watch: Watch, tallies: Sequence[Mapping[str, Any]], folder: Path) -> DemoRun:
    snap = snapshot(watch.database)
    summary = summarise(
        snap,
        watch.simulator.requests if watch.simulator is not None else None,
        watch.transitions(),
        database=watch.database,
        logs=folder / "logs",
    )
    errors: dict[str, int] = {}
    for tally in tallies:
        for name, count in (tally["errors"] or {}).items():
            errors[name] = errors.get(name, 0) + count
    return DemoRun(
        summary=summary,
        snapshot=snap,
        counted=sum(tally["calls"] for tally in tallies),
        answered=sum(tally["answered"] for tally in tallies),
        noticed=sum(tally["without_store"] for tally in tallies),
        errors=errors,
    )


def _folder() -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = project_folder(Path.cwd()) / f"demo-{stamp}-{os.getpid()}"
    folder.mkdir(parents=True)
    ignore = folder.parent / ".gitignore"
    ignore.write_text("*\n")
    return folder


@contextmanager
def _simulator(*, real: bool) -> Iterator[ProviderSimulator | None]:
    place: AbstractContextManager[ProviderSimulator | None] = (
        nullcontext() if real else ProviderSimulator.in_thread(clients=CLIENTS)
    )
    with place as simulator:
        yield simulator


def _environment(
    simulator: ProviderSimulator | None, folder: Path, phases: Sequence[Phase]
) -> dict[str, str]:
    found = {
        "BAML_LOG": os.environ.get("BAML_LOG", "off"),
        "RESILIENCE_REDIS_URL": os.environ.get("RESILIENCE_REDIS_URL", ""),  # not that of the project's files
        "RESILIENCE_STORE_URL": f"sqlite:///{folder / 'circuits.db'}",
        "RESILIENCE_NAMESPACE": folder.name,
        "RESILIENCE_PRIVACY": "metadata",  # the watcher reads the history
        "RESILIENCE_DATABASE_URL": f"sqlite:///{folder / 'resilience.db'}",
        "RESILIENCE_LOG_DIR": str(folder / "logs"),
    }
    if simulator is not None:
        return {**found, **outage.settings(phases), **simulator.environment()}
    if "PRIMARY_BASE_URL" not in os.environ:
        msg = (
            "--real asks the provider your environment names: export PRIMARY_BASE_URL, PRIMARY_API_KEY and PRIMARY_MODEL "
            "(and SECONDARY_…, TERTIARY_… with RESILIENCE_FALLBACK=Secondary,Tertiary for backups)"
        )
        raise ConfigurationError(msg)
    return found


class _Fleet:
    """The agent processes, spawned, each at the end of a pipe, and the moment at which all begin no new work.

    Attributes:
        began: when each began to work, in seconds of the play, by its pid.
    """

    def __init__(
        self, workers: Sequence[tuple[ForkServerProcess, Connection]], ends: Synchronized[float]
    ) -> None:
        self.began: dict[int, float] = {}
        self._workers = workers
        self._idle = list(workers)
        self._ends = ends

    def assemble(self) -> None:
        """Wait until all are ready."""
        for process, pipe in self._workers:
            if not pipe.poll(_READY_WITHIN):
                msg = f"agent process {process.pid} did not start within {_READY_WITHIN:g} s"
                raise ConfigurationError(msg)
            pipe.recv()

    def begin(self, number: int | None = None, *, at: float = 0.0) -> None:
        """Let so many begin to work, or all who have not yet; notes when that was."""
        begun, self._idle = self._idle[:number], self._idle[len(self._idle[:number]) :]
        for process, pipe in begun:
            pipe.send("begin")
            self.began[process.pid or 0] = at

    def end_after(self, seconds: float) -> datetime:
        """Nobody begins new work *seconds* from now; gives this moment."""
        now = datetime.now(UTC)
        self._ends.value = now.timestamp() + seconds
        return now

    def working(self) -> bool:
        """Does any process still run?"""
        return any(process.is_alive() for process, _ in self._workers)

    def tallies(self) -> list[dict[str, Any]]:
        """What each counted; processes that died counted nothing."""
        return [json.loads(pipe.recv()) for _, pipe in self._workers if pipe.poll()]

    def end(self) -> None:
        """Stop whoever still runs."""
        for process, pipe in self._workers:
            process.terminate()
            process.join()
            process.close()
            pipe.close()


@contextmanager
def _fleet(processes: int, environment: Mapping[str, str]) -> Iterator[_Fleet]:
    client.generate()  # once, before the processes race for it
    server = multiprocessing.get_context(
        "forkserver"
    )  # forks a process that has imported us, and no BAML client
    server.set_forkserver_preload(_IMPORTED_ONCE)
    workers = []
    ends = server.Value("d", math.inf)
    for number in range(processes):
        ours, theirs = server.Pipe()
        process = server.Process(target=agents.run, args=(environment, AGENTS, number * AGENTS, ends, theirs))
        process.start()
        theirs.close()
        workers.append((process, ours))
    fleet = _Fleet(workers, ends)
    try:
        yield fleet
    finally:
        fleet.end()
