"""The threads of blocking calls: hand-over of tasks, threads that end, functions that were left."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from resilience.execution import call_threads
from resilience.execution.call_threads import CallThreads, Task


def test_a_late_wake_does_not_make_a_thread_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wake that comes after its task is done is used up: the thread waits again instead of looking for ever."""
    worker = call_threads._Worker(pool := CallThreads(), task := Task(lambda: 1))
    waits: list[bool] = []

    class Wake:
        """An event whose task is given while the thread is between two looks, and whose wake comes late."""

        def __init__(self) -> None:
            self.is_set = True

        def clear(self) -> None:
            self.is_set = False

        def wait(self, _: float) -> bool:
            waits.append(self.is_set)
            if len(waits) == 1:
                self.is_set = True  # the late wake, without a task
            return self.is_set

    monkeypatch.setattr(worker, "_wake", Wake())
    worker._run()  # ends only when a wait finds no wake

    assert task.done.is_set()
    assert [False, False] == waits
    assert not pool.retire(worker)


def test_threads_that_end_lose_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """While idle threads end all the time, every task is still run, once."""
    monkeypatch.setattr(call_threads, "_IDLE_SECONDS", 0.0)
    pool, ran = CallThreads(), []

    def run(number: int) -> Any:
        task = pool.start(lambda: ran.append(number))
        assert task.done.wait(60)
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
    task = pool.start(lambda: may_end.wait(60))
    if is_done:
        may_end.set()
        assert task.done.wait(60)

    pool.leave(task)
    may_end.set()
    assert task.done.wait(60)
    task.forget()  # what the thread does right after `done`

    assert task.result is None
