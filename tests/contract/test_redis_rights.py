"""What the Redis store needs of a server: rights, scripts, names of keys, Sentinels, a cluster."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import NoPermissionError, RedisError
from redis.exceptions import TimeoutError as LineTimeoutError
from support.redis_workers import PATIENT, take_step
from support.valkey_servers import Valkey, free_port

from resilience.breaker import Breaker, BreakerPolicy, CircuitState, Operation, Outcome
from resilience.breaker.messages import Batch, Order, StepReply, StepRequest
from resilience.breaker.stores.redis import AGENT_KEYS, LEAST_RIGHTS, OPERATOR_KEYS, RedisStore, open_redis
from resilience.errors import StoreError

FAILED = (Batch(0, ((Outcome.FAILURE, 5),), "", "timeout"),)


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with Valkey() as running:
        yield running


@pytest.fixture
def valkey(server: Valkey) -> Valkey:
    with server.looking() as client:
        client.flushall()
    return server


@pytest.fixture
def store(valkey: Valkey) -> Iterator[RedisStore]:
    made = valkey.store()
    yield made
    made.close()


class TestRights:
    def store_with(self, valkey: Valkey, *rights: str) -> RedisStore:
        with valkey.looking() as client:
            client.script_flush()
            execute: Any = client.execute_command
            execute("ACL", "SETUSER", "agents", "reset", "on", ">secret", *rights)
        return open_redis(f"{valkey.patient}&username=agents&password=secret")

    def test_the_least_are_enough(self, valkey: Valkey) -> None:
        """A user with exactly the documented rights can do everything that a store does."""
        store = self.store_with(valkey, "~resilience:*", *LEAST_RIGHTS.split())
        opened = take_step(store, PATIENT, order=Order(operation=Operation.OPEN, actor="ann"))
        closed = take_step(store, PATIENT, order=Order(operation=Operation.CLOSE, actor="ann"))
        store._check_writable = True  # as after a failure
        take_step(store, PATIENT)
        moves, names = store.transitions(), store.names()
        store.close()

        assert (opened.state, closed.state) == (CircuitState.FORCED_OPEN, CircuitState.CLOSED)
        assert len(moves) == 2
        assert names == ["A"]

    def test_only_operators_can_order(self, valkey: Valkey) -> None:
        """The agents' user shares circuits, and puts back what the store has lost. Its orders are refused, and cost no result."""
        agents = self.store_with(valkey, *AGENT_KEYS.split(), *LEAST_RIGHTS.split())
        with valkey.looking() as client:
            execute: Any = client.execute_command
            execute(
                "ACL", "SETUSER", "operators", "reset", "on", ">other", OPERATOR_KEYS, *LEAST_RIGHTS.split()
            )
        operators = open_redis(f"{valkey.patient}&username=operators&password=other")
        order = Order(operation=Operation.DISABLE, actor="ann")

        refused = take_step(agents, PATIENT, order=order, batches=FAILED)
        ordered = take_step(operators, PATIENT, order=order)
        with valkey.looking() as client:
            client.delete("resilience:{A}:v2")
        back = Order(
            operation=Operation.RESTORE, actor="ann", state=CircuitState.DISABLED, epoch=ordered.epoch
        )
        restored = take_step(agents, PATIENT, order=back)
        corrected = take_step(
            agents, PATIENT, order=Order(operation=Operation.CLOSE, actor="ann", corrects=True)
        )
        agents._check_writable = True  # as after a failure
        take_step(agents, PATIENT)
        moves, names = agents.transitions(), agents.names()
        for store in (agents, operators):
            store.close()

        assert "resilience:{A}:orders" in refused.refused
        assert (CircuitState.CLOSED, 5) == (refused.state, refused.failures)
        assert (CircuitState.DISABLED, "") == (ordered.state, ordered.refused)
        assert (CircuitState.DISABLED, CircuitState.CLOSED) == (restored.state, corrected.state)
        assert (3, ["A"]) == (len(moves), names)

    async def test_a_forbidden_order_is_an_error_and_no_outage(self, valkey: Valkey) -> None:
        """The operator learns the remedy. The process goes on with the circuits of the fleet."""
        self.store_with(valkey, *AGENT_KEYS.split(), *LEAST_RIGHTS.split()).close()
        breaker = Breaker(open_redis(f"{valkey.patient}&username=agents&password=secret"), PATIENT)

        with pytest.raises(StoreError, match=r"may give no orders.*resilience:\{A\}:orders"):
            await breaker.operate("A", "open", actor="ann")
        degraded = breaker.degraded
        breaker.close()

        assert not degraded

    @pytest.mark.parametrize("right", LEAST_RIGHTS.split())
    def test_none_of_them_is_superfluous(self, valkey: Valkey, right: str) -> None:
        """Without any one of them something fails."""
        store = self.store_with(
            valkey, "~resilience:*", *(each for each in LEAST_RIGHTS.split() if each != right)
        )

        def everything() -> None:
            take_step(store, PATIENT, order=Order(operation=Operation.OPEN, actor="ann"))
            take_step(store, PATIENT, order=Order(operation=Operation.CLOSE, actor="ann"))
            store.transitions()
            store._check_writable = True
            take_step(store, PATIENT)

        with pytest.raises((AssertionError, NoPermissionError), match=r"(?i)permission|access"):
            everything()
        store.close()

    def test_only_keys_of_the_namespace_are_touched(self, valkey: Valkey) -> None:
        """Names with braces, percent signs and stars stay within the namespace, and apart from each other."""
        store = open_redis(valkey.patient, "team{1}")
        for name in ("A", "{A}", "%7BA%7D", "*", "Ä:log", ""):
            store.step([StepRequest(client=name, policy=PATIENT, batches=FAILED)])
        names = store.names()
        store.close()
        with valkey.looking() as client:
            keys = [str(each) for each in client.keys("*")]

        assert names == sorted(["A", "{A}", "%7BA%7D", "*", "Ä:log", ""])
        assert all(key.startswith("team%7B1%7D:") for key in keys)
        assert len(keys) == 7


