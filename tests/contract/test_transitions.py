"""Every transition of a circuit is in SQL once, also if the process that caused it was killed: one contract for every store."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.circuit_bench import FragileStore
from support.circuit_events_bench import (
    AFTER_EPOCHS,
    NEVER,
    QUICK,
    Keeper,
    ask,
    cursor,
    eventually,
    log_rows,
    rows,
)
from support.history_places import Place, migrated_file, migrated_postgres, place
from support.valkey_servers import Valkey

from resilience.breaker import CircuitState, Operation, Order, Outcome, Store, open_store
from resilience.breaker.messages import Cooldown
from resilience.breaker.stores.memory import MemoryStore
from resilience.errors import HistoryError
from resilience.history.schema import urls
from resilience.history.schema.engine import open_engine
from resilience.history.schema.sqlite_driver import module as sqlite3
from resilience.history.schema.tables import maintenance
from resilience.history.store import job_leases, transitions
from resilience.logs import JsonLines
from resilience.testing import ManualClock

__all__ = ["migrated_file", "migrated_postgres", "place"]
_ORDERS = (Operation.OPEN, Operation.CLOSE, Operation.DISABLE, Operation.RESET)


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with Valkey() as running:
        yield running


@pytest.fixture(params=["memory", "sqlite", "valkey"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Opens the shared store again, as another process would."""
    if request.param == "memory":
        only = MemoryStore()
        return lambda: only
    if request.param == "sqlite":
        return lambda: open_store(f"sqlite:///{tmp_path}/circuits.db", namespace="resilience")
    running: Valkey = request.getfixturevalue("valkey")
    with running.looking() as client:
        client.flushall()
    return running.store


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A history without tables."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/resilience.db"


