"""Breakers in processes that fork and end: real forks, real exits, one SQLite file."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.circuit_workers import PATIENT, settle_some, step_for, work_and_end

from resilience.breaker import Breaker, BreakerPolicy, Outcome, open_store
from resilience.breaker.stores.sqlite import SQLiteStore
from resilience.errors import CircuitOpenError

# These tests fork processes with threads on purpose; Python 3.12 and later warn about it.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "circuits.db"


@pytest.fixture
def breaker(path: Path) -> Iterator[Breaker]:
    breaker = Breaker(open_store(f"sqlite:///{path}"), PATIENT, wait_budget=10.0)
    yield breaker
    breaker.close()


def successes_in(path: Path) -> int:
    """Return the number of successes that reached the file."""
    store = SQLiteStore(path)
    successes = step_for(store, PATIENT).successes
    store.close()
    return successes


def fork(work: Callable[[], object]) -> int:
    """Run *work* in a forked child, which ends with os._exit: code 0 if it returned, 1 if it raised. Return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def exit_code(pid: int, seconds: float = 30.0) -> int:
    """Return the exit code of a child, and fail if it hangs."""
    deadline = time.monotonic() + seconds
    while not (result := os.waitpid(pid, os.WNOHANG))[0]:
        assert time.monotonic() < deadline, "the child hangs"
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(result[1])


def use_and_flush(breaker: Breaker, results: int) -> None:
    settle_some(breaker, results)
    assert breaker.degraded is False
    assert breaker.flush(10.0) is True


def test_a_forked_child_works_and_sends_only_its_own_results(breaker: Breaker, path: Path) -> None:
    """The child uses the inherited breaker with its own thread. Unsent results of the parent are sent once, by the parent."""
    settle_some(breaker, 7)
    assert exit_code(fork(lambda: use_and_flush(breaker, 3))) == 0
    settle_some(breaker, 5)
    assert breaker.flush(10.0) is True

    assert successes_in(path) == 15


def test_workers_of_a_preloaded_master_share_the_circuit(breaker: Breaker, path: Path) -> None:
    """Like gunicorn with preload: the master used the breaker, four workers fork from it, and all results count."""
    use_and_flush(breaker, 1)
    workers = [fork(lambda: use_and_flush(breaker, 25)) for _ in range(4)]

    assert [exit_code(pid) for pid in workers] == [0] * 4
    assert successes_in(path) == 101


def test_no_connection_to_the_file_crosses_a_fork(breaker: Breaker, path: Path) -> None:
    """The child inherits no descriptor of the database, which would break the locks of both processes."""
    use_and_flush(breaker, 1)

    def open_files() -> list[str]:
        return [
            link for each in Path("/proc/self/fd").iterdir() if str(path) in (link := str(each.resolve()))
        ]

    def child() -> None:
        assert open_files() == []

    if Path("/proc/self/fd").exists():
        assert open_files() != []
        assert exit_code(fork(child)) == 0


def test_a_child_does_not_release_its_parent_s_lease(path: Path) -> None:
    """The child of a process that probes settles the inherited permit, and the lease stays with the parent."""
    policy = BreakerPolicy(consecutive_failures=1, open_for=0.01, open_jitter=0.0)
    breaker = Breaker(open_store(f"sqlite:///{path}"), policy, wait_budget=10.0)

    async def probing() -> None:
        breaker.settle(await breaker.admit("A"), Outcome.FAILURE)
        while True:
            try:
                permit = await breaker.admit("A")
            except CircuitOpenError:
                await asyncio.sleep(0.005)
                continue
            if permit.probe:
                break

        def child() -> None:
            breaker.settle(permit, Outcome.IGNORED)
            breaker.close()

        assert exit_code(fork(child)) == 0
        store = SQLiteStore(path)
        assert step_for(store, policy, token="mine").granted is False  # noqa: S106 - a lease's name
        breaker.settle(permit, Outcome.IGNORED)
        assert breaker.flush(10.0) is True
        assert step_for(store, policy, token="mine").granted is True  # noqa: S106 - a lease's name
        store.close()

    asyncio.run(probing())
    breaker.close()


def test_forks_at_any_moment_of_a_busy_thread_do_not_hang(breaker: Breaker, path: Path) -> None:
    """While another thread calls without pause, twenty children fork, work and end. The parent loses nothing."""
    done = threading.Event()
    calls_made = [0]

    def calls() -> None:
        while not done.is_set():
            settle_some(breaker, 50)
            calls_made[0] += 50

    caller = threading.Thread(target=calls)
    caller.start()
    try:
        codes = [exit_code(fork(lambda: use_and_flush(breaker, 2))) for _ in range(20)]
    finally:
        done.set()
        caller.join(240)
    assert breaker.flush(10.0) is True

    assert codes == [0] * 20
    assert successes_in(path) == calls_made[0] + 40


def test_a_child_of_a_child_works_too(breaker: Breaker, path: Path) -> None:
    """A forked child may fork as well."""
    use_and_flush(breaker, 1)

    def child() -> None:
        use_and_flush(breaker, 1)
        assert exit_code(fork(lambda: use_and_flush(breaker, 1))) == 0
        use_and_flush(breaker, 1)

    assert exit_code(fork(child)) == 0
    assert successes_in(path) == 4


def test_a_breaker_closed_before_the_fork_stays_closed(breaker: Breaker, path: Path) -> None:
    """A child does not reopen a breaker that its parent has closed; its calls are decided offline."""
    use_and_flush(breaker, 2)
    breaker.close()

    def child() -> None:
        settle_some(breaker, 3)
        assert breaker._circuits.offline is True
        assert breaker.degraded is False  # closed on purpose: no trouble with the store

    assert exit_code(fork(child)) == 0
    assert successes_in(path) == 2


START: dict[str, Any] = {name: multiprocessing.get_context(name) for name in ("fork", "spawn", "forkserver")}


@pytest.mark.parametrize("method", sorted(START))
def test_a_multiprocessing_child_that_ends_without_closing_loses_nothing(path: Path, method: str) -> None:
    """A Process whose target returns has sent everything, also if it was forked and runs no atexit hooks."""
    process = START[method].Process(target=work_and_end, args=(f"sqlite:///{path}", 13))
    process.start()
    process.join(240)

    assert process.exitcode == 0
    assert successes_in(path) == 13


def test_a_forked_process_with_an_inherited_breaker_loses_nothing_either(
    breaker: Breaker, path: Path
) -> None:
    """The breaker came from the parent; the child used it and never closed it."""
    use_and_flush(breaker, 1)
    process = multiprocessing.get_context("fork").Process(target=settle_some, args=(breaker, 9))
    process.start()
    process.join(240)

    assert process.exitcode == 0
    assert successes_in(path) == 10


def test_a_program_that_ends_without_closing_loses_nothing(path: Path) -> None:
    """At the exit of a plain program the last results are sent."""
    program = f"from circuit_workers import work_and_end; work_and_end('sqlite:///{path}', 21)"
    folder = Path(work_and_end.__code__.co_filename).parent
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, timeout=250)

    assert successes_in(path) == 21