class TestFormat:
    def test_hashes_of_the_first_format_are_not_read(self, valkey: Valkey, store: RedisStore) -> None:
        """A circuit that older code wrote raises nothing and changes nothing: it has a key of its own, which stays as it is."""
        old: dict[Any, Any] = {
            "st": "open",
            "ep": "1700000000000",
            "ou": "9000000000000",
            "L": "t1=9",
            "w": "1,2,3,4,5",
            "rt": "60000",
        }
        with valkey.looking() as client:
            client.hset("resilience:{A}", mapping=old)
            client.sadd("resilience:circuits", "A")
            reply = take_step(store, PATIENT, batches=FAILED)
            kept = client.hgetall("resilience:{A}")

        assert (CircuitState.CLOSED, 5) == (reply.state, reply.failures)
        assert store.names() == ["A"]
        assert kept == old


class TestScript:
    def test_is_loaded_when_the_server_does_not_know_it(self, valkey: Valkey, store: RedisStore) -> None:
        """What NOSCRIPT refused was not counted, so it is sent again, and counted once."""
        take_step(store, PATIENT, batches=FAILED)
        with valkey.looking() as client:
            client.script_flush()

        assert take_step(store, PATIENT, batches=FAILED).failures == 10

    def test_forgotten_in_the_middle_counts_each_once(self, valkey: Valkey, store: RedisStore) -> None:
        """Of several requests only those are repeated that the server refused."""
        with valkey.looking() as client:
            sent = store._pipeline
            take_step(store, PATIENT)

            def interrupted(commands: Any) -> list[Any]:
                if len(commands) < 2:
                    return sent(commands)
                first = sent(commands[:1])
                client.script_flush()
                return [*first, *sent(commands[1:])]

            store._pipeline = interrupted  # type: ignore[method-assign]  # the server forgets between two requests
            requests = [StepRequest(client=each, policy=PATIENT, batches=FAILED) for each in "AB"]
            store._registered = {"A", "B"}
            replies = store.step(requests)

        assert [reply.failures for reply in replies if isinstance(reply, StepReply)] == [5, 5]

    def test_results_are_never_sent_twice(self, valkey: Valkey) -> None:
        """After a timeout it is unknown whether they counted. When the server continues, none of them counts twice."""
        store = open_redis(f"{valkey.url}?socket_timeout=0.5&socket_connect_timeout=5")
        take_step(store, PATIENT, batches=FAILED)
        valkey.hang()
        try:
            for _ in range(3):
                with pytest.raises((LineTimeoutError, RedisError)):
                    take_step(store, PATIENT, batches=FAILED)
        finally:
            valkey.go_on()
        counted = take_step(store, PATIENT, batches=(Batch(0, ((Outcome.FAILURE, 1),)),))
        settled = take_step(store, PATIENT)
        store.close()

        assert 6 <= counted.failures <= 21
        assert settled.failures in range(counted.failures, 22, 5)
        assert settled.failures % 5 == 1

    def test_halves_of_surrogates_do_not_cost_the_step(self, store: RedisStore) -> None:
        """A reason or a name that UTF-8 cannot carry is written with backslashes."""
        (reply,) = store.step(
            [
                StepRequest(
                    client="\udc80",
                    policy=PATIENT,
                    order=Order(operation=Operation.OPEN, actor="a\ud800", reason='"\udfff\n'),
                )
            ]
        )

        assert isinstance(reply, StepReply)
        assert (reply.actor, reply.reason) == ("a\\ud800", '"\\udfff\n')

    def test_a_key_of_another_kind_is_an_error_of_its_circuit_alone(
        self, valkey: Valkey, store: RedisStore
    ) -> None:
        """The replies of the other circuits are not affected."""
        with valkey.looking() as client:
            client.set("resilience:{A}:v2", "mine")
        replies = store.step([StepRequest(client=each, policy=PATIENT) for each in "AB"])

        assert isinstance(replies[0], RedisError)
        assert isinstance(replies[1], StepReply)


