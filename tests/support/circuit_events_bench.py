"""Stand-ins for processes that record their circuits: a breaker, a recorder and a circuit event log each."""

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

QUICK = CopySchedule(min_interval=0.02, delay=(0.02, 0.05), periodic=(0.1, 0.2), retry=(0.05, 0.1))
AFTER_EPOCHS = CopySchedule(min_interval=0.02, delay=(0.02, 0.05), periodic=(3600.0, 3600.0))
NEVER = CopySchedule(min_interval=0.0, delay=(3600.0, 3600.0), periodic=(3600.0, 3600.0))
POLICY = BreakerPolicy(open_jitter=0.0, max_staleness=0.0)
TRANSITION = "client, epoch, from_state, to_state, rule, reason, actor"


class Keeper:
    """What one process has: breaker, recorder and circuit event log.

    Args:
        store: the shared store, or one of this process alone.
        database: URL of the history; None keeps none.
        schedule: how often the store's log is copied.
        shared: whether other processes use the store.
        clock: for the breaker and the event log.
        sinks: further receivers of records.
    """

    def __init__(
        self,
        store: Store,
        database: str | None,
        *,
        schedule: CopySchedule = QUICK,
        shared: bool = True,
        clock: Clock | None = None,
        sinks: Iterable[Any] = (),
    ) -> None:
        clock = clock or SystemClock()
        self.recorder = Recorder(
            database, sinks=tuple(sinks), degraded=lambda: self.events.degraded, flush_interval=0.01
        )
        self.events = CircuitEventLog(
            self.recorder, namespace="resilience", shared=shared, clock=clock, schedule=schedule
        )
        self.breaker = Breaker(
            store,
            POLICY,
            clock=clock,
            on_transition=self.events.on_transition,
            on_epoch_change=self.events.on_epoch_change,
            wait_budget=5.0,
        )
        self.events.attach(self.breaker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close in the order in which a handler's runtime closes."""
        self.events.flush().result(120.0)
        self.breaker.close()
        self.recorder.close(10.0)

    def order(self, operation: Operation, client: str = "A", **order: Any) -> StepReply:
        """Give an operator's order, and wait until it is executed and its transition was handed on."""
        request = Order(**{"operation": operation, "actor": "ann", "reason": "bill", **order})
        reply = self.breaker.submit_order(client, request).result(120.0)
        assert self.breaker.flush(10.0)
        return reply

    async def state(self, client: str = "A") -> CircuitState:
        """Return the state of a circuit, as the store has it."""
        return (await self.breaker.refresh(client)).state


def ask(store: Store, operation: Operation, client: str = "A", **order: Any) -> StepReply:
    """Give an order directly to the store, as a process does that is killed before it records the transition."""
    request = Order(**{"operation": operation, "actor": "bob", "reason": "test", **order})
    (reply,) = store.step([StepRequest(client=client, policy=POLICY, order=request)])
    assert isinstance(reply, StepReply), reply
    return reply


def eventually(claim: Callable[[], bool], seconds: float = 120.0) -> None:
    """Poll until the claim holds, at most *seconds*."""
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)


def rows(database: str, columns: str = TRANSITION, where: str = "scope = 'shared'") -> list[tuple[Any, ...]]:
    """Read the transitions from SQL, oldest first; none while there are no tables."""
    return read(database, f"SELECT {columns} FROM breaker_events WHERE {where} ORDER BY occurred_at, epoch")  # noqa: S608 - of these tests


def cursor(database: str) -> str:
    """Return the cursor up to which the store's log was copied; empty before the first copy."""
    found = read(database, "SELECT cursor FROM maintenance WHERE job = 'transitions:resilience'")
    return str(found[0][0]) if found else ""


def read(database: str, query: str) -> list[tuple[Any, ...]]:
    """Run a query without `History`."""
    if database.startswith("sqlite") and not Path(database.removeprefix("sqlite:///")).exists():
        return []
    engine = connections.open_blocking(urls.parse(database))  # with the same SQLite driver as the package
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query))]
    except (sa.exc.ProgrammingError, sa.exc.OperationalError):  # no tables yet
        return []
    finally:
        engine.dispose()


def log_rows(log: Iterable[Transition]) -> list[tuple[Any, ...]]:
    """Return the entries of a store's log as `rows` returns them, sorted."""
    return sorted(
        (entry.client, entry.epoch, entry.from_state, entry.to_state, entry.rule, entry.reason, entry.actor)
        for entry in log
    )
