"""A store that lost its memory gets back what was ordered and what was open: from a process's view, or from SQL."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.circuit_events_bench import NEVER, POLICY, QUICK, Keeper, eventually, rows
from support.valkey_servers import Valkey

from resilience import BAMLErrorHandler, CircuitOpenError, CircuitState, Settings, admin
from resilience.breaker import Operation, Outcome, Store, open_store
from resilience.errors import HistoryError


@dataclass
class Fleet:
    """Where a fleet's state lives, and how it is lost."""

    url: str
    database: str
    lose: Callable[[], None]

    def store(self) -> Store:
        return open_store(self.url, namespace="resilience")

    def settings(self, **other: Any) -> Settings:
        place = "store_url" if self.url.startswith("sqlite") else "redis_url"
        return Settings(**{place: self.url, "database_url": self.database, **other})

    def keeper(self, **options: Any) -> Keeper:
        return Keeper(self.store(), self.database, **options)


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with Valkey() as running:
        yield running


@pytest.fixture(params=["valkey", "sqlite"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Fleet:
    database = f"sqlite:///{tmp_path}/resilience.db"
    if request.param == "sqlite":
        return Fleet(f"sqlite:///{tmp_path}/circuits.db", database, lambda: delete(tmp_path))
    valkey: Valkey = request.getfixturevalue("valkey")
    flush(valkey)
    return Fleet(valkey.patient, database, lambda: flush(valkey))


@pytest.fixture
def fast(valkey: Valkey, tmp_path: Path) -> Fleet:
    """On Valkey alone."""
    flush(valkey)
    return Fleet(valkey.patient, f"sqlite:///{tmp_path}/resilience.db", lambda: flush(valkey))


def flush(valkey: Valkey) -> None:
    with valkey.looking() as client:
        client.flushall()


def delete(folder: Path) -> None:
    for left in folder.glob("circuits.db*"):
        left.unlink()


async def becomes(state: CircuitState, keeper: Keeper, client: str = "A") -> None:
    """Look again and again, as calls would, until a circuit is there."""
    deadline = time.monotonic() + 20.0
    while await keeper.state(client) is not state:
        assert time.monotonic() < deadline, f"{client} is {await keeper.state(client)}, not {state}"
        await asyncio.sleep(0.005)


async def trip(keeper: Keeper) -> None:
    """Fail until the circuit opens."""
    for _ in range(POLICY.consecutive_failures):
        keeper.breaker.settle(await keeper.breaker.admit("A"), Outcome.FAILURE, reason="overloaded")
    assert keeper.breaker.flush(10.0)


class TestFromSQL:
    """Processes that know nothing themselves."""

    @pytest.mark.parametrize("operation", [Operation.OPEN, Operation.DISABLE])
    @pytest.mark.parametrize("seconds", [None, 600.0])
    async def test_an_order_comes_back(
        self, fleet: Fleet, operation: Operation, seconds: float | None
    ) -> None:
        """State, actor, reason and what is left of its time; also when there is no end."""
        with fleet.keeper() as before:
            told = before.order(operation, seconds=seconds)
        fleet.lose()
        with fleet.keeper() as after:
            await becomes(told.state, after)
            view = after.breaker.views()["A"]
        left = view.until - time.monotonic()

        assert ("ann", "bill") == (view.actor, view.reason)
        assert math.isinf(left) if seconds is None else 500.0 < left < 600.0
        assert ["operator", "restored"] == [row[4] for row in rows(fleet.database)]

    async def test_an_open_circuit_comes_back(self, fleet: Fleet) -> None:
        """A client that was down when the memory was lost is not asked by a new process, until its time is over."""
        with fleet.keeper() as before:
            await trip(before)
        fleet.lose()
        with fleet.keeper() as after:
            await becomes(CircuitState.OPEN, after)
            with pytest.raises(CircuitOpenError) as refusal:
                await after.breaker.admit("A")

        assert refusal.value.reason == "overloaded"
        assert refusal.value.retry_after is not None
        assert 0 < refusal.value.retry_after <= POLICY.open_for + 1.0

    async def test_what_is_over_stays_over(self, fleet: Fleet) -> None:
        """Orders whose time is over, and those that another ended, do not come back."""
        with fleet.keeper() as before:
            before.order(Operation.OPEN, "expired", seconds=0.001)
            before.order(Operation.OPEN, "closed")
            before.order(Operation.CLOSE, "closed")
            before.order(Operation.DISABLE, "reset")
            before.order(Operation.RESET, "reset")
            before.order(Operation.OPEN, "last")
        fleet.lose()
        with fleet.keeper() as after:
            first = [await after.state(client) for client in ("expired", "closed", "reset")]
            await becomes(CircuitState.FORCED_OPEN, after, "last")  # asked last, answered last
            second = [await after.state(client) for client in ("expired", "closed", "reset")]

        assert [CircuitState.CLOSED] * 6 == first + second

    async def test_new_processes_restore_once(self, fast: Fleet) -> None:
        """Many that start together after the loss put one order back."""
        with fast.keeper() as before:
            before.order(Operation.OPEN)
        fast.lose()
        with contextlib.ExitStack() as stack:
            keepers = [stack.enter_context(fast.keeper()) for _ in range(4)]
            await asyncio.gather(*(becomes(CircuitState.FORCED_OPEN, keeper) for keeper in keepers))

        assert ["operator", "restored"] == [row[4] for row in rows(fast.database)]

    async def test_other_deployments_orders_are_theirs(self, fast: Fleet) -> None:
        """What was ordered in another namespace is not put back in this one."""
        elsewhere = fast.settings(namespace="elsewhere")
        await admin.order("A", Operation.OPEN, actor="ann", settings=elsewhere)
        with fast.keeper() as before:
            before.order(Operation.OPEN, "last")
        fast.lose()
        with fast.keeper() as after:
            await after.state()
            await becomes(CircuitState.FORCED_OPEN, after, "last")
            assert await after.state() is CircuitState.CLOSED

    async def test_a_history_that_is_away_is_asked_again(self, fast: Fleet, tmp_path: Path) -> None:
        """When SQL cannot answer at once, the order comes back later."""
        with fast.keeper() as before:
            before.order(Operation.OPEN)
        fast.lose()
        kept, hidden = tmp_path / "resilience.db", tmp_path / "hidden.db"
        kept.rename(hidden)
        kept.mkdir()
        with fast.keeper() as after:
            assert await after.state() is CircuitState.CLOSED
            with pytest.raises(HistoryError):  # it stood in line behind the first question
                after.recorder.ask(lambda _: None).result(20.0)
            kept.rmdir()
            hidden.rename(kept)
            await becomes(CircuitState.FORCED_OPEN, after)

    async def test_a_call_is_never_kept_waiting(self, fleet: Fleet, tmp_path: Path) -> None:
        """A whole handler: the first call after the loss is answered, later ones are refused as ordered."""
        settings = fleet.settings()
        await admin.order("Primary", Operation.OPEN, actor="ann", reason="bill", settings=settings)
        fleet.lose()

        async def answer() -> str:
            return "answer"

        async def call_until_refused() -> None:
            deadline = time.monotonic() + 20.0
            while time.monotonic() < deadline:
                await handler.call_with_retry(answer, "Primary", "F")
                await asyncio.sleep(0.01)

        async with BAMLErrorHandler(settings=settings) as handler:
            assert await handler.call_with_retry(answer, "Primary", "F") == "answer"
            with pytest.raises(CircuitOpenError, match="forced_open"):
                await call_until_refused()


class TestFromViews:
    """Processes that were there."""

    @pytest.mark.parametrize("seconds", [None, 600.0])
    @pytest.mark.parametrize("operation", [Operation.OPEN, Operation.DISABLE])
    async def test_an_order_comes_back_without_a_history(
        self, fleet: Fleet, operation: Operation, seconds: float | None
    ) -> None:
        """A view is enough: state, actor, reason, what is left of its time."""
        with Keeper(fleet.store(), None) as one:
            told = one.order(operation, seconds=seconds)
            fleet.lose()
            await becomes(told.state, one)
            fresh = (await one.breaker.peek())["A"]
        left = fresh.until - time.monotonic()

        assert told.state is fresh.state
        assert ("ann", "bill") == (fresh.actor, fresh.reason)
        assert math.isinf(left) if seconds is None else 500.0 < left < 600.0

    @pytest.mark.parametrize(
        ("later", "state"),
        [
            (Operation.CLOSE, CircuitState.CLOSED),
            (Operation.RESET, CircuitState.CLOSED),
            (Operation.DISABLE, CircuitState.DISABLED),
        ],
    )
    async def test_a_stale_view_does_not_win_over_a_later_order(
        self, fast: Fleet, later: Operation, state: CircuitState
    ) -> None:
        """What a process puts back by a view of long ago is corrected by what SQL knows was ordered since."""
        with fast.keeper() as idle, fast.keeper() as other:
            idle.order(Operation.OPEN)
            await becomes(CircuitState.FORCED_OPEN, other)
            other.order(later, actor="bob")
            eventually(lambda: len(rows(fast.database)) == 2)
            other.close()
            fast.lose()
            await becomes(state, idle)
            view = (await idle.breaker.peek())["A"]

        assert state is view.state
        assert ("bob" if state is CircuitState.DISABLED else "") == view.actor

    async def test_an_ended_order_does_not_outlive_what_came_after(self, fast: Fleet) -> None:
        """Where the circuit was closed and opened by itself since, the order of long ago that a view put back ends again."""
        with fast.keeper() as idle, fast.keeper() as other:
            idle.order(Operation.DISABLE)
            await becomes(CircuitState.DISABLED, other)
            other.order(Operation.CLOSE)
            await trip(other)
            eventually(lambda: len(rows(fast.database)) == 3)
            other.close()
            fast.lose()
            await becomes(CircuitState.CLOSED, idle)

    async def test_an_opening_that_was_ended_stays_ended(self, fast: Fleet) -> None:
        """A process that still believes a client to be down puts that back; SQL knows that an operator closed the circuit."""
        with fast.keeper() as idle, fast.keeper() as other:
            await trip(idle)
            await becomes(CircuitState.OPEN, other)
            other.order(Operation.CLOSE)
            eventually(lambda: len(rows(fast.database)) == 2)
            other.close()
            fast.lose()
            await becomes(CircuitState.CLOSED, idle)

        assert ["operator", "restored", "operator"] == [row[4] for row in rows(fast.database)][1:]

    async def test_a_process_that_never_saw_the_order_puts_it_back(self, fast: Fleet) -> None:
        """A view from before the order knows nothing of it; SQL does."""
        with fast.keeper(pace=NEVER) as idle:
            idle.order(Operation.CLOSE)
            with fast.keeper() as other:
                other.order(Operation.OPEN, seconds=None)
            fast.lose()
            await becomes(CircuitState.FORCED_OPEN, idle)

    @pytest.mark.parametrize(
        ("first", "seen", "last", "state"),
        [
            (Operation.CLOSE, Operation.OPEN, None, CircuitState.FORCED_OPEN),
            (Operation.OPEN, Operation.CLOSE, None, CircuitState.CLOSED),
            (Operation.OPEN, Operation.CLOSE, Operation.DISABLE, CircuitState.DISABLED),
            (Operation.CLOSE, Operation.OPEN, Operation.CLOSE, CircuitState.CLOSED),
        ],
    )
    async def test_an_old_copy_is_put_right(
        self,
        fast: Fleet,
        valkey: Valkey,
        first: Operation,
        seen: Operation,
        last: Operation | None,
        state: CircuitState,
    ) -> None:
        """A server comes back with the copy of its first order: what this process saw since counts, and what SQL knows since then."""
        with fast.keeper() as idle, fast.keeper() as other, valkey.looking() as client:
            other.order(first)
            copy: Any = client.hgetall("resilience:{A}")
            idle.order(seen)
            if last is not None:
                other.order(last, actor="bob")
            eventually(lambda: len(rows(fast.database)) == (2 if last is None else 3))
            other.close()
            client.delete("resilience:{A}")
            client.hset("resilience:{A}", mapping=copy)
            await becomes(state, idle)
            stands = (await idle.breaker.peek())["A"].state

        assert state is stands

    async def test_a_store_that_restarts_empty_is_told(self, tmp_path: Path) -> None:
        """Redis is killed and comes back with nothing, while a process that has only just begun to look is running."""
        with Valkey() as valkey:
            fleet = Fleet(valkey.url, f"sqlite:///{tmp_path}/resilience.db", lambda: None)
            with fleet.keeper() as before:
                before.order(Operation.OPEN, "A", reason="moved")
            with fleet.keeper(pace=QUICK) as running:
                await running.state("B")
                valkey.kill()
                await running.state("B")
                eventually(lambda: running.breaker.degraded)
                valkey.start()
                eventually(lambda: not running.breaker.degraded)
                await becomes(CircuitState.FORCED_OPEN, running)


async def test_a_list_shows_what_will_come_back(fleet: Fleet) -> None:
    """Between the loss and the next use the operator sees the order, marked; looking puts nothing back."""
    settings = fleet.settings()
    await admin.order("A", Operation.OPEN, actor="ann", reason="bill", seconds=600.0, settings=settings)
    await admin.order("B", Operation.CLOSE, actor="ann", settings=settings)
    fleet.lose()
    found = await admin.survey(settings)
    again = await admin.survey(settings)

    (circuit,) = found.circuits
    assert ("A", CircuitState.FORCED_OPEN, "ann", "bill", True) == (
        circuit.client,
        circuit.state,
        circuit.actor,
        circuit.reason,
        circuit.remembered,
    )
    assert [True] == [each.remembered for each in again.circuits]
