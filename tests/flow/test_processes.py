"""Forks, spawns and exits with the real BAML runtime: nothing hangs, nothing is lost, nothing is sent twice."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from resilience.testing import ProviderSimulator, Status

pytestmark = pytest.mark.baml

HEAD = """
import asyncio, json, multiprocessing, os, signal, sys, threading
os.environ["RESILIENCE_EXIT_TIMEOUT"] = "30"  # a busy machine may take longer than two seconds to make the first database

async def ask(guarded, times=1):
    for _ in range(times):
        await guarded.ParseResearchGoal("goal")

def child(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(200)
        try:
            work()
        except BaseException as exc:
            print("child:", type(exc).__name__, str(exc), flush=True)
            code = 1
        else:
            code = 0
        sys.stdout.flush()
        from multiprocessing import util
        util._exit_function()
        import atexit
        atexit._run_exitfuncs()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


class Project:
    """A project folder whose scripts run like those of a user."""

    def __init__(self, folder: Path, simulator: ProviderSimulator) -> None:
        self.folder = folder
        self.simulator = simulator
        (folder / "pyproject.toml").touch()

    def run(self, script: str, code: int = 0) -> str:
        """Run a script, check its exit code, and return its output."""
        path = self.folder / "script.py"
        path.write_text(HEAD + script)
        done = subprocess.run(
            [sys.executable, str(path)],
            env={**os.environ, **self.simulator.environment(), "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Return the rows of a query to the history."""
        with closing(sqlite3.connect(self.folder / ".resilience" / "resilience.db")) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture
def project(tmp_path: Path, baml_client_path: Path) -> Iterator[Project]:
    with ProviderSimulator.in_thread() as simulator:
        yield Project(tmp_path, simulator)


def test_a_child_answers_when_the_parent_only_imported_the_client(project: Project) -> None:
    """Like gunicorn with preload: the master imports and protects, the forked workers call, and all rows arrive."""
    project.run("""
from baml_client.async_client import b
from resilience import protect
guarded = protect(b)
codes = [child(lambda: asyncio.run(ask(guarded, 3))) for _ in range(3)]
assert codes == [0, 0, 0], codes
""")

    assert project.rows("SELECT COUNT(*), COUNT(DISTINCT call_id), SUM(outcome = 'ok') FROM calls") == [
        (9, 9, 9)
    ]


def test_a_child_of_a_parent_that_called_gets_an_error_instead_of_hanging(project: Project) -> None:
    """After a call in the parent a call in a forked child raises ForkedRuntimeError with the remedy, and the parent goes on.

    Without this the child would hang: BoundaryML/baml#2776.
    """
    output = project.run("""
from baml_client.async_client import b
from resilience import protect
guarded = protect(b)
asyncio.run(ask(guarded))
print(child(lambda: asyncio.run(ask(guarded))))
asyncio.run(ask(guarded))
""")

    assert "child: ForkedRuntimeError" in output
    assert "spawn" in output
    assert project.rows("SELECT outcome, COUNT(*) FROM calls GROUP BY 1 ORDER BY 1") == [
        ("failed", 1),
        ("ok", 2),
    ]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing_answer(project: Project, method: str) -> None:
    """With every start method of multiprocessing, workers call through their own wrapper and lose no row at exit."""
    project.run(f"""
def work():
    from resilience import BAMLWrapper
    wrapper = BAMLWrapper()
    async def main():
        for _ in range(2):
            await wrapper.parse_research_goal("goal")
    asyncio.run(main())

if __name__ == "__main__":
    import resilience
    start = multiprocessing.get_context({method!r})
    workers = [start.Process(target=work) for _ in range(2)]
    [worker.start() for worker in workers]
    [worker.join(240) for worker in workers]
    assert [worker.exitcode for worker in workers] == [0, 0], [worker.exitcode for worker in workers]
""")

    assert project.rows("SELECT COUNT(*) FROM calls") == [(4,)]


def test_a_handler_used_before_the_fork_works_on_both_sides(project: Project) -> None:
    """In a child the circuits, the recorder and the reader of a used handler start empty; no row is lost or doubled."""
    project.run("""
from resilience import BAMLErrorHandler, RetryPolicy
handler = BAMLErrorHandler(retry=RetryPolicy(max_retries=0))
async def fail(): raise ConnectionError("down")
async def once(name):
    for _ in range(5):
        try: await handler.call_with_retry(fail, name, "F")
        except ConnectionError: pass
    return await handler.history.errors(client=name)
asyncio.run(once("Before"))
def work(name):
    asyncio.run(once(name))
    assert name in {record.client for record in handler.get_error_history()}
codes = [child(lambda: work("One")), child(lambda: work("Two"))]
assert codes == [0, 0], codes
asyncio.run(once("After"))
asyncio.run(handler.aclose())
""")

    assert project.rows(
        "SELECT client, COUNT(*), COUNT(DISTINCT event_id) FROM errors GROUP BY 1 ORDER BY 1"
    ) == [
        ("After", 5, 5),
        ("Before", 5, 5),
        ("One", 5, 5),
        ("Two", 5, 5),
    ]


def test_a_circuit_opened_in_one_process_is_open_in_the_next(project: Project) -> None:
    """A new process reads the shared state before its first call, so it does not repeat the failures of another."""
    project.simulator.client("Primary").set(Status(503))
    script = """
from baml_client.async_client import b
from resilience import BAMLErrorHandler, BreakerPolicy, FallbackPolicy, protect
# Open for longer than a busy machine may need to start the second process, which would otherwise find a probe due.
handler = BAMLErrorHandler(breaker=BreakerPolicy(open_for=600.0), fallback=FallbackPolicy(clients=("Secondary",)))
guarded = protect(b, handler)
asyncio.run(ask(guarded, 8))
"""
    project.run(script)
    learned = project.simulator.client("Primary").asked
    project.run(script)

    assert learned in {5, 6}  # the sixth may start before the fifth's failure has been written
    assert project.simulator.client("Primary").asked == learned


def test_at_most_two_threads_and_none_before_the_first_call(project: Project) -> None:
    """Importing, creating and protecting start no thread of ours; calls start two."""
    output = project.run("""
from baml_client.async_client import b
from resilience import protect
before = threading.active_count()
guarded = protect(b)
assert threading.active_count() == before
asyncio.run(ask(guarded, 3))
print(sorted(thread.name for thread in threading.enumerate()))
""")

    assert output.count("resilience") == 2, output


def test_a_clean_exit_loses_nothing(project: Project) -> None:
    """A script that ends without aclose() has all its rows on disk."""
    project.run("""
from baml_client.async_client import b
from resilience import protect
asyncio.run(ask(protect(b), 7))
""")

    assert project.rows("SELECT COUNT(*) FROM calls") == [(7,)]


@pytest.mark.parametrize("place", ["read-only", "a file in the way", "newer"])
def test_a_history_that_cannot_be_written_fails_no_call(project: Project, place: str) -> None:
    """An unusable database costs one warning that names the remedy; calls and circuits go on."""
    folder = project.folder / "data"
    url = f"sqlite:///{folder}/history.db"
    if place == "read-only":
        url = "sqlite:////proc/resilience/history.db"
    elif place == "a file in the way":
        folder.write_text("not a folder")
    else:
        folder.mkdir()
        with closing(sqlite3.connect(folder / "history.db")) as connection:
            connection.execute("CREATE TABLE resilience_version (version_num VARCHAR(32) NOT NULL)")
            connection.execute("INSERT INTO resilience_version VALUES ('9999')")
            connection.commit()
    output = project.run(f"""
import logging
logging.basicConfig(stream=sys.stdout, format="LOG %(levelname)s %(message)s")
from baml_client.async_client import b
from resilience import BAMLErrorHandler, Settings, protect
handler = BAMLErrorHandler(settings=Settings(database_url={url!r}))
async def main():
    await ask(protect(b, handler), 3)
    await handler.aclose()
asyncio.run(main())
""")

    warnings = [line for line in output.splitlines() if line.startswith("LOG WARNING")]
    assert sum("RESILIENCE_DATABASE_URL" in line for line in warnings) == 1, output
    assert any("dropped 3 records" in line for line in warnings), output
    assert project.simulator.client("Primary").asked == 3


def test_a_store_that_cannot_be_written_fails_no_call(project: Project) -> None:
    """An unusable store costs one warning; the process decides with its own circuits and is degraded."""
    output = project.run("""
from baml_client.async_client import b
from resilience import BAMLErrorHandler, Settings, protect
handler = BAMLErrorHandler(settings=Settings(store_url="sqlite:////proc/resilience/circuits.db"))
async def main():
    await ask(protect(b, handler), 3)
    print("degraded:", handler.degraded)
    await handler.aclose()
asyncio.run(main())
""")

    assert "degraded: True" in output
    assert project.simulator.client("Primary").asked == 3
