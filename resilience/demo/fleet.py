"""The agent processes of the demo: started together, each connected by a pipe, stopped by one shared clock."""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from multiprocessing.sharedctypes import Synchronized
from typing import Any, Final

from resilience.demo import agents, client
from resilience.demo.calling import CallStyle
from resilience.errors import ConfigurationError

AGENTS: Final = 5
"""Agents in each process."""
_PRELOADED: Final = ["resilience.demo.agents", "resilience.breaker.stores.redis", "alembic.command"]
"""Modules that every process would import at its first call. None of them starts a thread, so forking is safe."""
_CHECK_SECONDS: Final = 1.0


class DemoFleet:
    """The agent processes.

    Attributes:
        started: when each process started to work, in seconds of the run, by its pid.
    """

    def __init__(
        self, workers: Sequence[tuple[ForkServerProcess, Connection]], stop_at: Synchronized[float]
    ) -> None:
        self.started: dict[int, float] = {}
        self._workers = workers
        self._waiting = list(workers)
        self._stop_at = stop_at

    def rehearse(self) -> float:
        """Wait until all processes have rehearsed; return the seconds of the slowest call of all.

        There is no time limit: on a busy machine the imports alone may take long. A process that dies ends the wait.

        Raises:
            ConfigurationError: a process died.
        """
        return max(float(_receive(process, pipe)) for process, pipe in self._workers)

    def open(self, environment: Mapping[str, str]) -> None:
        """Let all processes open their handlers, and wait until they have.

        Args:
            environment: what they set before.

        Raises:
            ConfigurationError: a process died.
        """
        for _, pipe in self._workers:
            pipe.send(dict(environment))
        for process, pipe in self._workers:
            _receive(process, pipe)

    def start(self, number: int | None = None, *, elapsed: float = 0.0) -> None:
        """Let waiting processes start to work.

        Args:
            number: how many start; all that still wait when not given.
            elapsed: seconds since the start of the run.
        """
        starting, self._waiting = self._waiting[:number], self._waiting[len(self._waiting[:number]) :]
        for process, pipe in starting:
            pipe.send("start")
            self.started[process.pid or 0] = elapsed

    def stop_after(self, seconds: float) -> datetime:
        """Let agents start no new goal *seconds* from now; return the current time."""
        now = datetime.now(UTC)
        self._stop_at.value = now.timestamp() + seconds
        return now

    def extend(self, seconds: float) -> None:
        """Let agents start new goals for some *seconds* longer."""
        self._stop_at.value += seconds

    def running(self) -> bool:
        """Return whether any process still runs."""
        return any(process.is_alive() for process, _ in self._workers)

    def counts(self) -> list[dict[str, Any]]:
        """Return the counts of each process. A process that died sent none."""
        # A process sends its counts last, so none is waited for: the caller has seen all of them end.
        return [json.loads(pipe.recv()) for _, pipe in self._workers if pipe.poll()]

    def terminate(self) -> None:
        """End the processes that still run."""
        for process, pipe in self._workers:
            process.terminate()
            process.join()
            process.close()
            pipe.close()


@contextmanager
def start_fleet(
    processes: int, environment: Mapping[str, str], *, rehearsal: bool, style: CallStyle
) -> Iterator[DemoFleet]:
    """Start agent processes that rehearse and wait; terminate them at the end of the context.

    Args:
        processes: how many.
        environment: what they need for the rehearsal.
        rehearsal: whether they measure the latency of calls first.
        style: how they call.
    """
    client.generate()  # here, before the processes would all do it at once
    # The server forks from a process that has imported our modules but no BAML client: after a fork that would hang.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(_PRELOADED)
    workers = []
    stop_at = server.Value("d", math.inf)
    for number in range(processes):
        ours, theirs = server.Pipe()
        arguments = (environment, AGENTS, number * AGENTS, stop_at, theirs, rehearsal, style)
        process = server.Process(target=agents.run_agents, args=arguments)
        process.start()
        theirs.close()  # or the pipe would stay open when the process dies
        workers.append((process, ours))
    fleet = DemoFleet(workers, stop_at)
    try:
        yield fleet
    finally:
        fleet.terminate()


def _receive(process: ForkServerProcess, pipe: Connection) -> Any:
    while not pipe.poll(_CHECK_SECONDS):
        # Then the pipe is closed or holds the last message: `recv` returns or raises at once.
        if not process.is_alive():
            break
    try:
        return pipe.recv()
    except EOFError:
        process.join()
        msg = f"agent process {process.pid} ended before it was ready, exit code {process.exitcode}: see its traceback above"
        raise ConfigurationError(msg) from None
