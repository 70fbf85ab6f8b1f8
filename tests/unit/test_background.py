"""The background worker: its wake-up signal, its jobs, and what happens when no thread can run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from support.programs import run_program

from resilience import lifecycle
from resilience.background import NOW, BackgroundWorker, Latch, Task, Wakeup
from resilience.clock import SystemClock
from resilience.lifecycle import Stage


def test_a_signal_wakes_its_waiter_once() -> None:
    """A signal that was set, however often, lets one wait through; the next waits again."""
    wakeup = Wakeup()
    wakeup.set()
    wakeup.set()

    assert wakeup.wait(0)
    assert not wakeup.wait(0)
    assert not wakeup.wait(-1)


class Interrupted(Exception):  # noqa: N818 - as a task queue raises it
    """Raised by a signal handler."""


@pytest.mark.parametrize("wait", [Latch().wait, SystemClock().sleep_blocking])
def test_a_signal_that_another_thread_gets_ends_a_wait(wait: Callable[[float], object]) -> None:
    """Python runs its handler on the main thread, which no system call tells of it: that looks for itself while it waits."""
    ended = threading.Event()

    def interrupt(*_: object) -> None:
        raise Interrupted

    def deliver() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    timer = threading.Timer(0.1, deliver)  # by then the main thread waits; if not, it has an easier task
    end = threading.Timer(50, ended.set)
    end.daemon = True
    try:
        end.start()
        with pytest.raises(Interrupted):  # noqa: PT012 - the signal may arrive before the wait
            timer.start()
            wait(100)
        assert not ended.is_set()
    finally:
        end.cancel()
        timer.join()
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_wakes_another_thread() -> None:
    """A thread that waits goes on when another sets the signal."""
    wakeup, woken = Wakeup(), Wakeup()

    def answer() -> None:
        wakeup.wait()
        woken.set()

    thread = threading.Thread(target=answer)
    thread.start()
    wakeup.set()

    assert woken.wait(240)
    thread.join()


@pytest.fixture
def storm() -> Iterator[list[Wakeup]]:
    """A list of signals that a handler sets every 0.1 ms."""
    wakeups: list[Wakeup] = []

    def handle(_number: int, _frame: FrameType | None) -> None:
        for wakeup in wakeups:
            wakeup.set()

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    yield wakeups
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_handler_may_set_the_signal_that_it_interrupts(storm: list[Wakeup]) -> None:
    """Setting the signal in a handler that interrupts the same `set` does not hang, as `threading.Event.set` can."""
    wakeup = Wakeup()
    storm.append(wakeup)
    for _ in range(200_000):
        wakeup.set()
        wakeup.wait(0)


class Owner:
    """The owner of a worker. Its cycles run all jobs that are due, with the owner as the connection."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.cycles = 0
        self.in_cycle: Callable[[], None] = lambda: None
        self.guard = threading.Lock()
        self.worker = BackgroundWorker(
            Task(
                next_timeout=lambda: None,
                run_cycle=self._run_cycle,
                disconnect=lambda: self.events.append("disconnect"),
                close=lambda: self.events.append("close"),
                reject=Future.cancel,
                restart=lambda paused: self.events.append("paused" if paused else "not paused"),
                at_exit=lambda timeout: self.events.append(f"exit {timeout:g}"),
                fork_locks=lambda: (self.guard,),
            ),
            name="test-worker",
            stage=Stage.HISTORY,
            fork_timeout=0.01,
        )

    def _run_cycle(self, _signalled: bool) -> None:  # noqa: FBT001 - the shape of Task.run_cycle
        self.cycles += 1
        self.in_cycle()
        with self.worker.connection_lock:
            completions = [job.run(lambda work: work(self)) for job in self.worker.take_jobs()]
        for complete in completions:
            complete()

    def run(self, work: Callable[[Any], Any]) -> Any:
        """Submit *work* and return its result."""
        future = self.worker.submit(work)
        self.worker.start_thread()
        self.worker.wake()
        return future.result(120.0)


@pytest.fixture
def owner() -> Iterator[Owner]:
    owner = Owner()
    yield owner
    owner.worker.close(30.0)


def refuse_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every start of a thread fail, as the interpreter does late in its end."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")  # noqa: TRY003, EM101 - as the interpreter words it

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_the_thread_starts_on_demand_and_only_once(owner: Owner) -> None:
    """There is no thread before `start_thread`, one afterwards, and `close` ends it after a last cycle."""
    assert owner.worker.thread is None
    names = {owner.run(lambda _: threading.current_thread().name) for _ in range(3)}
    assert names == {"test-worker"}
    cycles, thread = owner.cycles, owner.worker.thread
    assert thread is not None
    owner.worker.close(30.0)

    assert not thread.is_alive()
    assert owner.cycles > cycles
    assert owner.events[0] == "close"


def test_the_error_of_a_job_goes_to_its_caller(owner: Owner) -> None:
    """A job that raises ends neither the thread nor the cycle."""
    with pytest.raises(ZeroDivisionError):
        owner.run(lambda _: 1 / 0)

    assert owner.run(lambda _: "next") == "next"


