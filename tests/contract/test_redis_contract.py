"""The Redis store fulfils the contract of every store: the same suite on a real Valkey, on fakeredis, and on the servers on PATH."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
import test_store_contract as contract
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from support.lua_twin import TwinMachine, TwinStore, a_ramp_follows_the_clock, planted_times_are_damage
from support.valkey_servers import Valkey, binaries

from resilience.breaker import Operation, Store
from resilience.breaker.messages import Order, StepRequest
from resilience.breaker.stores.redis import SCRIPT
from resilience.breaker.stores.redis_connection import RedisConnection, connect
from resilience.breaker.stores.redis_url import parse
from resilience.testing import ManualClock

SERVERS = [*binaries(), "fakeredis"]


class FakeConnection:
    """A connection to a server that is a Python object."""

    def __init__(self) -> None:
        self._client = fakeredis.FakeRedis(decode_responses=True, encoding_errors="backslashreplace")

    def server_for(self, key: str) -> Any:
        return self._client

    def load_script(self, script: str) -> None:
        self._client.script_load(script)

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module", params=SERVERS, ids=lambda path: path.rpartition("/")[2])
def connection(request: pytest.FixtureRequest) -> Iterator[RedisConnection]:
    if request.param == "fakeredis":
        yield (fake := FakeConnection())
        fake.close()
        return
    with Valkey(binary=request.param) as valkey:
        yield (connection := connect(parse(valkey.patient)))
        connection.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(connection: RedisConnection, clock: ManualClock) -> Iterator[Store]:
    connection.server_for("").flushall()
    made = TwinStore(connection, SCRIPT, lambda: round(1000 * clock.time()), log_length=1000)
    yield made
    made.close()


# The suite itself: its functions, with this file's fixtures.
test_an_unknown_circuit_is_closed = contract.test_an_unknown_circuit_is_closed
test_results_are_kept = contract.test_results_are_kept
test_replies_come_in_the_order_of_requests = contract.test_replies_come_in_the_order_of_requests
test_circuits_do_not_touch_each_other = contract.test_circuits_do_not_touch_each_other
test_the_whole_life_of_a_circuit = contract.test_the_whole_life_of_a_circuit
test_the_log_is_read_from_a_cursor = contract.test_the_log_is_read_from_a_cursor
test_cool_downs_and_orders_are_kept = contract.test_cool_downs_and_orders_are_kept
test_reading_writes_nothing = contract.test_reading_writes_nothing
test_a_clock_that_goes_back_prolongs_nothing = contract.test_a_clock_that_goes_back_prolongs_nothing
test_a_disconnected_store_connects_again = contract.test_a_disconnected_store_connects_again
test_old_circuits_stay_small = contract.test_old_circuits_stay_small


def test_each_circuits_log_is_capped(connection: RedisConnection, clock: ManualClock) -> None:
    """A circuit that flaps for years keeps its last transitions, and the others lose none of theirs."""
    connection.server_for("").flushall()
    store = TwinStore(connection, SCRIPT, lambda: round(1000 * clock.time()), log_length=10)
    contract.ask(store, "B", order=Order(operation=Operation.DISABLE, actor="ann"))
    for n in range(25):
        operation = Operation.OPEN if n % 2 else Operation.CLOSE
        contract.ask(store, order=Order(operation=operation, actor="ann", reason=str(n)))
    log = store.transitions()

    assert [move.reason for move in log if move.client == "A"] == [str(n) for n in range(15, 25)]
    assert sum(move.client == "B" for move in log) == 1


def test_the_script_does_what_the_state_machine_does(connection: RedisConnection) -> None:
    """For any request at any time, the reply, the whole hash, its expiry and the log are those of circuit.py."""
    machine = type("OnThisServer", (TwinMachine,), {"connection": connection})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=10 if isinstance(connection, FakeConnection) else 50,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_time_far_beyond_the_policy_is_damage(connection: RedisConnection) -> None:
    """Each time that lies more than a day beyond what the policy allows is reported as damage; a day itself is not."""
    planted_times_are_damage(connection, SCRIPT)


def test_a_ramp_goes_on_when_the_clock_goes_back(connection: RedisConnection) -> None:
    """A clock that is set back neither ends a ramp nor begins it again."""
    a_ramp_follows_the_clock(connection, SCRIPT)


def test_a_transition_of_newer_code_hides_no_other(store: Store, connection: RedisConnection) -> None:
    """While a fleet is upgraded, older processes copy the log and skip transitions that they cannot read."""
    for client in ("A", "B"):
        store.step([StepRequest(client=client, order=Order(operation=Operation.OPEN, actor="me"))])
        move = {"epoch": "9", "from_state": "closed", "to_state": "throttled"}
        connection.server_for("").xadd(f"twin:{{{client}}}:log", move)
    store.step([StepRequest(client="A", order=Order(operation=Operation.CLOSE, actor="me"))])

    assert ["A", "A", "B"] == sorted(move.client for move in store.transitions())
