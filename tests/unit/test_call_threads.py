"""The threads of blocking calls: hand-over of tasks, threads that end, functions that were left."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from resilience import lifecycle
from resilience.background import Latch
from resilience.execution import call_threads, sync_driver
from resilience.execution.call_threads import BlockingCall, CallThreads


def test_a_late_wake_does_not_make_a_thread_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wake that comes after its task is done is used up: the thread waits again instead of looking for ever."""
    worker = call_threads._Worker(pool := CallThreads(), task := BlockingCall(lambda: 1))
    waits: list[bool] = []

    class Wake:
        """A signal that arrives once more after its task is done."""

        def wait(self, _: float) -> bool:
            waits.append(task.done.is_set())
            return len(waits) == 1

    monkeypatch.setattr(worker, "_wake", Wake())
    worker._run()  # ends only when a wait finds no wake

    assert task.done.is_set()
    assert [True, True] == waits
    assert not pool.retire(worker)


def test_a_call_of_an_interpreter_that_ends_runs_where_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a `__del__` at the exit no other thread runs any more: to hand the call to one would hang for ever."""
    pool = CallThreads()
    assert pool.start(threading.get_ident).done.wait(240)
    monkeypatch.setattr("sys.is_finalizing", lambda: True)

    assert threading.get_ident() == pool.start(threading.get_ident).result


def test_threads_that_end_lose_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """While idle threads end all the time, every task is still run, once."""
    monkeypatch.setattr(call_threads, "_IDLE_SECONDS", 0.0)
    pool, ran = CallThreads(), []

    def run(number: int) -> Any:
        task = pool.start(lambda: ran.append(number))
        assert task.done.wait(240)
        return task.error

    with ThreadPoolExecutor(8) as callers:
        errors = list(callers.map(run, range(500)))

    assert [None] * 500 == errors
    assert list(range(500)) == sorted(ran)


def test_a_process_that_may_start_no_thread_still_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a limit of threads, or while the interpreter ends, the function runs on the caller's thread."""

    def refuse(_: threading.Thread) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    task = CallThreads().start(threading.get_ident)

    assert task.done.is_set()
    assert threading.get_ident() == task.result


@pytest.mark.parametrize("is_done", [False, True])
def test_the_result_of_a_function_that_was_left_is_not_kept(is_done: bool) -> None:  # noqa: FBT001 - a parameter
    """A late result is dropped at once, whether it comes before or after the caller has gone."""
    pool, may_end = CallThreads(), threading.Event()
    task = pool.start(lambda: may_end.wait(240))
    if is_done:
        may_end.set()
        assert task.done.wait(240)

    pool.leave(task)
    may_end.set()
    assert task.done.wait(240)
    task.forget()  # what the thread does right after `done`

    assert task.result is None


def test_a_wait_that_a_signal_ends_leaves_nothing_locked() -> None:
    """Signals that raise at any moment of a wait: the task still ends, and later waits keep their time limit."""

    class Interruption(Exception):  # noqa: N818 - no error: what a handler of a signal raises
        """Raised by the handler."""

    def interrupt(*_: Any) -> None:
        raise Interruption

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(300):
            may_end = Latch()
            task = BlockingCall(may_end.wait)
            thread = threading.Thread(target=task.run)
            thread.start()
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 + number * 1e-6)
                while True:
                    task.done.wait(1e-6)
            except Interruption:
                may_end.set()
            assert task.done.wait(240)
            thread.join(240)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_an_exit_aborts_calls_that_still_run() -> None:
    """A BAML call of a daemon thread is aborted, its end is waited for, and one that has ended is not touched any more."""
    pool, go_on = CallThreads(), threading.Event()
    aborted: list[str] = []

    def abort() -> None:
        aborted.append("running")
        go_on.set()

    ended = pool.start(lambda: 1, lambda: aborted.append("ended"))
    assert ended.done.wait(240)
    while pool.exit_limit() > lifecycle.EXIT_TIMEOUT:
        threading.Event().wait(0.001)
    running = pool.start(lambda: go_on.wait(240), abort)
    assert pool.exit_limit() > lifecycle.EXIT_TIMEOUT
    pool.at_exit(240)

    assert ["running"] == aborted
    assert running.done.is_set()


# --- the caller that waits ------------------------------------------------------------------------------------------


class Attempt:
    """What the driver uses of an attempt of a BAML client."""

    has_callers_controller = False

    def __init__(self) -> None:
        self.aborted = 0

    def abort(self) -> None:
        self.aborted += 1


def test_a_call_that_is_interrupted_while_it_is_handed_over_is_aborted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread may have it already, and would ask the provider for a caller that has gone."""

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    attempt: Any = Attempt()
    monkeypatch.setattr(sync_driver._threads, "start", interrupted)

    with pytest.raises(KeyboardInterrupt):
        sync_driver._start(lambda: None, attempt)
    assert 1 == attempt.aborted