def test_results_are_handed_over_without_the_connection_lock(owner: Owner) -> None:
    """A callback of a future may wait for the connection lock, because its cycle no longer holds it."""
    free: list[bool] = []
    future = owner.worker.submit(lambda _: None)
    future.add_done_callback(lambda _: free.append(owner.worker.connection_lock.acquire(timeout=30)))
    future.add_done_callback(lambda _: owner.worker.connection_lock.release())
    owner.worker.run_now()

    assert free == [True]


def test_jobs_wait_until_they_are_due(owner: Owner) -> None:
    """A job with a due time stays in the queue, the others run, and a cancelled one is dropped."""
    later, now, cancelled = (owner.worker.submit(str, due=due) for due in (float("inf"), NOW, NOW))
    cancelled.cancel()
    owner.worker.run_now()

    assert now.done()
    assert not later.done()
    owner.worker.close(0)
    assert later.cancelled()


def test_without_a_thread_the_caller_runs_the_cycle(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started `start_thread` returns the error, and `run_now` works on the caller's thread."""
    refuse_threads(monkeypatch)
    future = owner.worker.submit(lambda _: threading.current_thread())

    assert isinstance(owner.worker.start_thread(), RuntimeError)
    assert owner.worker.thread is None
    owner.worker.run_now()
    assert future.result(0) is threading.current_thread()


def test_after_close_jobs_are_rejected(owner: Owner) -> None:
    """A closed worker accepts no job, and closing it without a thread releases the connection."""
    owner.worker.close(0)

    assert owner.worker.submit(str).cancelled()
    assert owner.events == ["close"]


def test_the_thread_may_close_its_own_worker(owner: Owner) -> None:
    """`close` on the thread itself does not wait for itself; the thread ends after the cycle."""
    owner.run(lambda _: owner.worker.close(30.0))
    thread = owner.worker.thread
    assert thread is not None
    thread.join(240)

    assert not thread.is_alive()
    assert owner.events == ["close"]


def test_a_fork_holds_the_locks_and_closes_the_connection(owner: Owner) -> None:
    """Between the hooks both locks are held; afterwards the parent goes on, and a second release does nothing."""
    owner.worker.before_fork()
    assert (owner.worker.connection_lock.locked(), owner.guard.locked()) == (True, True)
    owner.worker.after_fork_in_parent()
    owner.worker.after_fork_in_parent()

    assert (owner.worker.connection_lock.locked(), owner.guard.locked()) == (False, False)
    assert owner.events == ["disconnect"]


@pytest.mark.parametrize("busy", [False, True])
def test_a_child_knows_whether_the_thread_was_paused(owner: Owner, busy: bool) -> None:  # noqa: FBT001 - a parameter
    """A fork does not wait for a busy connection without limit; its child gets free locks and no job, and knows."""
    future = owner.worker.submit(str)
    if busy:
        owner.worker.connection_lock.acquire()
    owner.worker.before_fork()
    owner.worker.after_fork_in_child()

    assert owner.events[-1] == ("not paused" if busy else "paused")
    assert not owner.worker.connection_lock.locked()
    assert owner.worker.take_jobs() == []
    assert not future.done()


def test_two_threads_may_fork_at_once(owner: Owner) -> None:
    """A fork that got no lock, because another thread is forking, does not release the other's lock."""
    owner.worker.before_fork()

    def fork() -> None:
        owner.worker.before_fork()
        owner.worker.after_fork_in_parent()

    other = threading.Thread(target=fork)
    other.start()
    other.join(240)

    assert owner.worker.connection_lock.locked()
    owner.worker.after_fork_in_parent()
    assert not owner.worker.connection_lock.locked()


def test_what_begins_in_a_hook_of_the_exit_is_written_too(tmp_path: Path) -> None:
    """The interpreter calls no hook that is registered while hooks run, so one of ours is registered before all others."""
    done = run_program(
        """
        import atexit
        from resilience import lifecycle

        class Writer:
            def at_exit(self, timeout):
                print("written")

        writer = Writer()

        @atexit.register
        def begin():
            lifecycle.register(writer, lifecycle.Stage.HISTORY)
            lifecycle.ensure_exit_hook()
        """,
        {},
        tmp_path,
    )

    assert "written\n" == done.stdout, done.stderr


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_waits_for_an_import_on_another_thread() -> None:
    """No child is forked in the middle of an import: it would inherit the locks of the modules without the thread that has them."""
    begun, forking, imported = threading.Event(), threading.Event(), threading.Event()

    def load() -> None:
        with lifecycle.importing():
            begun.set()
            forking.wait()
            imported.set()

    thread = threading.Thread(target=load)
    thread.start()
    begun.wait()
    os.register_at_fork(
        before=forking.set
    )  # hooks run in reverse order, so this one is before those of the package
    child = os.fork()
    if not child:
        with lifecycle.importing():  # a lock of its own
            os._exit(0 if imported.is_set() else 1)

    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    thread.join()
    with lifecycle.importing():  # and the parent's is free again
        pass
