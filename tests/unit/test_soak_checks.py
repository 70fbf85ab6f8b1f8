"""The soak demands a row of every call, unless faults took both its row and its line before either was due."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from support.postgres import Postgres
from support.soak_checks import _may_be_lost, orders_bind_every_process
from support.soak_evidence import Evidence
from support.soak_fleet import Fleet, Happened, Provider, Request

CALL = 100.0
"""When the call ended."""


def may_be_lost(
    killed_at: float, *faults: tuple[str, float, float], began: float = 90.0, file: bool = False
) -> bool:
    """Return the verdict about a call whose process was killed, with the history in PostgreSQL or in a file."""
    postgres = None if file else cast("Postgres", object())
    fleet = Fleet(
        Path(),
        cast("Provider", None),
        0,
        "",
        "",
        None,
        postgres,
        happened=[Happened(*fault) for fault in faults],
    )
    beats = [began + 0.02 * number for number in range(1000)]
    call: dict[str, Any] = {"pid": 1, "at": CALL}
    evidence = Evidence({}, {1: beats}, {}, {})
    return _may_be_lost(fleet, evidence, call, killed_at)


@pytest.mark.parametrize(
    ("killed_at", "faults", "expected"),
    [
        (100.3, [], True),
        (100.5, [], False),
        (
            101.3,
            [("logs_removed", 105.0, 105.0)],
            True,
        ),  # rows gather, and their lines were removed before an import
        (101.6, [("logs_removed", 105.0, 105.0)], False),  # the row was due
        (101.3, [("logs_removed", 120.0, 120.0)], False),  # the lines were imported by then
        (101.3, [("logs_removed", 99.0, 99.0)], False),  # the line came after
        (
            102.9,
            [("history_locked", 99.6, 101.8), ("logs_removed", 102.1, 102.1)],
            True,
        ),  # the row waited for the lock
        (104.9, [("history_locked", 99.6, 101.8), ("logs_removed", 102.1, 102.1)], False),
        (102.9, [("history_locked", 99.6, 101.8)], False),  # the line is there
        (100.9, [("disk_full", 99.0, 103.0)], False),  # a row whose line was refused does not gather
        (100.9, [("disk_full", 99.0, 103.0), ("history_away", 99.0, 100.5)], True),
    ],
)
def test_a_kill_costs_what_faults_took_twice(
    killed_at: float, faults: list[tuple[str, float, float]], *, expected: bool
) -> None:
    """A call of second 100 may be without a row if its process was killed before the row was due and its line was lost as well."""
    assert may_be_lost(killed_at, *faults) is expected


def test_a_file_is_on_the_full_disk_too() -> None:
    """A history in a file cannot be written while the disk is full, until it is tried again."""
    fault = ("disk_full", 99.0, 103.0)
    assert may_be_lost(105.0, fault, file=True)
    assert not may_be_lost(106.0, fault, file=True)


def test_a_process_opens_its_history_first() -> None:
    """The rows of a process that has just begun are due when it has had the time to start."""
    fault = ("logs_removed", 101.9, 101.9)
    assert may_be_lost(101.9, fault, began=99.9)
    assert not may_be_lost(101.9, fault)


@pytest.mark.parametrize(
    ("began", "requests", "expected"),
    [
        (90.0, [100.4], 0),  # it has not heard of the order yet
        (90.0, [101.0], 1),
        (99.5, [101.0, 101.1, 101.2], 0),  # it has not heard of its store yet
        (99.5, [101.0, 101.1, 101.2, 101.3], 1),
        (99.5, [103.0], 1),
    ],
)
def test_an_order_binds_every_process(began: float, requests: list[float], expected: int) -> None:
    """During an order each request is one too many, but for three of a process that is new."""
    provider = Provider()
    try:
        provider.requests = [Request(at, "Primary", 1) for at in requests]
        fleet = Fleet(Path(), provider, 0, "", "", orders=[(CALL, CALL + 4.0)])
        evidence = Evidence({}, {1: [began + 0.02 * number for number in range(1000)]}, {}, {})
        assert len(orders_bind_every_process(fleet, evidence)) == expected
    finally:
        provider._loop.close()
