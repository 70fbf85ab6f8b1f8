"""Real processes on one Valkey: many at once, killed at any time, killed as probers, with wrong clocks."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from support.redis_workers import (
    PATIENT,
    fail_with_a_clock_off,
    first_call,
    flap,
    hammer,
    probe_and_hang,
    processes,
    take_step,
)
from support.valkey_servers import Valkey

from resilience.breaker import BreakerPolicy, Outcome
from resilience.breaker.messages import Batch
from resilience.breaker.stores.redis import RedisStore

_TIMEOUT = 120.0


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with Valkey() as running:
        yield running


@pytest.fixture
def store(valkey: Valkey) -> Iterator[RedisStore]:
    with valkey.looking() as client:
        client.flushall()
    made = valkey.store()
    yield made
    made.close()


def test_eight_processes_lose_and_double_nothing(valkey: Valkey, store: RedisStore) -> None:
    """1600 failures reported by eight processes at once are 1600 failures."""
    barrier = processes.Barrier(8)
    workers = [processes.Process(target=hammer, args=(valkey.patient, 200, barrier)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(_TIMEOUT)

    assert [worker.exitcode for worker in workers] == [0] * 8
    assert take_step(store, PATIENT).failures == 1600


def test_killed_processes_leave_an_unbroken_chain(valkey: Valkey, store: RedisStore) -> None:
    """Whenever processes are killed, each transition begins where the last ended, and each epoch is used once."""
    barrier = processes.Barrier(5)
    workers = [processes.Process(target=flap, args=(valkey.patient, barrier)) for _ in range(4)]
    for worker in workers:
        worker.start()
    barrier.wait(_TIMEOUT)
    for worker in workers:
        seen, deadline = len(store.transitions()), time.monotonic() + _TIMEOUT
        while len(store.transitions()) < seen + 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(_TIMEOUT)
    log = store.transitions()

    assert len(log) >= 80
    assert [move.from_state for move in log] == ["closed", *(move.to_state for move in log[:-1])]
    assert [move.epoch for move in log] == sorted({move.epoch for move in log})
    assert take_step(store, PATIENT).state == log[-1].to_state


def test_a_killed_prober_gives_its_place_away(valkey: Valkey, store: RedisStore) -> None:
    """While the lease lasts no other process may probe. Then another one may, and its success closes the circuit."""
    policy = BreakerPolicy(open_for=0.05, probe_lease=1.0, open_jitter=0.0)
    take_step(store, policy, batches=(Batch(0, ((Outcome.FAILURE, 5),), "", "timeout"),))
    ours, theirs = processes.Pipe()
    worker = processes.Process(target=probe_and_hang, args=(valkey.patient, policy, theirs))
    worker.start()
    assert ours.poll(_TIMEOUT)
    assert ours.recv() is True
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(_TIMEOUT)
    lease_end = store.transitions()[-1].at_ms + 1000  # by the server's clock, like everything compared here
    refused = take_step(store, policy, token="t1")  # noqa: S106 - a lease's name
    deadline = time.monotonic() + _TIMEOUT
    while not (reply := take_step(store, policy, token="t2")).granted and time.monotonic() < deadline:  # noqa: S106 - a lease's name
        time.sleep(0.01)
    closed = take_step(store, policy, batches=(Batch(reply.epoch, ((Outcome.SUCCESS, 1),), "t2"),))

    assert refused.granted is (refused.now_ms >= lease_end)
    assert refused.granted or refused.wait_ms == lease_end - refused.now_ms
    assert reply.granted is True
    assert closed.state == "closed"


@pytest.mark.parametrize("hours", [-1, 1])
def test_wrong_clocks_change_nothing(valkey: Valkey, store: RedisStore, hours: int) -> None:
    """A process whose clocks are an hour off opens the circuit for as long as any other."""
    worker = processes.Process(target=fail_with_a_clock_off, args=(valkey.patient, 3600.0 * hours))
    worker.start()
    worker.join(_TIMEOUT)
    reply = take_step(store, PATIENT)
    (move,) = store.transitions()

    assert move.to_state == "open"
    assert reply.wait_ms <= 11_000
    assert 9_000 <= move.wait_ms <= 11_000
    assert abs(move.at_ms - reply.now_ms) < 60_000


def test_a_process_that_starts_during_an_outage_knows_of_it(valkey: Valkey, store: RedisStore) -> None:
    """The first call of a new process is refused when the fleet knows that the client is down."""
    take_step(store, BreakerPolicy(), batches=(Batch(0, ((Outcome.FAILURE, 5),), "", "overloaded"),))
    ours, theirs = processes.Pipe()
    worker = processes.Process(target=first_call, args=(valkey.patient, theirs))
    worker.start()
    assert ours.poll(_TIMEOUT)
    answer = ours.recv()
    worker.join(_TIMEOUT)

    assert answer == "refused: overloaded"


def test_a_fork_shares_no_connection(valkey: Valkey, store: RedisStore) -> None:
    """A child that inherits a store connects again, also without `disconnect`, and neither reads the other's replies."""
    take_step(store, PATIENT, batches=(Batch(0, ((Outcome.FAILURE, 1),)),))
    with valkey.looking() as client:
        pid = os.fork()
        if pid == 0:
            try:
                for _ in range(50):
                    take_step(store, PATIENT, batches=(Batch(0, ((Outcome.FAILURE, 1),)),))
                    assert take_step(store, PATIENT).failures > 1
            except BaseException:  # noqa: BLE001 - a child of a fork ends here, whatever happens
                os._exit(1)
            os._exit(0)
        for _ in range(50):
            take_step(store, PATIENT, batches=(Batch(0, ((Outcome.SUCCESS, 1),)),))
        _, status = os.waitpid(pid, 0)
        connections = client.info("clients")["connected_clients"]

    assert os.waitstatus_to_exitcode(status) == 0
    assert take_step(store, PATIENT).failures == 51
    assert take_step(store, PATIENT).successes == 50
    assert connections <= 3
