"""What the processes of the tests of killed followers do."""

from __future__ import annotations

import itertools
import multiprocessing
from typing import Any

from resilience.breaker import Operation, open_store
from resilience.circuit_events import CopySchedule
from support.circuit_events_bench import Keeper

HASTY = CopySchedule(turn=0.01, soon=(0.01, 0.03), rare=(0.03, 0.06))
CLIENTS = ("A", "B", "C")
_TURNS = (Operation.OPEN, Operation.CLOSE, Operation.DISABLE, Operation.RESET)
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    [
        "support.circuit_events_bench",
        "resilience.breaker.stores.redis",
        "resilience.history.schema.migrations",
    ]
)


def move_and_follow(url: str, database: str, moved: Any) -> None:
    """Move circuits and copy the log of all, until killed; counts its moves, without a lock that could die with it."""
    keeper = Keeper(open_store(url, namespace="resilience"), database, pace=HASTY)
    for turn in itertools.count():
        keeper.order(_TURNS[turn % 4], CLIENTS[turn % 3])
        moved.value += 1
