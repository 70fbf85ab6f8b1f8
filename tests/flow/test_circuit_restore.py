"""A store that was emptied gets its orders and open circuits back, from a process's local circuits or from SQL."""

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
    """The URLs of store and history, and a function that empties the store."""

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
    """A fleet on Valkey, for tests that need one store only."""
    flush(valkey)
    return Fleet(valkey.patient, f"sqlite:///{tmp_path}/resilience.db", lambda: flush(valkey))


def flush(valkey: Valkey) -> None:
    with valkey.looking() as client:
        client.flushall()


def delete(folder: Path) -> None:
    for left in folder.glob("circuits.db*"):
        left.unlink()


async def becomes(state: CircuitState, keeper: Keeper, client: str = "A") -> None:
    """Refresh a circuit, as calls do, until it has the state."""
    deadline = time.monotonic() + 120
    while await keeper.state(client) is not state:
        assert time.monotonic() < deadline, f"{client} is {await keeper.state(client)}, not {state}"
        await asyncio.sleep(0.005)


async def trip(keeper: Keeper) -> None:
    """Fail until the circuit opens."""
    for _ in range(POLICY.consecutive_failures):
        keeper.breaker.settle(await keeper.breaker.admit("A"), Outcome.FAILURE, reason="overloaded")
    assert keeper.breaker.flush(10.0)


class TestFromSQL:
    """Processes that start after the loss."""

    @pytest.mark.parametrize("operation", [Operation.OPEN, Operation.DISABLE])
    @pytest.mark.parametrize("seconds", [None, 600.0])
    async def test_an_order_comes_back(
        self, fleet: Fleet, operation: Operation, seconds: float | None
    ) -> None:
        """State, actor, reason and remaining time come back, also of an order without end."""
        with fleet.keeper() as before:
            reply = before.order(operation, seconds=seconds)
        fleet.lose()
        with fleet.keeper() as after:
            await becomes(reply.state, after)
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

    async def test_what_has_ended_stays_ended(self, fleet: Fleet) -> None:
        """Orders that have expired, or were ended by another order, do not come back."""
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
            await becomes(
                CircuitState.FORCED_OPEN, after, "last"
            )  # clients are restored in order: this one is the last
            second = [await after.state(client) for client in ("expired", "closed", "reset")]

        assert [CircuitState.CLOSED] * 6 == first + second

    async def test_new_processes_restore_once(self, fast: Fleet) -> None:
        """Of several processes that start together after the loss, one restores the order."""
        with fast.keeper() as before:
            before.order(Operation.OPEN)
        fast.lose()
        with contextlib.ExitStack() as stack:
            keepers = [stack.enter_context(fast.keeper()) for _ in range(4)]
            await asyncio.gather(*(becomes(CircuitState.FORCED_OPEN, keeper) for keeper in keepers))

        assert ["operator", "restored"] == [row[4] for row in rows(fast.database)]

    async def test_orders_of_other_namespaces_are_not_restored(self, fast: Fleet) -> None:
        """An order in another namespace does not come back in this one."""
        elsewhere = fast.settings(namespace="elsewhere")
        await admin.apply_order("A", Operation.OPEN, actor="ann", settings=elsewhere, new=True, create=True)
        with fast.keeper() as before:
            before.order(Operation.OPEN, "last")
        fast.lose()
        with fast.keeper() as after:
            await after.state()
            await becomes(CircuitState.FORCED_OPEN, after, "last")
            assert await after.state() is CircuitState.CLOSED

    async def test_an_unreadable_history_is_asked_again(self, fast: Fleet, tmp_path: Path) -> None:
        """If SQL cannot answer now, the order comes back later."""
        with fast.keeper() as before:
            before.order(Operation.OPEN)
        fast.lose()
        kept, hidden = tmp_path / "resilience.db", tmp_path / "hidden.db"
        kept.rename(hidden)
        kept.mkdir()
        with fast.keeper() as after:
            assert await after.state() is CircuitState.CLOSED
            with pytest.raises(HistoryError):  # queued behind the first read of the restoration
                after.recorder.submit(lambda _: None).result(120.0)
            kept.rmdir()
            hidden.rename(kept)
            await becomes(CircuitState.FORCED_OPEN, after)

    async def test_a_call_does_not_wait_for_the_restoration(self, fleet: Fleet, tmp_path: Path) -> None:
        """A whole handler: the first call after the loss is answered, later ones are refused as ordered."""
        settings = fleet.settings()
        await admin.apply_order(
            "Primary", Operation.OPEN, actor="ann", reason="bill", settings=settings, new=True, create=True
        )
        fleet.lose()

        async def answer() -> str:
            return "answer"

        async def call_until_refused() -> None:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                await handler.call_with_retry(answer, "Primary", "F")
                await asyncio.sleep(0.01)

        async with BAMLErrorHandler(settings=settings) as handler:
            assert await handler.call_with_retry(answer, "Primary", "F") == "answer"
            with pytest.raises(CircuitOpenError, match="forced_open"):
                await call_until_refused()


