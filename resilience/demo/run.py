"""One run of the demo: a simulator, a fleet of agent processes, outages, and what could be observed meanwhile."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from resilience.breaker import Store, open_store
from resilience.config.settings import project_folder
from resilience.demo import phases as timetable
from resilience.demo.agents import CALLS_PER_GOAL
from resilience.demo.calling import CallStyle
from resilience.demo.fleet import DemoFleet, start_fleet
from resilience.demo.observer import CLIENTS, Observer, Progress
from resilience.demo.phases import Phase
from resilience.demo.run_clock import RunClock
from resilience.demo.shared_redis import SharedRedis
from resilience.demo.sharing import Sharing, read_sharing
from resilience.demo.summary import Snapshot, Summary, read_snapshot, summarise
from resilience.errors import ConfigurationError
from resilience.testing import ProviderSimulator

_REFRESH_SECONDS: Final = 0.25
_POLL_SECONDS: Final = 0.01


@dataclass(slots=True)
class DemoRun:
    """A finished run.

    Attributes:
        summary: its numbers, from SQL and the simulator.
        snapshot: the history at its end.
        calls: calls that the agents counted themselves.
        answered: answers that the agents counted themselves.
        degraded_answers: answers given while their process knew that the shared store was down.
        errors: calls not answered, by the name of the exception.
        sharing: what the processes learned from each other; None without `--redis`.
        stretched: whether the run took longer than asked for, because calls are slow on this machine.
    """

    summary: Summary
    snapshot: Snapshot
    calls: int = 0
    answered: int = 0
    degraded_answers: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    sharing: Sharing | None = None
    stretched: bool = False

    @property
    def successful(self) -> bool:
        """Whether every call was answered, SQL has a row for each, and the outages to be survived happened."""
        answered = self.calls == self.answered == self.summary.calls == self.summary.succeeded > 0
        return answered and (self.sharing is None or self.sharing.happened)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as a dict that JSON can hold, with the key `sharing` where Redis was shown."""
        return self.summary.as_dict() | ({"sharing": self.sharing.as_dict()} if self.sharing else {})


def run_demo(
    seconds: float,
    processes: int,
    show: Callable[[Progress], None],
    *,
    real: bool = False,
    redis: SharedRedis | None = None,
    style: CallStyle | None = None,
) -> DemoRun:
    """Run the fleet and report its progress four times a second.

    The time limits of the run follow a rehearsal: on a busy machine calls may take longer, and where a phase would be
    shorter than a few calls the whole run does.

    Args:
        seconds: how long the agents start new work.
        processes: number of agent processes.
        show: called with the progress.
        real: ask the provider that the environment names instead of a simulator, without an outage.
        redis: show what it is for, and kill it if the demo started it.
        style: how the agents call; async calls of whole answers when not given.

    Raises:
        ConfigurationError: *real*, and the environment names no provider; or an agent process did not start.
    """
    folder, clock = _create_folder(), RunClock()
    with ExitStack() as stack:
        simulator = stack.enter_context(_start_simulator(clock, real=real))
        environment = _environment(simulator, folder)
        if redis is not None:
            environment["RESILIENCE_REDIS_URL"] = redis.url
        fleet = stack.enter_context(
            start_fleet(processes, environment, rehearsal=not real, style=style or CallStyle())
        )
        store = _open_circuits(environment)
        stack.callback(store.close)
        run = _Run(fleet, simulator, redis, clock=clock, slowest_call=fleet.rehearse(), seconds=seconds)
        return run.play(store, folder, show)


