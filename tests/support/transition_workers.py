"""Workers for the tests that kill processes while they copy the log of circuits."""

from __future__ import annotations

import itertools
import multiprocessing
from typing import Any

from resilience.breaker import Operation, open_store
from resilience.circuit_events import CopySchedule
from support.circuit_events_bench import Keeper

HASTY = CopySchedule(min_interval=0.01, delay=(0.01, 0.03), periodic=(0.03, 0.06))
CLIENTS = ("A", "B", "C")
_ORDERS = (Operation.OPEN, Operation.CLOSE, Operation.DISABLE, Operation.RESET)
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    [
        "support.circuit_events_bench",
        "resilience.breaker.stores.redis",
        "resilience.history.schema.migrations",
    ]
)


def order_and_copy(url: str, database: str, ordered: Any) -> None:
    """Give orders and copy the log until killed. Counts the orders in *ordered*, without a lock that could be held at the kill."""
    keeper = Keeper(open_store(url, namespace="resilience"), database, schedule=HASTY)
    for number in itertools.count():
        keeper.order(_ORDERS[number % 4], CLIENTS[number % 3])
        ordered.value += 1