@pytest.fixture
def database(place: Place) -> str:
    """A history with its tables."""
    return place.url


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A history in a file that does not exist yet."""
    return f"sqlite:///{tmp_path}/resilience.db"


@pytest.fixture
def killed(opened: Callable[[], Store]) -> Iterator[Store]:
    """The store of a process that never records what it did."""
    store = opened()
    yield store
    store.close()


class TestEveryStore:
    def test_a_process_records_its_transitions_once(self, opened: Callable[[], Store], file: str) -> None:
        """Every transition is one row, also when the log is copied in between."""
        with Keeper(opened(), file) as one:
            for operation in _ORDERS:
                one.order(operation)
            log = one.breaker.fetch_transitions("").result(120.0)

        assert len(log) == 4
        assert log_rows(log) == sorted(rows(file))

    async def test_a_cool_down_of_the_fleet_has_one_row(self, opened: Callable[[], Store], file: str) -> None:
        """Two processes whose results ask for the same cool-down make one row; one that lasts longer makes another; no circuit moves."""
        with Keeper(opened(), file) as one, Keeper(opened(), file) as two:
            permits = [await keeper.breaker.admit("A") for keeper in (one, two, one)]
            for keeper, permit, seconds in zip((one, two, one), permits, (60.0, 30.0, 200.0), strict=True):
                wait = Cooldown(seconds=seconds, max_seconds=300.0, reason="rate_limit")
                keeper.breaker.settle(permit, Outcome.IGNORED, cooldown=wait)
                assert keeper.breaker.flush(60.0)
        found = rows(file, "from_state, to_state, rule, reason, actor, epoch < 0, wait")

        assert [row[:-1] for row in found] == 2 * [("closed", "closed", "cool_down", "rate_limit", "", 1)]
        assert {60, 200} == {round(row[-1], -1) for row in found}
        assert transitions.read_circuit_history(file, "resilience").transitions == {}

    def test_transitions_of_a_killed_process_are_written_by_another(
        self, opened: Callable[[], Store], killed: Store, file: str
    ) -> None:
        """A process that sees a new epoch copies the whole log, each time, with the transitions of other clients."""
        with Keeper(opened(), file, schedule=AFTER_EPOCHS) as one:
            for round_ in (1, 2):
                for operation in _ORDERS:
                    ask(killed, operation)
                    ask(killed, operation, "B")
                one.order(_ORDERS[round_], "C")
                eventually(lambda: len(rows(file)) == 9 * round_)  # noqa: B023 - called at once
        log = log_rows(killed.transitions())

        assert sorted(rows(file)) == log

    def test_a_quiet_fleet_is_complete_too(
        self, opened: Callable[[], Store], killed: Store, file: str
    ) -> None:
        """A process copies the log periodically, although it has seen no new epoch."""
        with Keeper(opened(), file) as one:
            one.order(Operation.OPEN)
            eventually(lambda: len(rows(file)) == 1)
            ask(killed, Operation.CLOSE)  # the other process gets no reply that shows it
            eventually(lambda: len(rows(file)) == 2)

    def test_many_copying_processes_write_nothing_twice(
        self, opened: Callable[[], Store], killed: Store, file: str
    ) -> None:
        """Four processes that copy at any time leave one row for each transition."""
        keepers = [Keeper(opened(), file) for _ in range(4)]
        for number in range(24):
            keepers[number % 4].order(_ORDERS[number % 4], "AB"[number % 2])
            ask(killed, _ORDERS[number % 4], "BA"[number % 2])
        for keeper in keepers:
            keeper.close()

        eventually(lambda: sorted(rows(file)) == log_rows(killed.transitions()))
        assert len(rows(file)) >= 24

    def test_closing_makes_the_pending_copy(
        self, opened: Callable[[], Store], killed: Store, file: str
    ) -> None:
        """A process that closes makes its pending copy first."""
        ask(killed, Operation.OPEN)
        with Keeper(opened(), file, schedule=NEVER) as one:
            one.order(Operation.CLOSE)

        assert [CircuitState.FORCED_OPEN, CircuitState.CLOSED] == [row[3] for row in rows(file)]


class TestTrouble:
    def test_a_dead_database_only_delays(self, tmp_path: Path) -> None:
        """Orders are executed while the history cannot be written; later it has them all."""
        folder = tmp_path / "there"
        folder.write_text("a file where a folder must be")
        file = f"sqlite:///{folder}/resilience.db"
        store = MemoryStore()
        ask(store, Operation.OPEN)
        with Keeper(store, file) as one:
            assert one.order(Operation.DISABLE).state is CircuitState.DISABLED
            eventually(lambda: one.recorder.queue_depth == 1)
            folder.unlink()
            folder.mkdir()
            assert one.recorder.flush(20.0)
            eventually(lambda: len(rows(file)) == 2)

    def test_a_dead_store_only_delays(self, file: str) -> None:
        """Transitions that cannot be read now are copied when the store is back."""
        inner = MemoryStore()
        store = FragileStore(inner)
        with Keeper(store, file) as one:
            one.order(Operation.OPEN)
            store.error = ConnectionError("refused")
            ask(inner, Operation.CLOSE)
            eventually(lambda: len(rows(file)) == 1)
            store.error = None
            eventually(lambda: len(rows(file)) == 2)

    def test_a_log_that_began_again_is_read_from_its_start(self, tmp_path: Path, file: str) -> None:
        """A deleted store file starts its ids again: the cursor distinguishes the two files."""
        url = f"sqlite:///{tmp_path}/circuits.db"
        with Keeper(open_store(url), file) as one:
            one.order(Operation.OPEN, seconds=60.0)
            eventually(lambda: cursor(file) != "")
        for left in tmp_path.glob("circuits.db*"):
            left.unlink()
        again = open_store(url)
        ask(again, Operation.DISABLE)
        with Keeper(open_store(url), file) as other:
            other.order(Operation.CLOSE)
            eventually(lambda: len(rows(file)) == 3)
        again.close()

        assert ["forced_open", "disabled", "closed"] == [row[3] for row in rows(file)]

    def test_a_trimmed_log_is_read_from_its_oldest_entry(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A cursor whose entry was trimmed continues with the oldest entry, and a read entry is not read again."""
        monkeypatch.setattr("resilience.breaker.stores.sqlite.LOG_LENGTH", 3)
        store = open_store(f"sqlite:///{tmp_path}/circuits.db")
        ask(store, Operation.OPEN)
        (first,) = store.transitions()
        for _ in range(5):
            ask(store, Operation.DISABLE)
        left = store.transitions(first.cursor)
        none = store.transitions(left[-1].cursor)
        store.close()

        assert len(left) == 3
        assert none == []

    @pytest.mark.parametrize("cursor", ["17", "1:", '{"A": "1-1"}', "99:12"])
    def test_cursors_of_other_stores_are_ignored(self, tmp_path: Path, cursor: str) -> None:
        """A history that was copied from another store reads this one from its start."""
        store = open_store(f"sqlite:///{tmp_path}/circuits.db")
        ask(store, Operation.OPEN)
        found = store.transitions(cursor)
        store.close()

        assert len(found) == 1

    def test_a_programming_error_is_logged_and_ends_nothing_else(
        self, file: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Steps that fail by a programming error log it once; the recorder goes on."""

        def broken(*_: object, **__: object) -> None:
            msg = "mistake"
            raise KeyError(msg)

        with Keeper(MemoryStore(), file, schedule=QUICK) as one:
            monkeypatch.setattr(one.events, "_shared_record", broken)
            one.breaker.submit_order("A", Order(operation=Operation.OPEN, actor="ann")).result(120.0)
            eventually(lambda: "the history of circuits failed" in caplog.text)
            assert one.recorder.flush(10.0)


class TestScope:
    def test_circuits_of_one_process_have_its_scope(self, file: str) -> None:
        """Circuits that no other process shares have the instance as scope, and are neither copied nor restored."""
        with Keeper(MemoryStore(), file, shared=False) as one:
            one.order(Operation.OPEN)
            assert one.recorder.flush(10.0)
            instance = one.recorder.instance_id

        assert [(instance, "forced_open")] == rows(file, "scope, to_state", "scope <> 'shared'")
        assert cursor(file) == ""

    async def test_transitions_during_an_outage_of_the_store_are_the_processs_own(self, file: str) -> None:
        """Without the store, transitions of the local circuit have the instance as scope and the wall clock's time, in each outage."""
        clock = ManualClock(start=1000.0)
        store = FragileStore(MemoryStore(clock=clock))
        with Keeper(store, file, clock=clock, schedule=NEVER) as one:
            one.order(Operation.CLOSE)  # both outages continue from one shared epoch
            for outage in range(2):
                await one.state()
                store.error = ConnectionError("refused")
                for _ in range(5):
                    one.breaker.settle(await one.breaker.admit("A"), Outcome.FAILURE, reason="timeout")
                eventually(lambda: one.breaker.degraded)
                with pytest.raises(Exception, match="not being asked"):
                    await one.breaker.admit("A")
                store.error = None
                clock.advance(60.0)
                eventually(lambda: not one.breaker.degraded)
                assert outage < 2
            assert one.recorder.flush(10.0)
            instance = one.recorder.instance_id
        found = rows(file, "scope, to_state, reason, occurred_at", "scope <> 'shared'")

        assert [(instance, "open", "timeout")] * 2 == [row[:3] for row in found]
        assert datetime.fromisoformat(found[0][3]).replace(tzinfo=UTC).timestamp() == pytest.approx(
            clock.time() - 120.0, abs=1.0
        )


class TestWhatIsKept:
    def test_a_row_has_actor_reason_and_duration(self, file: str, tmp_path: Path) -> None:
        """Actor, reason and duration of an order are in SQL and in the log; secrets in the reason are masked."""
        with Keeper(MemoryStore(), file, sinks=[JsonLines(tmp_path)]) as one:
            one.order(Operation.OPEN, seconds=600.0, reason="key sk-proj-abcdefghijklmnopqrstuvwxyz012345")
            one.order(Operation.DISABLE, seconds=None)
        found = rows(file, "to_state, rule, actor, wait, indefinite")
        lines = [json.loads(line) for line in (tmp_path / "operations.jsonl").read_text().splitlines()]

        assert [
            ("forced_open", "operator", "ann", 600.0, 0),
            ("disabled", "operator", "ann", None, 1),
        ] == found
        assert ["breaker.state"] * 2 == [line["event"] for line in lines]
        assert [False, True] == [line["indefinite"] for line in lines]
        assert "sk-proj" not in json.dumps(lines) + str(rows(file))

    def test_a_gap_shows_in_sql(self, file: str) -> None:
        """The query in the docstring of `transitions` finds transitions that were never copied, and nothing else."""
        with Keeper(MemoryStore(), file) as one:
            for operation in _ORDERS:
                one.order(operation)
        query = "SELECT " + transitions.__doc__.partition("SELECT ")[2].partition(";")[0]
        with sqlite3.connect(file.removeprefix("sqlite:///")) as connection:
            whole = connection.execute(query).fetchall()
            connection.execute("DELETE FROM breaker_events WHERE to_state = 'disabled'")
            gaps = connection.execute(query).fetchall()
        connection.close()

        assert whole == []
        assert [("closed", "disabled")] == [row[2:] for row in gaps]

    def test_nothing_is_recorded_without_a_history(self) -> None:
        """Without a database there is no thread, no row and no error."""
        with Keeper(MemoryStore(), None) as one:
            one.order(Operation.OPEN)
            with pytest.raises(HistoryError, match="no history is kept"):
                one.recorder.submit(lambda _: None).result(0)


class TestJobs:
    """`job_leases.acquire` and `append`, on both databases."""

    @pytest.fixture
    def connection(self, database: str) -> Iterator[sa.Connection]:
        engine = open_engine(urls.parse(database), wait=10)
        with engine.connect() as opened:
            yield opened
        engine.dispose()

    def claimed(self, connection: sa.Connection, owner: str = "a" * 32, every: float = 60.0) -> str | None:
        try:
            return job_leases.acquire(connection, job="j", owner=owner, period=every)
        finally:
            connection.commit()

    def test_one_of_several_processes_gets_the_job(self, connection: sa.Connection) -> None:
        """The first gets it, with an empty cursor; the others only after the interval."""
        assert [self.claimed(connection), self.claimed(connection), self.claimed(connection, every=0.0)] == [
            "",
            None,
            "",
        ]

    def test_a_claim_from_the_future_is_ignored(self, connection: sa.Connection) -> None:
        """A clock that was set back does not stop the copying."""
        self.claimed(connection)
        connection.execute(sa.update(maintenance).values(last_run_at=datetime(2999, 1, 1, tzinfo=UTC)))

        assert self.claimed(connection) == ""

    def test_a_cursor_moves_only_from_its_own_value(self, connection: sa.Connection) -> None:
        """A process that read from an older cursor adds rows, but does not move the cursor."""
        self.claimed(connection)
        places = []
        for before, after in (("", "5"), ("", "3"), ("5", "7")):
            transitions.append(connection, [], instance_id="a" * 32, job="j", before=before, after=after)
            places.append(self.claimed(connection, every=0.0))

        assert ["5", "5", "7"] == places

    def test_the_last_transition_counts(self, database: str) -> None:
        """`read_circuit_history` returns each client's last transition, without restorations and without other namespaces."""
        store = MemoryStore()
        with Keeper(store, database) as one:
            one.order(Operation.OPEN)
            one.order(Operation.CLOSE)
            one.order(Operation.DISABLE, "B")
            one.order(Operation.RESTORE, "C", state=CircuitState.DISABLED)
        ours = transitions.read_circuit_history(database, "resilience").transitions
        others = transitions.read_circuit_history(database, "elsewhere").transitions

        assert {"A": "closed", "B": "disabled"} == {client: last.to_state for client, last in ours.items()}
        assert others == {}

    def test_reading_creates_nothing(self, empty: str, tmp_path: Path) -> None:
        """A missing history, or one without tables, reads as empty; one that cannot be read is an error."""
        assert transitions.read_circuit_history(empty, "resilience") == transitions.CircuitHistory()
        assert transitions.read_circuit_history(None, "resilience") == transitions.CircuitHistory()
        assert not (tmp_path / "resilience.db").exists()
        (tmp_path / "resilience.db").write_text("no database")
        with pytest.raises(HistoryError, match="cannot be read"):
            transitions.read_circuit_history(f"sqlite:///{tmp_path}/resilience.db", "resilience")


def test_a_forked_child_starts_its_own_steps(file: str, tmp_path: Path) -> None:
    """The parent's steps continue in the parent alone; a child copies after the epochs it sees itself."""
    url = f"sqlite:///{tmp_path}/circuits.db"
    with Keeper(open_store(url), file, schedule=NEVER) as one:
        one.order(Operation.OPEN)
        pid = os.fork()
        if pid == 0:
            try:
                one.order(Operation.CLOSE)
                one.close()
            except BaseException:  # noqa: BLE001 - a child of a fork ends here, whatever happens
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert ["forced_open", "closed"] == [row[3] for row in rows(file)]


class TestDegraded:
    async def test_a_process_reports_that_its_store_is_away(self, file: str) -> None:
        """The heartbeat keeps `instances.degraded` up to date, also for a process that writes nothing else."""
        store = FragileStore(MemoryStore())
        with Keeper(store, file) as one:
            one.order(Operation.OPEN)
            assert one.recorder.flush(10.0)
            before = transitions.read_circuit_history(file, "resilience").degraded
            store.error = ConnectionError("refused")
            await one.state()
            eventually(lambda: transitions.read_circuit_history(file, "resilience").degraded == 1)
            store.error = None
            eventually(lambda: transitions.read_circuit_history(file, "resilience").degraded == 0)

        assert before == 0
