"""Observes a run from outside, as an operator would: SQL, the shared circuits, the log of the provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from resilience.breaker import Store, Transition
from resilience.breaker.messages import StepReply, StepRequest
from resilience.clock import Clock
from resilience.demo.phases import Phase
from resilience.demo.summary import Snapshot, read_snapshot
from resilience.testing import ProviderSimulator

CLIENTS: Final = ("Primary", "Secondary", "Tertiary")
_STORE_DOWN: Final = "away"
"""Shown in place of a circuit's state while the store does not answer."""


@dataclass(slots=True)
class ClientRow:
    """One client at one moment: a row of the table.

    Attributes:
        client: its name.
        state: the state of its circuit; `away` while the store does not answer.
        answered: requests that it answered.
        failed: requests that it did not answer.
        refused: attempts that its circuit refused.
        cooldown: seconds left of its cool-down.
    """

    client: str
    state: str
    answered: int
    failed: int
    refused: int
    cooldown: float


@dataclass(slots=True)
class Progress:
    """The run at one moment.

    Attributes:
        elapsed: seconds since the start of the run.
        seconds: length of the run.
        phase: the current phase.
        rows: one for each client.
        calls: calls that ended.
        succeeded: calls that were answered.
    """

    elapsed: float
    seconds: float
    phase: Phase
    rows: Sequence[ClientRow]
    calls: int
    succeeded: int


class Observer:
    """Observes one run; its clock starts with it.

    Args:
        database: the fleet's history.
        store: the fleet's circuits; the store may be down for a while.
        simulator: the provider; None for a real one.
        phases: the timetable.
        seconds: length of the run.
        clock: the clock of the run.
    """

    def __init__(
        self,
        database: Path,
        store: Store,
        simulator: ProviderSimulator | None,
        *,
        phases: Sequence[Phase],
        seconds: float,
        clock: Clock,
    ) -> None:
        self.database = database
        self.simulator = simulator
        self._store = store
        self._phases = phases
        self._seconds = seconds
        self._clock = clock
        self._started = clock.monotonic()
        self._transitions: dict[tuple[str, int], Transition] = {}

    def elapsed(self) -> float:
        """Return the seconds since the start of the run."""
        return self._clock.monotonic() - self._started

    def phase(self) -> Phase:
        """Return the current phase; after the end of the run, the last one."""
        now = self.elapsed()
        return next((phase for phase in self._phases if phase.start <= now < phase.end), self._phases[-1])

    def progress(self) -> Progress:
        """Read all sources once."""
        snapshot = read_snapshot(self.database)
        counts = self.simulator.counts if self.simulator is not None else {}
        rows = [self._row(name, snapshot, counts.get(name, {})) for name in CLIENTS]
        self._collect_transitions()
        return Progress(self.elapsed(), self._seconds, self.phase(), rows, snapshot.calls, snapshot.succeeded)

    def transitions(self) -> list[dict[str, Any]]:
        """Return every transition of the shared circuits, oldest first."""
        self._collect_transitions()
        return [
            {
                "client": transition.client,
                "from": transition.from_state,
                "to": transition.to_state,
                "rule": transition.rule,
                "reason": transition.reason,
                "at": datetime.fromtimestamp(transition.at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
            }
            for transition in sorted(self._transitions.values(), key=lambda transition: transition.at_ms)
        ]

    def _collect_transitions(self) -> None:
        """Copy the store's log of transitions: a Redis that dies forgets it."""
        try:
            transitions = self._store.transitions()
        except Exception:  # noqa: BLE001 - whatever a store that is down raises
            return
        self._transitions.update(
            {(transition.client, transition.epoch): transition for transition in transitions}
        )

    def _row(self, name: str, snapshot: Snapshot, counts: Mapping[str, int]) -> ClientRow:
        state, cooldown = self._circuit(name)
        by_simulator = self.simulator is not None
        answered = counts.get("200", 0) if by_simulator else snapshot.answered_by.get(name, 0)
        return ClientRow(
            client=name,
            state=state,
            answered=answered,
            failed=sum(counts.values()) - counts.get("200", 0),
            refused=snapshot.refused_by.get(name, 0),
            cooldown=cooldown,
        )

    def _circuit(self, name: str) -> tuple[str, float]:
        """Return the state of a circuit and the seconds left of its cool-down."""
        try:
            # A request that reports nothing and asks for no probe only reads.
            (reply,) = self._store.step([StepRequest(client=name)])
        except Exception:  # noqa: BLE001 - whatever a store that is down raises
            return _STORE_DOWN, 0.0
        return (reply.state, reply.cooldown_ms / 1000) if isinstance(reply, StepReply) else (_STORE_DOWN, 0.0)
