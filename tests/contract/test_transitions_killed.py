"""Processes that copy the log of circuits are killed at random: SQL has what the log has, each transition once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.circuit_events_bench import QUICK, Keeper, eventually, log_rows, rows
from support.transition_workers import CLIENTS, order_and_copy, processes
from support.valkey_servers import Valkey

from resilience.breaker import Operation, open_store
from resilience.history.schema import migrations

_KILLS = 4
_MOST = 2400  # orders: the log keeps 1000 entries of each circuit, and none may be trimmed here
_LIMIT = 240.0  # seconds; generous, since the machine may be busy


@pytest.fixture(params=["valkey and a file", "valkey and postgres"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The URLs of the store and of the history."""
    database = f"sqlite:///{tmp_path}/resilience.db"
    if request.param == "valkey and postgres":
        database = request.getfixturevalue("postgres_url")
    with Valkey() as valkey:
        yield valkey.patient, database


def test_killed_processes_lose_and_double_nothing(places: tuple[str, str]) -> None:
    """Two processes give orders and copy the log, and are killed and replaced one by one; no transition is lost or doubled."""
    url, database = places
    migrations.upgrade(database)
    kill_at_random(url, database, _KILLS)

    store = open_store(url, namespace="resilience")
    with Keeper(store, database, schedule=QUICK) as last:
        last.order(Operation.CLOSE, "D")
        log = log_rows(last.breaker.fetch_transitions("").result(120.0))
        eventually(lambda: sorted(rows(database)) == log)

    assert 5 * _KILLS < len(log) < _MOST
    assert {*CLIENTS, "D"} == {row[0] for row in log}


def kill_at_random(url: str, database: str, kills: int) -> None:
    """Keep two processes running, and kill the older one at random times."""
    chance = random.Random(7)  # noqa: S311 - a fixed seed, protects nothing
    alive = [Worker(url, database) for _ in range(2)]
    for kill in range(kills):
        alive[0].wait_for(chance.randint(5, 40))
        alive.pop(0).kill()
        if kill < kills - 2:
            alive.append(Worker(url, database))


class Worker:
    """A process that gives orders and copies the log."""

    def __init__(self, url: str, database: str) -> None:
        self.ordered = processes.RawValue("i", 0)
        self.process = processes.Process(target=order_and_copy, args=(url, database, self.ordered))
        self.process.start()

    def wait_for(self, orders: int) -> None:
        """Wait until it has given this number of further orders."""
        goal, deadline = self.ordered.value + orders, time.monotonic() + _LIMIT
        while self.ordered.value < goal:
            assert time.monotonic() < deadline, "the process gives no orders any more"
            time.sleep(0.001)

    def kill(self) -> None:
        """Kill it without warning."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join(_LIMIT)
