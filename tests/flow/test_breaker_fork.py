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

# Forking a process with threads is what is tested here; Python 3.12 and later warn of it.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "circuits.db"


@pytest.fixture
def breaker(path: Path) -> Iterator[Breaker]:
    made = Breaker(open_store(f"sqlite:///{path}"), PATIENT, wait_budget=10.0)
    yield made
    made.close()


def counted(path: Path) -> int:
    """The successes that reached the file."""
    store = SQLiteStore(path)
    successes = step_for(store, PATIENT).successes
    store.close()
    return successes


def fork(work: Callable[[], object]) -> int:
    """Run *work* in a forked child, which ends by os._exit: 0 if it returned, 1 if it raised."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def ended(pid: int, seconds: float = 30.0) -> int:
    """The exit code of a child; a child that hangs is an error."""
    deadline = time.monotonic() + seconds
    while not (found := os.waitpid(pid, os.WNOHANG))[0]:
        assert time.monotonic() < deadline, "the child hangs"
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(found[1])


def use_and_flush(breaker: Breaker, results: int) -> None:
    settle_some(breaker, results)
    assert breaker.degraded is False
    assert breaker.flush(10.0) is True


def test_a_forked_child_works_and_tells_only_its_own(breaker: Breaker, path: Path) -> None:
    """The child uses the inherited breaker with a thread of its own; what the parent had not told yet is told once."""
    settle_some(breaker, 7)
    assert ended(fork(lambda: use_and_flush(breaker, 3))) == 0
    settle_some(breaker, 5)
    assert breaker.flush(10.0) is True

    assert counted(path) == 15


def test_workers_of_a_preloaded_master_share_the_circuit(breaker: Breaker, path: Path) -> None:
    """As under gunicorn with preload: the master used the breaker, four workers fork from it, and all results count."""
    use_and_flush(breaker, 1)
    workers = [fork(lambda: use_and_flush(breaker, 25)) for _ in range(4)]

    assert [ended(pid) for pid in workers] == [0] * 4
    assert counted(path) == 101


def test_no_connection_to_the_file_crosses_a_fork(breaker: Breaker, path: Path) -> None:
    """The child inherits no descriptor of the database: one would break the locks of both processes."""
    use_and_flush(breaker, 1)

    def open_files() -> list[str]:
        return [
            link for each in Path("/proc/self/fd").iterdir() if str(path) in (link := str(each.resolve()))
        ]

    def child() -> None:
        assert open_files() == []

    if Path("/proc/self/fd").exists():
        assert open_files() != []
        assert ended(fork(child)) == 0


def test_a_child_does_not_give_back_its_parent_s_lease(path: Path) -> None:
    """The child of a process that probes settles the inherited permit: the lease stays the parent's."""
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

        assert ended(fork(child)) == 0
        store = SQLiteStore(path)
        assert step_for(store, policy, token="mine").granted is False  # noqa: S106 - a lease's name
        breaker.settle(permit, Outcome.IGNORED)
        assert breaker.flush(10.0) is True
        assert step_for(store, policy, token="mine").granted is True  # noqa: S106 - a lease's name
        store.close()

    asyncio.run(probing())
    breaker.close()


def test_forks_at_any_moment_of_a_busy_exchange_hang_nobody(breaker: Breaker, path: Path) -> None:
    """While another thread calls without pause, twenty children fork, work and end; the parent loses nothing."""
    done = threading.Event()
    made = [0]

    def calls() -> None:
        while not done.is_set():
            settle_some(breaker, 50)
            made[0] += 50

    caller = threading.Thread(target=calls)
    caller.start()
    try:
        codes = [ended(fork(lambda: use_and_flush(breaker, 2))) for _ in range(20)]
    finally:
        done.set()
        caller.join(30)
    assert breaker.flush(10.0) is True

    assert codes == [0] * 20
    assert counted(path) == made[0] + 40


def test_a_child_of_a_child_works_too(breaker: Breaker, path: Path) -> None:
    """Forks nest."""
    use_and_flush(breaker, 1)

    def child() -> None:
        use_and_flush(breaker, 1)
        assert ended(fork(lambda: use_and_flush(breaker, 1))) == 0
        use_and_flush(breaker, 1)

    assert ended(fork(child)) == 0
    assert counted(path) == 4


def test_a_breaker_closed_before_the_fork_stays_closed(breaker: Breaker, path: Path) -> None:
    """A child does not revive what its parent had closed; its calls are decided alone."""
    use_and_flush(breaker, 2)
    breaker.close()

    def child() -> None:
        settle_some(breaker, 3)
        assert breaker.degraded is True

    assert ended(fork(child)) == 0
    assert counted(path) == 2


START: dict[str, Any] = {name: multiprocessing.get_context(name) for name in ("fork", "spawn", "forkserver")}


@pytest.mark.parametrize("method", sorted(START))
def test_a_multiprocessing_child_that_ends_without_closing_loses_nothing(path: Path, method: str) -> None:
    """A Process that simply returns has told everything, also forked ones, which run no atexit hooks."""
    process = START[method].Process(target=work_and_end, args=(f"sqlite:///{path}", 13))
    process.start()
    process.join(60)

    assert process.exitcode == 0
    assert counted(path) == 13


def test_a_forked_process_with_an_inherited_breaker_loses_nothing_either(
    breaker: Breaker, path: Path
) -> None:
    """The breaker came from the parent, the child used and never closed it."""
    use_and_flush(breaker, 1)
    process = multiprocessing.get_context("fork").Process(target=settle_some, args=(breaker, 9))
    process.start()
    process.join(60)

    assert process.exitcode == 0
    assert counted(path) == 10


def test_a_program_that_ends_without_closing_loses_nothing(path: Path) -> None:
    """At the end of a plain program the last results are told."""
    program = f"from circuit_workers import work_and_end; work_and_end('sqlite:///{path}', 21)"
    folder = Path(work_and_end.__code__.co_filename).parent
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, timeout=60)

    assert counted(path) == 21
