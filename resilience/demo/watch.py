"""Looks at a run from outside, as an operator would: SQL, the shared circuits, the provider's log."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from resilience.breaker import Store, Transition
from resilience.breaker.messages import StepReply, StepRequest
from resilience.demo.outage import Phase
from resilience.demo.summary import Snapshot, snapshot
from resilience.testing import ProviderSimulator

CLIENTS: Final = ("Primary", "Secondary", "Tertiary")
_AWAY: Final = "away"  # what the circuits' store is when it does not answer


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


class Watch:
    """One run, from its beginning on.

    Args:
        database: the fleet's history.
        store: the fleet's circuits; they may be away for a while.
        simulator: the provider; None for a real one.
        phases: the play.
        seconds: how long it is.
    """

    def __init__(
        self,
        database: Path,
        store: Store,
        simulator: ProviderSimulator | None,
        phases: Sequence[Phase],
        seconds: float,
    ) -> None:
        self.database = database
        self.simulator = simulator
        self._store = store
        self._phases = phases
        self._seconds = seconds
        self._began = time.monotonic()
        self._moves: dict[tuple[str, int], Transition] = {}

    def elapsed(self) -> float:
        """Seconds since the agents began."""
        return time.monotonic() - self._began

    def phase(self) -> Phase:
        """Where the play stands."""
        at = self.elapsed()
        return next((phase for phase in self._phases if phase.start <= at < phase.end), self._phases[-1])

    def frame(self) -> Frame:
        """Look now."""
        snap = snapshot(self.database)
        counts = self.simulator.counts if self.simulator is not None else {}
        rows = [self._row(name, snap, counts.get(name, {})) for name in CLIENTS]
        self._note_transitions()
        return Frame(self.elapsed(), self._seconds, self.phase(), rows, snap.calls, snap.succeeded)

    def transitions(self) -> list[dict[str, Any]]:
        """Every change of state of the shared circuits, oldest first."""
        self._note_transitions()
        return [
            {
                "client": moved.client,
                "from": moved.from_state,
                "to": moved.to_state,
                "rule": moved.rule,
                "reason": moved.reason,
                "at": datetime.fromtimestamp(moved.at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
            }
            for moved in sorted(self._moves.values(), key=lambda moved: moved.at_ms)
        ]

    def _note_transitions(self) -> None:
        """Keep what the store tells: a Redis that dies forgets it."""
        try:
            moves = self._store.transitions()
        except Exception:  # noqa: BLE001 - whatever a store that is away raises
            return
        self._moves.update({(moved.client, moved.epoch): moved for moved in moves})

    def _row(self, name: str, snap: Snapshot, counts: Mapping[str, int]) -> Row:
        state, cooldown = self._circuit(name)
        answered = counts.get("200", 0) if self.simulator is not None else snap.answered_by.get(name, 0)
        return Row(
            client=name,
            state=state,
            answered=answered,
            failed=sum(counts.values()) - counts.get("200", 0),
            refused=snap.refused_by.get(name, 0),
            cooldown=cooldown,
        )

    def _circuit(self, name: str) -> tuple[str, float]:
        try:
            (reply,) = self._store.step([StepRequest(client=name)])
        except Exception:  # noqa: BLE001 - whatever a store that is away raises
            return _AWAY, 0.0
        return (reply.state, reply.cooldown_ms / 1000) if isinstance(reply, StepReply) else (_AWAY, 0.0)
