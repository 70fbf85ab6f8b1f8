"""Plays the demo: a simulator, a fleet of agent processes, an outage, and what one could see of it while it ran."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final

from resilience.breaker import Store, open_store
from resilience.breaker.messages import StepRequest
from resilience.demo import agents, client, outage
from resilience.demo.outage import Phase
from resilience.demo.summary import Snapshot, Summary, snapshot, summarise
from resilience.errors import ConfigurationError
from resilience.settings import project_folder
from resilience.testing import ProviderSimulator

CLIENTS: Final = ("Primary", "Secondary", "Tertiary")
AGENTS: Final = 5
"""Agents in each process."""
_LOOK_EVERY: Final = 0.25
_READY_WITHIN: Final = 60.0
_DONE_WITHIN: Final = 30.0


@dataclass(slots=True)
class Row:
    """One client at one moment."""

    client: str
    state: str
    answered: int
    failed: int
    refused: int
    cooldown: float


@dataclass(slots=True)
class Frame:
    """What there is to see at one moment."""

    at: float
    seconds: float
    phase: Phase
    rows: Sequence[Row]
    calls: int
    succeeded: int


@dataclass(slots=True)
class Run:
    """A finished run: its summary, and what the agents counted themselves."""

    summary: Summary
    snapshot: Snapshot
    counted: int = 0
    answered: int = 0
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Every call got an answer, and SQL knows of every one."""
        return self.counted == self.answered == self.summary.calls == self.summary.succeeded > 0


def play(seconds: float, processes: int, show: Callable[[Frame], None], *, real: bool = False) -> Run:
    """Run the fleet for *seconds* and show a frame four times a second.

    Args:
        seconds: how long the agents begin new work.
        processes: agent processes.
        show: is given every frame.
        real: ask the provider the environment names instead of a simulator, without an outage.

    Raises:
        ConfigurationError: *real*, and the environment names no provider.
    """
    phases = (Phase("your provider", 0.0, seconds),) if real else outage.play(seconds)
    folder = _folder()
    with ExitStack() as stack:
        simulator = stack.enter_context(_simulator(real=real))
        environment = _environment(simulator, folder, phases)
        fleet = stack.enter_context(_fleet(processes, environment))
        shared = os.environ.get("RESILIENCE_REDIS_URL") or environment["RESILIENCE_STORE_URL"]
        store = open_store(shared, namespace=environment["RESILIENCE_NAMESPACE"])
        stack.callback(store.close)
        fleet.assemble()
        if simulator is not None:
            outage.stage(simulator, phases)
            simulator.begin()
        fleet.start(seconds)
        watch = _Watch(folder / "resilience.db", store, simulator, phases, seconds)
        while fleet.working() and watch.elapsed() < seconds + _DONE_WITHIN:
            show(watch.frame())
            time.sleep(_LOOK_EVERY)
        show(watch.frame())
        tallies = fleet.tallies()
        return _run(watch, tallies, folder)


def _run(watch: _Watch, tallies: Sequence[Mapping[str, Any]], folder: Path) -> Run:
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
    return Run(
        summary=summary,
        snapshot=snap,
        counted=sum(tally["calls"] for tally in tallies),
        answered=sum(tally["answered"] for tally in tallies),
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
    simulator: ProviderSimulator | None, folder: Path, phases: tuple[Phase, ...]
) -> dict[str, str]:
    found = {
        "BAML_LOG": os.environ.get("BAML_LOG", "off"),
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
    """The agent processes, spawned, each at the end of a pipe."""

    def __init__(self, workers: Sequence[tuple[ForkServerProcess, Connection]]) -> None:
        self._workers = workers

    def assemble(self) -> None:
        """Wait until all are ready."""
        for process, pipe in self._workers:
            if not pipe.poll(_READY_WITHIN):
                msg = f"agent process {process.pid} did not start within {_READY_WITHIN:g} s"
                raise ConfigurationError(msg)
            pipe.recv()

    def start(self, seconds: float) -> None:
        """Let them begin together, and say until when they begin new work."""
        until = time.time() + seconds
        for _, pipe in self._workers:
            pipe.send(until)

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
    server.set_forkserver_preload(["resilience.demo.agents"])
    workers = []
    for number in range(processes):
        ours, theirs = server.Pipe()
        process = server.Process(target=agents.run, args=(environment, AGENTS, number * AGENTS, theirs))
        process.start()
        theirs.close()
        workers.append((process, ours))
    fleet = _Fleet(workers)
    try:
        yield fleet
    finally:
        fleet.end()


class _Watch:
    """Looks at the run from outside, as an operator would: SQL, the shared circuits, the provider's log."""

    def __init__(
        self,
        database: Path,
        store: Store,
        simulator: ProviderSimulator | None,
        phases: tuple[Phase, ...],
        seconds: float,
    ) -> None:
        self.database = database
        self.simulator = simulator
        self._store = store
        self._phases = phases
        self._seconds = seconds
        self._began = time.monotonic()

    def elapsed(self) -> float:
        """Seconds since the agents began."""
        return time.monotonic() - self._began

    def frame(self) -> Frame:
        """Look now."""
        at = self.elapsed()
        snap = snapshot(self.database)
        counts = self.simulator.counts if self.simulator is not None else {}
        phase = next((phase for phase in self._phases if phase.start <= at < phase.end), self._phases[-1])
        rows = [self._row(name, snap, counts.get(name, {})) for name in CLIENTS]
        return Frame(at, self._seconds, phase, rows, snap.calls, snap.succeeded)

    def transitions(self) -> list[dict[str, Any]]:
        """Every change of state of the shared circuits, oldest first."""
        return [
            {
                "client": moved.client,
                "from": moved.from_state,
                "to": moved.to_state,
                "rule": moved.rule,
                "reason": moved.reason,
                "at": datetime.fromtimestamp(moved.at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
            }
            for moved in self._store.transitions()
        ]

    def _row(self, name: str, snap: Snapshot, counts: Mapping[str, int]) -> Row:
        (reply,) = self._store.step([StepRequest(client=name)])
        state, cooldown = (
            ("?", 0.0) if isinstance(reply, Exception) else (reply.state, reply.blocked_ms / 1000)
        )
        answered = counts.get("200", 0) if self.simulator is not None else snap.answered_by.get(name, 0)
        return Row(
            client=name,
            state=state,
            answered=answered,
            failed=sum(counts.values()) - counts.get("200", 0),
            refused=snap.refused_by.get(name, 0),
            cooldown=cooldown,
        )