class TestRegistry:
    def test_lost_names_come_back(self, valkey: Valkey, store: RedisStore) -> None:
        """After a flush, the next results of a circuit register its name again."""
        take_step(store, PATIENT, batches=FAILED)
        with valkey.looking() as client:
            client.flushall()
        for _ in range(2):
            take_step(store, PATIENT, batches=FAILED)

        assert store.names() == ["A"]

    def test_cursors_of_other_stores_count_as_none(self, store: RedisStore) -> None:
        """After a change of the store its log is read from the beginning."""
        take_step(store, BreakerPolicy(), batches=FAILED)

        for cursor in ("17", "nonsense", "[]", ""):
            assert len(store.transitions(cursor)) == 1


class TestTopology:
    def test_a_master_is_found_through_sentinels(self, tmp_path: Path) -> None:
        """redis+sentinel:// asks the Sentinels that answer, and uses the master that they name."""
        with Valkey(tcp=True) as master:
            port = free_port()
            (tmp_path / "sentinel.conf").write_text(
                f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {master.port} 1\n"
            )
            sentinel = subprocess.Popen(
                [master.binary, str(tmp_path / "sentinel.conf"), "--sentinel"], stdout=subprocess.DEVNULL
            )
            store = open_redis(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{port}/main/2")
            try:
                reply = _repeat(lambda: take_step(store, PATIENT, batches=FAILED))
                with master.looking() as client:
                    keyspace = client.info("keyspace")
            finally:
                store.close()
                sentinel.kill()
                sentinel.wait()

        assert reply.failures == 5
        assert list(keyspace) == ["db2"]

    def test_a_cluster_keeps_each_circuit_on_its_node(self) -> None:
        """Circuits are spread over nodes, a slot that has moved is found again, and each request counts once."""
        arguments = ("--cluster-enabled", "yes")
        with Valkey(*arguments, tcp=True) as one, Valkey(*arguments, tcp=True) as two:
            with one.looking() as first, two.looking() as second:
                execute: Any = first.execute_command
                execute("CLUSTER", "ADDSLOTSRANGE", "0", "8191")
                other: Any = second.execute_command
                other("CLUSTER", "ADDSLOTSRANGE", "8192", "16383")
                execute("CLUSTER", "MEET", "127.0.0.1", str(two.port))
                _repeat(lambda: _settled(execute, other))
            store = open_redis(f"redis+cluster://127.0.0.1:{one.port}")
            clients = [f"Client{n}" for n in range(12)]
            requests = [StepRequest(client=each, policy=PATIENT, batches=FAILED) for each in clients]
            _repeat(lambda: store.step(requests[:1]))
            replies = store.step(requests)
            _move(one, two, "resilience:{Moved}:v2")
            moved = store.step(
                [StepRequest(client=each, policy=PATIENT, batches=FAILED) for each in ("Moved", "Client1")]
            )
            with one.looking() as first, two.looking() as second:
                sizes = [first.dbsize(), second.dbsize()]
            names, moves = store.names(), store.transitions()
            store.close()

        assert [reply.failures for reply in replies if isinstance(reply, StepReply)] == [10, *[5] * 11]
        assert [reply.failures for reply in moved if isinstance(reply, StepReply)] == [5, 10]
        assert names == sorted([*clients, "Moved"])
        assert moves == []
        assert min(sizes) > 1


def _move(one: Valkey, two: Valkey, key: str) -> None:
    """Move an empty slot to the other node."""
    with one.looking() as first, two.looking() as second:
        execute: Any = first.execute_command
        other: Any = second.execute_command
        slot = execute("CLUSTER", "KEYSLOT", key)
        owner = other("CLUSTER", "MYID") if slot < 8192 else execute("CLUSTER", "MYID")
        for each in (execute, other):
            each("CLUSTER", "SETSLOT", slot, "NODE", owner)


def _settled(*nodes: Any) -> None:
    for execute in nodes:
        info = execute("CLUSTER", "INFO")
        assert "cluster_state:ok" in info
        assert "cluster_known_nodes:2" in info


def _repeat(work: Any) -> Any:
    """Repeat until it works: servers need time to find each other."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return work()
        except (AssertionError, RedisError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_redis_is_imported_only_for_a_redis_url() -> None:
    """The package redis is imported when a Redis URL is opened, and not before."""
    code = """
import json, sys
import resilience
from resilience.breaker import open_store
open_store("memory://")
before = "redis" in sys.modules
open_store("redis://localhost")
print(json.dumps([before, "redis" in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == [False, True]
