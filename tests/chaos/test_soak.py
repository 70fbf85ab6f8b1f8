"""A fleet under random faults keeps its promises: to callers, to the history, and to the processes around it.

Not part of the test command: run it with `uv run python -m pytest -n 0 tests/chaos --soak-seconds 60 --soak-seed 1`. A seed decides
the faults and their order, and which databases are used; times depend on the machine. A failure prints the command that repeats it.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from support.soak_checks import CHECKS
from support.soak_evidence import read
from support.soak_faults import AGENTS, schedule
from support.soak_fleet import Fleet, opened

_LONG = 120.0
"""Seconds until something that must happen counts as hanging."""


@pytest.mark.timeout(0)
def test_promises_hold_under_random_faults(
    soak_seed: int, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seeded faults on provider, stores, database and processes; then every promise is checked against all logs."""
    seed = soak_seed
    seconds = request.config.getoption("--soak-seconds")
    with ExitStack() as stack:
        fleet = opened(stack, tmp_path, redis=bool(seed & 1), postgres=bool(seed & 2))
        for _ in range(AGENTS):
            fleet.start()
        wait_for_calls(fleet, AGENTS)
        faults = Counter(schedule(fleet, seed, seconds))
        fleet.provider.mode = "ok"
        wait_for_primary(fleet)
        fleet.end()
        import_the_rest(fleet)
        evidence = read(fleet)
        broken = {check.__name__: found for check in CHECKS if (found := check(fleet, evidence))}
    with capsys.disabled():
        calls, kills = len(evidence.calls), len(evidence.killed)
        sys.stdout.write(f"\nseed {seed}, {seconds:g} s: {calls} calls, {kills} kills, {dict(faults)}\n")

    again = f"uv run python -m pytest -n 0 tests/chaos --soak-seconds {seconds:g} --soak-seed {seed}"
    timeline = [f"{fault.began:.3f} to {fault.ended:.3f} {fault.fault}" for fault in fleet.happened]
    found = [f"{name}: {one}" for name, those in broken.items() for one in those]
    assert found == [], "\n".join(
        (f"failing seed {seed}, again: {again}", *timeline, fleet.said[-3000:], *found)
    )


def wait_for_calls(fleet: Fleet, agents: int) -> None:
    """Wait until each of *agents* agents has made calls."""
    deadline = time.monotonic() + _LONG
    while not fleet.notes.exists() or len({call["pid"] for call in read(fleet).calls.values()}) < agents:
        assert time.monotonic() < deadline, fleet.said
        time.sleep(0.2)


def wait_for_primary(fleet: Fleet) -> None:
    """Wait until every living agent gets answers of the primary client again."""
    deadline, since = time.monotonic() + _LONG, time.time()
    wanted = {agent.process.pid for agent in fleet.serving}
    while wanted:
        calls = read(fleet).calls.values()
        wanted -= {call["pid"] for call in calls if call["client"] == "Primary" and call["at"] > since}
        # An agent that was asked to end before need not come back.
        wanted &= {agent.process.pid for agent in fleet.serving}
        assert time.monotonic() < deadline, f"not back on the primary client: {wanted}"
        time.sleep(0.5)


def import_the_rest(fleet: Fleet) -> None:
    """Let one more agent run until it has imported what killed ones left, and end it."""
    fleet.start()
    (agent,) = fleet.serving
    deadline = time.monotonic() + _LONG
    while marked(fleet) != {agent.process.pid}:
        assert time.monotonic() < deadline, "what killed processes left was not imported"
        assert agent.process.poll() is None
        time.sleep(0.2)
    fleet.end()


def marked(fleet: Fleet) -> set[int]:
    """Return the processes that have a mark in the log folder: they run, or have lines that were not imported."""
    pids = set()
    for mark in (fleet.logs / ".writers").iterdir():
        with suppress(OSError, ValueError):  # it was removed in this moment, or is not filled yet
            pids.add(int(json.loads(mark.read_text())["pid"]))
    return pids
