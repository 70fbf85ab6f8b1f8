"""Processes that keep the history of their circuits, in this process: a breaker, a recorder and a chronicle each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from resilience.breaker import Breaker, BreakerPolicy, CircuitState, Operation, Order, Store, Transition
from resilience.breaker.messages import StepReply, StepRequest
from resilience.circuit_events import CircuitEventLog, CopySchedule
from resilience.clock import Clock, SystemClock
from resilience.history import Recorder
from resilience.history.reader import connections
from resilience.history.schema import urls

QUICK = CopySchedule(turn=0.02, soon=(0.02, 0.05), rare=(0.1, 0.2), again=(0.05, 0.1))
SEEING = CopySchedule(turn=0.02, soon=(0.02, 0.05), rare=(3600.0, 3600.0))
NEVER = CopySchedule(turn=0.0, soon=(3600.0, 3600.0), rare=(3600.0, 3600.0))
POLICY = BreakerPolicy(open_jitter=0.0, max_staleness=0.0)
MOVED = "client, epoch, from_state, to_state, rule, reason, actor"


class Keeper:
    """One process.

    Args:
        store: the fleet's, or this process's own.
        database: the history's URL.
        pace: how often it looks after the others.
        shared: do others use the store?
        sinks: for the recorder.
    """

    def __init__(
        self,
        store: Store,
        database: str | None,
        *,
        pace: CopySchedule = QUICK,
        shared: bool = True,
        clock: Clock | None = None,
        sinks: Iterable[Any] = (),
    ) -> None:
        clock = clock or SystemClock()
        self.recorder = Recorder(
            database, sinks=tuple(sinks), degraded=lambda: self.chronicle.degraded, flush_interval=0.01
        )
        self.chronicle = CircuitEventLog(
            self.recorder, namespace="resilience", shared=shared, clock=clock, pace=pace
        )
        self.breaker = Breaker(
            store,
            POLICY,
            clock=clock,
            on_transition=self.chronicle.tell,
            on_sight=self.chronicle.see,
            wait_budget=5.0,
        )
        self.chronicle.attend(self.breaker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End as a handler's rooms do."""
        self.chronicle.settle().result(10.0)
        self.breaker.close()
        self.recorder.close(10.0)

    def order(self, operation: Operation, client: str = "A", **order: Any) -> StepReply:
        """Order something, and wait until it is carried out and told."""
        said = Order(**{"operation": operation, "actor": "ann", "reason": "bill", **order})
        reply = self.breaker.order(client, said).result(10.0)
        assert self.breaker.flush(10.0)
        return reply

    async def state(self, client: str = "A") -> CircuitState:
        """Where a circuit stands."""
        return (await self.breaker.refresh(client)).state


def ask(store: Store, operation: Operation, client: str = "A", **order: Any) -> StepReply:
    """Order something as a process that is killed before it can write down what it did."""
    said = Order(**{"operation": operation, "actor": "bob", "reason": "test", **order})
    (reply,) = store.step([StepRequest(client=client, policy=POLICY, order=said)])
    assert isinstance(reply, StepReply), reply
    return reply


def eventually(claim: Callable[[], bool], seconds: float = 20.0) -> None:
    """Poll until the claim holds."""
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)


def rows(database: str, columns: str = MOVED, where: str = "scope = 'shared'") -> list[tuple[Any, ...]]:
    """What SQL says of the circuits' moves, oldest first; nothing while there are no tables."""
    return read(database, f"SELECT {columns} FROM breaker_events WHERE {where} ORDER BY occurred_at, epoch")  # noqa: S608 - of these tests


def cursor(database: str) -> str:
    """How far the log was copied."""
    found = read(database, "SELECT cursor FROM maintenance WHERE job = 'transitions:resilience'")
    return str(found[0][0]) if found else ""


def read(database: str, query: str) -> list[tuple[Any, ...]]:
    """Ask SQL behind the history's back."""
    if database.startswith("sqlite") and not Path(database.removeprefix("sqlite:///")).exists():
        return []
    engine = connections.open_blocking(urls.parse(database))  # with the driver of all the others
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query))]
    except (sa.exc.ProgrammingError, sa.exc.OperationalError):  # no tables yet
        return []
    finally:
        engine.dispose()


def told(moves: Iterable[Transition]) -> list[tuple[Any, ...]]:
    """The same of a store's log."""
    return sorted(
        (each.client, each.epoch, each.from_state, each.to_state, each.rule, each.reason, each.actor)
        for each in moves
    )
