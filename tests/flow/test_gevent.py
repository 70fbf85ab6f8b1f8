"""A program that gevent has patched, as `celery -P gevent` and gunicorn's gevent workers patch theirs, with the real gevent."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.programs import run_program

from resilience.testing import Answer, Hang, ProviderSimulator

pytestmark = pytest.mark.baml

PROGRAM = """
from gevent import monkey; monkey.patch_all()
import asyncio, json
import gevent
from baml_client.sync_client import b
from resilience import BAMLErrorHandler, FallbackPolicy, RetryPolicy, protect

handler = BAMLErrorHandler(
    retry=RetryPolicy(attempt_timeout=2.0, initial_delay=0.001), fallback=FallbackPolicy(clients=("Secondary",))
)
guarded = protect(b, handler)
turns, answers, outcomes = [], [], [ConnectionResetError("reset"), "found"]

def go_on():
    while True:
        turns.append(len(answers))
        gevent.sleep(0.01)

def work(number):
    for _ in range(2):  # the second call of one greenlet crashes BAML alone
        answers.append(type(guarded.ParseResearchGoal(f"goal {number}")).__name__)
        gevent.sleep(0.01)

async def search():
    outcome = outcomes.pop(0)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome

gevent.spawn(go_on)
gevent.joinall([gevent.spawn(work, number) for number in range(3)], raise_error=True)
found = asyncio.run(handler.call_with_retry(search, "SearchService", "Search"))
handler.close()
gevent.spawn(guarded.ParseResearchGoal, "in flight when the process ends")
gevent.sleep(0.3)
print(json.dumps({"answers": answers, "before_first_answer": turns.count(0), "found": found}))
"""


def test_blocking_and_async_calls_of_a_patched_program(baml_client_path: Path, tmp_path: Path) -> None:
    """Greenlets call twice each through a provider that hangs: time limits hold, other greenlets go on, all rows are written, and it ends cleanly while a call is in flight."""
    with ProviderSimulator.in_thread() as simulator:
        simulator.client("Primary").script([*[Hang()] * 3, *[Answer()] * 3, Hang()])
        done = run_program(
            PROGRAM,
            {**simulator.environment(), "RESILIENCE_DATABASE_URL": f"sqlite:///{tmp_path}/history.db"},
            tmp_path,
        )

    assert 0 == done.returncode, done.stderr
    said = json.loads(done.stdout)
    assert ["ParsedResearchGoal"] * 6 == said["answers"]
    assert said["before_first_answer"] > 3
    assert "found" == said["found"]
    aborted = "SELECT call_id FROM errors WHERE category = 'cancelled'"  # counts against no client
    query = f"SELECT outcome, COUNT(*) FROM calls WHERE call_id NOT IN ({aborted}) GROUP BY 1 ORDER BY 1"  # noqa: S608 - ours
    with closing(sqlite3.connect(tmp_path / "history.db")) as connection:
        rows = connection.execute(query).fetchall()
    assert [("ok", 3), ("recovered_fallback", 3), ("recovered_retry", 1)] == rows
