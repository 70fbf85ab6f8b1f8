"""Processes that move circuits and follow each other are killed at random: SQL has what the log has, each move once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.circuit_events_bench import QUICK, Keeper, eventually, rows, told
from support.transition_workers import CLIENTS, move_and_follow, processes
from support.valkey_servers import Valkey

from resilience.breaker import Operation, open_store
from resilience.history.schema import migrations

_KILLS = 4
_MOST = 2400  # moves: the logs keep 1000 of each circuit, and nothing may be trimmed here
_PATIENCE = 30.0


@pytest.fixture(params=["valkey and a file", "valkey and postgres"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Where the circuits are, and where the history."""
    database = f"sqlite:///{tmp_path}/resilience.db"
    if request.param == "valkey and postgres":
        database = request.getfixturevalue("postgres_url")
    with Valkey() as valkey:
        yield valkey.patient, database


def test_killed_followers_lose_and_double_nothing(places: tuple[str, str]) -> None:
    """Two processes move circuits and copy the log; whenever one is killed, another takes its place; nothing is lost or doubled."""
    url, database = places
    migrations.upgrade(database)
    kill_at_random(url, database, _KILLS)

    store = open_store(url, namespace="resilience")
    with Keeper(store, database, pace=QUICK) as last:
        last.order(Operation.CLOSE, "D")
        log = told(last.breaker.log_after("").result(10.0))
        eventually(lambda: sorted(rows(database)) == log)

    assert 5 * _KILLS < len(log) < _MOST
    assert {*CLIENTS, "D"} == {row[0] for row in log}


def kill_at_random(url: str, database: str, kills: int) -> None:
    """Keep two at work, and kill the older one at random moments of whatever it does."""
    chance = random.Random(7)  # noqa: S311 - no secret
    alive = [Follower(url, database) for _ in range(2)]
    for kill in range(kills):
        alive[0].work(chance.randint(5, 40))
        alive.pop(0).kill()
        if kill < kills - 2:
            alive.append(Follower(url, database))


class Follower:
    """A process that moves circuits and copies the log."""

    def __init__(self, url: str, database: str) -> None:
        self.moved = processes.RawValue("i", 0)
        self.process = processes.Process(target=move_and_follow, args=(url, database, self.moved))
        self.process.start()

    def work(self, moves: int) -> None:
        """Let it make so many more."""
        goal, deadline = self.moved.value + moves, time.monotonic() + _PATIENCE
        while self.moved.value < goal:
            assert time.monotonic() < deadline, "nothing moves any more"
            time.sleep(0.001)

    def kill(self) -> None:
        """End it where it stands."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join(_PATIENCE)