class _Run:
    """The part of a run that follows the rehearsal.

    Args:
        fleet: the processes, which wait to be opened.
        simulator: the provider; None for a real one.
        redis: the Redis to show; None without.
        clock: the clock of the run, which the simulator has too.
        slowest_call: seconds of the slowest call of the rehearsal.
        seconds: length of the run that was asked for.
    """

    def __init__(
        self,
        fleet: DemoFleet,
        simulator: ProviderSimulator | None,
        redis: SharedRedis | None,
        *,
        clock: RunClock,
        slowest_call: float,
        seconds: float,
    ) -> None:
        self._fleet = fleet
        self._simulator = simulator
        self._redis = redis
        self._clock = clock
        self._asked_seconds = seconds
        self._seconds = seconds if simulator is None else timetable.run_seconds(seconds, slowest_call)
        self._phases = _phases(self._seconds, real=simulator is None, redis=redis)
        self._give_up_at = 0.0
        real = simulator is None
        self._settings = {} if real else timetable.settings(self._phases, slowest_call)
        # An agent finishes the goal it has begun. The policies of a user with a real provider are not ours to bound.
        self._latest_end = (
            math.inf if real else self._seconds + CALLS_PER_GOAL * timetable.deadline(slowest_call)
        )

    def play(self, store: Store, folder: Path, show: Callable[[Progress], None]) -> DemoRun:
        """Play all phases; return the run."""
        fleet, redis = self._fleet, self._redis
        fleet.open(self._settings)
        if self._simulator is not None:
            self._start_timetable(self._simulator)
        started_at = fleet.stop_after(self._seconds)
        observer = Observer(
            folder / "resilience.db",
            store,
            self._simulator,
            phases=self._phases,
            seconds=self._seconds,
            clock=self._clock,
        )
        if join_time := timetable.join_time(self._phases):
            self._clock.stop_at(self._clock.monotonic() + join_time)  # until the first process has learned
            self._give_up_at = time.monotonic() + self._seconds + join_time
        while fleet.running() and observer.elapsed() < self._latest_end:
            # Starting a server blocks this loop; the agents and the simulator go on meanwhile.
            if redis is not None:
                redis.set_down(down=observer.phase().redis_down)
            show(progress := observer.progress())
            if self._may_join(progress):
                fleet.extend(self._clock.release())
                fleet.start(elapsed=progress.elapsed)
            time.sleep(_REFRESH_SECONDS)
        # Once more: the last records are written when the processes end.
        show(observer.progress())
        run = _result(observer, fleet.counts(), folder)
        run.stretched = self._seconds > self._asked_seconds
        if redis is not None:
            run.sharing = read_sharing(
                observer.database,
                fleet.started,
                self._first_outage(started_at),
                redis=redis,
                degraded_answers=run.degraded_answers,
            )
        return run

    def _start_timetable(self, simulator: ProviderSimulator) -> None:
        """Start the processes and, at their first answer, the timetable. Where one is to learn for all, only that one."""
        simulator.begin()  # forget the rehearsal
        self._fleet.start(1 if timetable.join_time(self._phases) else None)
        while self._fleet.running() and not any(simulator.counts[timetable.VICTIM].values()):
            time.sleep(_POLL_SECONDS)
        timetable.schedule_outages(simulator, self._phases, start=simulator.elapsed())

    def _may_join(self, progress: Progress) -> bool:
        """Return whether all processes may work: where one learns for all, once the circuit shows what it learned.

        The clock of the run stands still until then. A circuit that never opens ends the wait after the length of a run.
        """
        if progress.elapsed < timetable.join_time(self._phases):
            return False
        learned = any(row.client == timetable.VICTIM and row.state == "open" for row in progress.rows)
        return learned or time.monotonic() >= self._give_up_at

    def _first_outage(self, started_at: datetime) -> tuple[datetime, datetime]:
        """Return start and end of the first outage; the clock may have stood still in it."""
        start, end = timetable.first_outage(self._phases)
        return started_at + timedelta(seconds=start), started_at + timedelta(seconds=end + self._clock.held)


def _phases(seconds: float, *, real: bool, redis: SharedRedis | None) -> tuple[Phase, ...]:
    if real:
        return (Phase("your provider", 0.0, seconds),)
    if redis is None:
        return timetable.outage_phases(seconds)
    return timetable.sharing_phases(seconds, own_redis=redis.own)


def _open_circuits(environment: Mapping[str, str]) -> Store:
    """Open the store that the agents with this environment use."""
    url = environment.get("RESILIENCE_REDIS_URL") or environment["RESILIENCE_STORE_URL"]
    return open_store(url, namespace=environment["RESILIENCE_NAMESPACE"])


def _result(observer: Observer, counts: Sequence[Mapping[str, Any]], folder: Path) -> DemoRun:
    snapshot = read_snapshot(observer.database)
    summary = summarise(
        snapshot,
        observer.simulator.requests if observer.simulator is not None else None,
        observer.transitions(),
        database=observer.database,
        logs=folder / "logs",
    )
    errors: dict[str, int] = {}
    for of_process in counts:
        for name, count in (of_process["errors"] or {}).items():
            errors[name] = errors.get(name, 0) + count
    return DemoRun(
        summary=summary,
        snapshot=snapshot,
        calls=sum(of_process["calls"] for of_process in counts),
        answered=sum(of_process["answered"] for of_process in counts),
        degraded_answers=sum(of_process["degraded_answers"] for of_process in counts),
        errors=errors,
    )


def _create_folder() -> Path:
    timestamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = project_folder(Path.cwd()) / f"demo-{timestamp}-{os.getpid()}"
    folder.mkdir(parents=True)
    (folder.parent / ".gitignore").write_text("*\n")
    return folder


@contextmanager
def _start_simulator(clock: RunClock, *, real: bool) -> Iterator[ProviderSimulator | None]:
    provider: AbstractContextManager[ProviderSimulator | None] = (
        nullcontext() if real else ProviderSimulator.in_thread(clients=CLIENTS, clock=clock)
    )
    with provider as simulator:
        if simulator is not None:
            timetable.set_latency(simulator)
        yield simulator


def _environment(simulator: ProviderSimulator | None, folder: Path) -> dict[str, str]:
    """Return what every process needs for the rehearsal.

    Raises:
        ConfigurationError: there is no simulator, and the environment names no provider.
    """
    environment = {
        "BAML_LOG": os.environ.get("BAML_LOG", "off"),
        # Also when it is empty: the URL in a settings file of the project must not apply.
        "RESILIENCE_REDIS_URL": os.environ.get("RESILIENCE_REDIS_URL", ""),
        "RESILIENCE_STORE_URL": f"sqlite:///{folder / 'circuits.db'}",
        "RESILIENCE_NAMESPACE": folder.name,
        "RESILIENCE_PRIVACY": "metadata",  # the observer reads the history
        "RESILIENCE_DATABASE_URL": f"sqlite:///{folder / 'resilience.db'}",
        "RESILIENCE_LOG_DIR": str(folder / "logs"),
    }
    if simulator is not None:
        return {**environment, **simulator.environment()}
    if "PRIMARY_BASE_URL" not in os.environ:
        msg = (
            "--real asks the provider your environment names: export PRIMARY_BASE_URL, PRIMARY_API_KEY and PRIMARY_MODEL "
            "(and SECONDARY_…, TERTIARY_… with RESILIENCE_FALLBACK=Secondary,Tertiary for backups)"
        )
        raise ConfigurationError(msg)
    return environment