class TestFromViews:
    """Processes that saw the circuits before the loss."""

    @pytest.mark.parametrize("seconds", [None, 600.0])
    @pytest.mark.parametrize("operation", [Operation.OPEN, Operation.DISABLE])
    async def test_an_order_comes_back_without_a_history(
        self, fleet: Fleet, operation: Operation, seconds: float | None
    ) -> None:
        """The local circuit suffices: state, actor, reason and remaining time come back."""
        with Keeper(fleet.store(), None) as one:
            reply = one.order(operation, seconds=seconds)
            fleet.lose()
            await becomes(reply.state, one)
            fresh = (await one.breaker.peek())["A"]
        left = fresh.until - time.monotonic()

        assert reply.state is fresh.state
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
        """A restoration from an old local circuit is corrected by the later order in SQL."""
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
        """An order that was closed, after which the circuit opened by failures, is restored from an old view and then ended."""
        with fast.keeper() as idle, fast.keeper() as other:
            idle.order(Operation.DISABLE)
            await becomes(CircuitState.DISABLED, other)
            other.order(Operation.CLOSE)
            await trip(other)
            eventually(lambda: len(rows(fast.database)) == 3)
            other.close()
            fast.lose()
            await becomes(CircuitState.CLOSED, idle)

    async def test_a_closed_circuit_stays_closed(self, fast: Fleet) -> None:
        """A process that has not seen the order restores its open circuit; SQL knows of the order, and it closes. One that has seen it restores nothing."""
        with fast.keeper() as idle, fast.keeper() as other:
            await trip(idle)
            await becomes(CircuitState.OPEN, other)
            other.order(Operation.CLOSE)
            eventually(lambda: len(rows(fast.database)) == 2)
            other.close()
            fast.lose()
            await becomes(CircuitState.CLOSED, idle)

        # Whether the process sees the order before the store is emptied is a race. The circuit is closed in both cases.
        rules = [row[4] for row in rows(fast.database)][1:]
        assert rules in (["operator"], ["operator", "restored", "operator"])

    async def test_a_process_that_never_saw_the_order_restores_it(self, fast: Fleet) -> None:
        """The local circuit is older than the order; SQL has it."""
        with fast.keeper(schedule=NEVER) as idle:
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
    async def test_an_old_backup_is_corrected(
        self,
        fast: Fleet,
        valkey: Valkey,
        first: Operation,
        seen: Operation,
        last: Operation | None,
        state: CircuitState,
    ) -> None:
        """A server is set back to its first order: the orders that this process saw, and those in SQL, count."""
        with fast.keeper() as idle, fast.keeper() as other, valkey.looking() as client:
            other.order(first)
            backup: Any = client.hgetall("resilience:{A}:v2")
            idle.order(seen)
            if last is not None:
                other.order(last, actor="bob")
            eventually(lambda: len(rows(fast.database)) == (2 if last is None else 3))
            other.close()
            client.delete("resilience:{A}:v2")
            client.hset("resilience:{A}:v2", mapping=backup)
            await becomes(state, idle)
            stands = (await idle.breaker.peek())["A"].state

        assert state is stands

    async def test_a_store_that_restarts_empty_is_restored(self, tmp_path: Path) -> None:
        """Redis is killed and comes back empty, while a process runs that has only just read its first circuit."""
        with Valkey() as valkey:
            fleet = Fleet(valkey.url, f"sqlite:///{tmp_path}/resilience.db", lambda: None)
            with fleet.keeper() as before:
                before.order(Operation.OPEN, "A", reason="moved")
            with fleet.keeper(schedule=QUICK) as running:
                await running.state("B")
                valkey.kill()
                await running.state("B")
                eventually(lambda: running.breaker.degraded)
                valkey.start()
                eventually(lambda: not running.breaker.degraded)
                await becomes(CircuitState.FORCED_OPEN, running)


async def test_a_report_shows_what_will_be_restored(fleet: Fleet) -> None:
    """Between the loss and the next call the report shows the order, marked; reading restores nothing."""
    settings = fleet.settings()
    await admin.apply_order(
        "A",
        Operation.OPEN,
        actor="ann",
        reason="bill",
        seconds=600.0,
        settings=settings,
        new=True,
        create=True,
    )
    await admin.apply_order("B", Operation.CLOSE, actor="ann", settings=settings, new=True, create=True)
    fleet.lose()
    found = await admin.circuits_report(settings)
    again = await admin.circuits_report(settings)

    (circuit,) = found.circuits
    assert ("A", CircuitState.FORCED_OPEN, "ann", "bill", True) == (
        circuit.client,
        circuit.state,
        circuit.actor,
        circuit.reason,
        circuit.from_history,
    )
    assert [True] == [circuit.from_history for circuit in again.circuits]
