"""The SQLite store: its file, its transactions, and processes that use it at once, are killed in it, and start together."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.circuit_workers import (
    PATIENT,
    fail,
    first_call,
    flap,
    probe_and_hang,
    processes,
    report_failures,
    step_for,
)

from resilience import damage_counts
from resilience.breaker import BreakerPolicy, CircuitState, Cooldown, Operation, Outcome
from resilience.breaker.messages import Batch, Order, StepReply, StepRequest
from resilience.breaker.stores import sqlite as sqlite_store
from resilience.breaker.stores.sqlite import _COLUMNS, SQLiteStore
from resilience.errors import StoreError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "circuits.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    made = SQLiteStore(path)
    yield made
    made.close()


def ask(store: SQLiteStore, policy: BreakerPolicy, **fields: Any) -> StepReply:
    (reply,) = store.step([StepRequest(client="A", policy=policy, **fields)])
    assert isinstance(reply, StepReply)
    return reply


def look(store: SQLiteStore) -> StepReply:
    (reply,) = store.step([StepRequest(client="A", policy=PATIENT)])
    assert isinstance(reply, StepReply)
    return reply


class TestFile:
    def test_is_for_its_owner_alone(self, store: SQLiteStore, path: Path) -> None:
        """The file and those that SQLite puts beside it are readable by their owner only, whatever the umask."""
        before = os.umask(0)
        try:
            fail(store)
        finally:
            os.umask(before)

        assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}

    def test_outlives_the_store(self, store: SQLiteStore, path: Path) -> None:
        """Results are there for the next process."""
        fail(store, 3)
        store.close()
        another = SQLiteStore(path)
        failures = look(another).failures
        another.close()

        assert failures == 3

    def test_of_a_newer_version_is_not_touched(self, store: SQLiteStore, path: Path) -> None:
        """A file with a higher version is refused by name, and stays as it is."""
        look(store)
        store.close()
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version=99")
        connection.close()
        with pytest.raises(StoreError, match="version 99"):
            look(store)

    def test_of_format_1_is_upgraded(self, store: SQLiteStore, path: Path) -> None:
        """A file of the first format raises nothing: its circuits start closed, and its transition log is kept."""
        old = sqlite3.connect(path)
        old.execute("CREATE TABLE circuits (client TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID")
        old.execute(
            """INSERT INTO circuits VALUES ('A', '{"st":"open","ep":"1700000000000","ou":"9000000000000"}')"""
        )
        old.executescript(sqlite_store._SCHEMA.partition(";\n")[2])
        old.execute(
            "INSERT INTO transitions VALUES "
            "(7, 'A', 1700000000000, 1700000000000, 'closed', 'open', 'failure_rate', 'timeout', '', 9, 5, 30000)"
        )
        old.execute("PRAGMA user_version=1")
        old.commit()
        old.close()

        assert look(store).state is CircuitState.CLOSED
        assert fail(store, 2).failures == 2
        assert [CircuitState.OPEN] == [transition.to_state for transition in store.transitions()]
        assert store.names() == ["A"]

    def test_that_is_no_database_is_an_error(self, store: SQLiteStore, path: Path) -> None:
        """A file that is no database raises, and is not changed."""
        path.write_text("dear diary " * 500)
        with pytest.raises(sqlite3.DatabaseError):
            look(store)

        assert path.read_text().startswith("dear diary")

    def test_that_was_deleted_is_created_again(self, store: SQLiteStore, path: Path) -> None:
        """If the file is deleted in use, the next step creates a new one instead of writing to the deleted one."""
        fail(store, 3)
        for each in path.parent.iterdir():
            each.unlink()
        assert fail(store).failures == 1
        another = SQLiteStore(path)

        assert look(another).failures == 1
        another.close()

    def test_whose_folder_cannot_be_made_is_an_error(self, tmp_path: Path) -> None:
        """A folder that cannot be created raises; the sync thread treats that as an outage."""
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            look(SQLiteStore(tmp_path / "file" / "circuits.db"))

    @pytest.mark.parametrize("row", ["", "{", "[1]", '"x"', '{"state": "melted", "epoch": "x"}'])
    def test_with_an_unreadable_row_resets_that_circuit(
        self, store: SQLiteStore, path: Path, row: str
    ) -> None:
        """A damaged row costs one circuit its memory, and raises nothing."""
        fail(store, 3)
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE circuits SET data = ?", (row,))
        connection.close()

        assert (look(store).state, look(store).failures) == (CircuitState.CLOSED, 0)
        assert fail(store).failures == 1

    @pytest.mark.parametrize(
        "data",
        [
            *('{"epoch": 1e999, "state": "open", "state_until": 9e18}', '{"epoch": NaN, "reason": {"a": 1}}', "[" * 5000),
            *("null", "5", '"x"', "{", b"\xff\xfe", '{"reason": "' + "x" * 100_000 + '", "epoch": -4, "leases": 5}'),
            '{"cooldown_until": "4503599627370496", "buckets": [1]}',
        ],
    )  # fmt: skip
    def test_with_a_planted_row_works_on(self, store: SQLiteStore, path: Path, data: str | bytes) -> None:
        """Whatever another program wrote, the circuit can be read, opens on failures, and the damage is counted."""
        ask(store, BreakerPolicy())
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("INSERT OR REPLACE INTO circuits VALUES ('A', ?)", (data,))
        damage_counts.counts.clear()

        before = ask(store, BreakerPolicy())
        failures = Batch(before.epoch, ((Outcome.FAILURE, 30),), "", "timeout")
        after = ask(store, BreakerPolicy(), batches=(failures,))

        assert CircuitState.OPEN is after.state
        assert after.wait_ms <= BreakerPolicy().longest_open_ms
        assert damage_counts.counts["circuit"]

    def test_with_a_planted_log_skips_those_entries(self, store: SQLiteStore, path: Path) -> None:
        """Texts for numbers, unknown words and times that no calendar has hide no other transition."""
        order = Order(operation=Operation.OPEN, actor="ann")
        ask(store, BreakerPolicy(), order=order)
        good = ("A", 1, 5, "closed", "open", "probe", "", "", 1, 1, 0)
        planted: list[dict[int, object]] = [
            {2: 10**17},
            {2: "soon"},
            {3: "ajar"},
            {5: "whim"},
            {8: 2**40},
            {6: b"\xff"},
            {0: b"\xff"},
            {1: -1},
        ]
        with closing(sqlite3.connect(path)) as other, other:
            for number, change in enumerate(planted):
                row = [change.get(place, value) for place, value in enumerate(good)]
                row[1] = row[1] if 1 in change else number + 10
                marks = ", ".join("?" * len(good))
                other.execute(f"INSERT INTO transitions ({_COLUMNS}) VALUES ({marks})", row)  # noqa: S608 - of this test
        ask(store, BreakerPolicy(), order=Order(operation=Operation.CLOSE, actor="ann"))
        damage_counts.counts.clear()

        log = store.transitions()

        assert ["forced_open", "closed"] == [move.to_state for move in log]
        assert len(planted) == damage_counts.counts["transition"]

    def test_can_be_read_by_people(self, store: SQLiteStore, path: Path) -> None:
        """The data is JSON of plain text, and transitions are columns."""
        fail(store, 5, BreakerPolicy())
        with sqlite3.connect(path) as connection:
            (data,) = connection.execute("SELECT data FROM circuits WHERE client = 'A'").fetchone()
            moves = connection.execute("SELECT client, from_state, to_state FROM transitions").fetchall()
        connection.close()

        assert json.loads(data)["state"] == "open"
        assert moves == [("A", "closed", "open")]


class TestTransactions:
    def test_nothing_changed_is_nothing_written(self, store: SQLiteStore, path: Path) -> None:
        """Reads, refused probes and ignored results do not write to the file."""
        fail(store, 5, BreakerPolicy())
        version = changes(path)
        epoch = look(store).epoch
        for request in (
            StepRequest(client="A", policy=PATIENT),
            StepRequest(client="A", policy=PATIENT, token="t"),  # noqa: S106 - a lease's name
            StepRequest(client="A", policy=PATIENT, batches=(Batch(epoch, ((Outcome.IGNORED, 5),)),)),
            StepRequest(client="B", policy=PATIENT),
        ):
            store.step([request])

        assert changes(path) == version

    def test_state_and_transition_are_one(self, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """If the log cannot be written the state does not change either, and the next step works."""

        def broken(*_: Any) -> None:
            msg = "disk"
            raise sqlite3.OperationalError(msg)

        fail(store, 4, BreakerPolicy())
        with monkeypatch.context() as patched:
            patched.setattr(sqlite_store, "_log", broken)
            with pytest.raises(sqlite3.OperationalError, match="disk"):
                fail(store, 1, BreakerPolicy())
        assert (look(store).state, look(store).failures) == (CircuitState.CLOSED, 4)

        assert fail(store, 1, BreakerPolicy()).state is CircuitState.OPEN

    def test_a_lock_that_is_never_released_is_an_error(
        self, store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that holds the lock for ever causes an error. A mere look still works, and nothing was counted."""
        monkeypatch.setattr(sqlite_store, "_LOCK_TIMEOUT", 0.02)
        fail(store)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            fail(store)
        (read,) = store.step([StepRequest(client="A")])
        other.execute("ROLLBACK")
        other.close()

        assert isinstance(read, StepReply)
        assert read.failures == 1
        assert fail(store).failures == 2

    def test_a_file_that_stays_locked_is_not_back_because_it_can_be_read(
        self, store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After an error the next question of a process takes the write lock, so that the store is not taken for well."""
        monkeypatch.setattr(sqlite_store, "_LOCK_TIMEOUT", 0.02)
        fail(store)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        question = StepRequest(client="A", policy=BreakerPolicy())
        store.step([question])
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            fail(store)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            store.step([question])
        other.execute("ROLLBACK")
        other.close()

        assert len(store.step([question])) == 1

    def test_another_error_is_not_waited_for(self, store: SQLiteStore) -> None:
        """Only a held lock is waited for."""
        look(store)
        assert store._connection is not None
        with pytest.raises(sqlite3.OperationalError, match="syntax"):
            sqlite_store._execute_unlocked(store._connection, "BEGIN SOON")

    def test_an_inherited_connection_is_left_to_its_owner(
        self, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In the child of a fork an inherited connection is neither used nor closed, but kept until the process ends."""
        fail(store, 2)
        inherited = store._connection
        assert inherited is not None
        pid = os.getpid()
        with monkeypatch.context() as patched:
            patched.setattr(os, "getpid", lambda: pid + 1)
            assert look(store).failures == 2
        assert sqlite_store._inherited[-1] is inherited
        assert inherited.execute("SELECT 1").fetchone() == (1,)
        sqlite_store._inherited.pop().close()


def changes(path: Path) -> int:
    """Return a number that changes when the file or its WAL is written."""
    return (
        path.stat().st_size,
        Path(f"{path}-wal").stat().st_size,
        Path(f"{path}-wal").stat().st_mtime_ns,
    ).__hash__()


def gather(count: int, target: Callable[..., None], *arguments: Any) -> list[Any]:
    """Start *count* processes at the same moment, and return what each sends."""
    barrier = processes.Barrier(count)
    pipes, started = [], []
    for _ in range(count):
        receiver, sender = processes.Pipe(duplex=False)
        process = processes.Process(target=target, args=(*arguments, barrier, sender))
        process.start()
        sender.close()
        pipes.append(receiver)
        started.append(process)
    answers = [receiver.recv() if receiver.poll(240) else None for receiver in pipes]
    for process, receiver in zip(started, pipes, strict=True):
        process.join(240)
        process.close()
        receiver.close()
    return answers


class TestProcesses:
    def test_sixteen_lose_no_result_and_are_never_degraded(self, path: Path) -> None:
        """16 processes that create the file at once and write all the time share every result: 16 x 15 failures are 240."""
        assert gather(16, report_failures, path, 15) == ["shared"] * 16
        with closing(SQLiteStore(path)) as store:
            assert look(store).failures == 240

    def test_the_log_of_killed_processes_is_an_unbroken_chain(self, store: SQLiteStore, path: Path) -> None:
        """Processes that trip and probe are killed at any moment: every transition follows from the last, none twice."""
        barrier = processes.Barrier(4)
        started = [processes.Process(target=flap, args=(path, barrier)) for _ in range(4)]
        for process in started:
            process.start()
        deadline = time.monotonic() + 120
        for survivors in (3, 2, 1, 0):
            seen = len(store.transitions())
            while len(store.transitions()) < seen + 10 and time.monotonic() < deadline:
                time.sleep(0.01)
            victim = started[survivors]
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            victim.join(240)
            victim.close()
        log = store.transitions()

        assert len(log) >= 40
        assert [move.from_state for move in log[1:]] == [move.to_state for move in log[:-1]]
        assert len({move.epoch for move in log}) == len(log)
        assert [move.epoch for move in log] == sorted(move.epoch for move in log)

    def test_a_killed_prober_is_replaced_after_its_lease(self, store: SQLiteStore, path: Path) -> None:
        """SIGKILL ends the prober with the only lease. When the lease is over another process probes and closes (interlock: never)."""
        policy = BreakerPolicy(open_for=0.05, probe_lease=0.4, open_jitter=0.0)
        fail(store, 5, policy)
        receiver, sender = processes.Pipe(duplex=False)
        prober = processes.Process(target=probe_and_hang, args=(path, sender))
        prober.start()
        assert receiver.recv() is True
        assert prober.pid is not None
        os.kill(prober.pid, signal.SIGKILL)
        prober.join(240)
        prober.close()
        for pipe in (receiver, sender):
            pipe.close()
        deadline = time.monotonic() + 120
        while not (reply := step_for(store, policy, token="next")).granted:  # noqa: S106 - a lease's name
            assert time.monotonic() < deadline
            time.sleep(0.005)

        assert (
            step_for(store, policy, batches=(Batch(reply.epoch, ((Outcome.SUCCESS, 1),), "next"),)).state
            == "closed"
        )

    def test_a_process_born_in_open_makes_no_call(self, store: SQLiteStore, path: Path) -> None:
        """New processes see the shared state before their first call (interlock: 50 of 50 in the first second)."""
        fail(store, 5, BreakerPolicy())
        store.step(
            [
                StepRequest(
                    client="A",
                    policy=PATIENT,
                    cooldowns=((0, Cooldown(seconds=90.0, max_seconds=300.0, reason="rate_limit")),),
                )
            ]
        )

        assert gather(3, first_call, path) == ["refused: rate_limit"] * 3
