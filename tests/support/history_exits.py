"""A program that records fifty errors and exits in a given function: `python history_exits.py EXIT URL LOGS`.

Started by tests/flow/test_history_exits.py.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from resilience.history import Recorder, install_signal_flush
from resilience.logs import JsonLines
from support.history_records import error

RECORDS = 50
EXIT_TIMEOUT = 60.0
"""Seconds of the exit timeout. On a busy machine the first upgrade may take longer than the default, and these tests look for
losses, not for delays."""


def recorder() -> Recorder:
    """Create a recorder, as an application does on import or at start."""
    return Recorder(sys.argv[2], sinks=[JsonLines(sys.argv[3])], exit_timeout=EXIT_TIMEOUT)


def fill(opened: Recorder) -> None:
    """Record fifty errors."""
    for _ in range(RECORDS):
        opened.record(error())


def normal() -> None:
    """End the program normally."""
    fill(recorder())


def system_exit() -> None:
    """Call `sys.exit`."""
    fill(recorder())
    sys.exit(3)


def uncaught() -> None:
    """Raise an exception that is not caught."""
    fill(recorder())
    raise RuntimeError


def event_loop() -> None:
    """End `asyncio.run`."""

    async def main() -> None:
        fill(recorder())

    asyncio.run(main())


def interrupted() -> None:
    """Receive SIGINT, like Ctrl-C."""
    fill(recorder())
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)


def terminated_handled() -> None:
    """Receive SIGTERM where the program turns it into an exit, as web servers do."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    fill(recorder())
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def terminated_installed() -> None:
    """Receive SIGTERM at its default, with `install_signal_flush`."""
    install_signal_flush(timeout=EXIT_TIMEOUT)
    fill(recorder())
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def terminated_chained() -> None:
    """Receive SIGTERM with `install_signal_flush` on top of a handler of the program."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    install_signal_flush(signal.SIGTERM, timeout=EXIT_TIMEOUT)
    fill(recorder())
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def terminated_ignored() -> None:
    """Receive a signal that the program ignores: it stays ignored with `install_signal_flush`."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    install_signal_flush(signal.SIGHUP, timeout=EXIT_TIMEOUT)
    fill(recorder())
    os.kill(os.getpid(), signal.SIGHUP)
    os._exit(5)


def filled_to_the_log() -> None:
    """Record fifty errors, and wait until their log lines are written."""
    fill(recorder())
    log, deadline = Path(sys.argv[3]) / "errors.jsonl", time.monotonic() + EXIT_TIMEOUT
    while not log.exists() or log.read_text().count("\n") < RECORDS:
        if time.monotonic() > deadline:
            sys.exit("the lines were not written")
        time.sleep(0.005)


def killed() -> None:
    """Receive SIGKILL once the log lines are written."""
    filled_to_the_log()
    os.kill(os.getpid(), signal.SIGKILL)


def left_at_once() -> None:
    """Leave by `os._exit`, which runs no hooks, once the log lines are written."""
    filled_to_the_log()
    os._exit(0)


def pool_terminated() -> None:
    """Leave a `Pool` by its `with`, which sends SIGTERM to its workers."""
    with multiprocessing.get_context("fork").Pool(1) as workers:
        workers.apply(filled_to_the_log)


def pool_recycled() -> None:
    """Let a `Pool` replace its worker after one task."""
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as workers:
        for _ in range(3):
            workers.apply(normal)
        workers.close()
        workers.join()


def in_process(method: str) -> None:
    """End a child of multiprocessing normally."""
    child = getattr(multiprocessing.get_context(method), "Process")(target=normal)  # noqa: B009 - typeshed knows no Process of a context
    child.start()
    child.join()
    sys.exit(child.exitcode)


def pool() -> None:
    """End a worker of a process pool, which runs no `atexit` hooks."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as executor:
        executor.submit(normal).result()


def forked_child() -> None:
    """End a child of `os.fork`, with no record in the parent."""
    if os.fork() == 0:
        fill(recorder())
        sys.exit(0)
    os.wait()


def preloaded() -> None:
    """Fork like gunicorn with preload: the parent records, forks while its thread writes, and all three end normally."""
    opened = recorder()
    fill(opened)
    for _ in range(2):
        if os.fork() == 0:
            fill(opened)
            sys.exit(0)
    os.wait()
    os.wait()


def preloaded_pool() -> None:
    """Use the recorder of the parent, whose thread runs, in a worker of the fork context."""
    opened = recorder()
    fill(opened)
    opened.flush(20)
    child = multiprocessing.get_context("fork").Process(target=fill, args=(opened,))
    child.start()
    child.join()


def many_forks() -> None:
    """Fork eight children while the parent's thread writes all the time."""
    opened = recorder()
    for _ in range(8):
        fill(opened)
        if os.fork() == 0:
            fill(opened)
            sys.exit(0)
    for _ in range(8):
        os.wait()


EXITS: dict[str, Callable[[], None]] = {
    function.__name__: function
    for function in (
        *(normal, system_exit, uncaught, event_loop, interrupted, killed, left_at_once),
        *(terminated_handled, terminated_installed, terminated_chained, terminated_ignored),
        *(pool, pool_terminated, pool_recycled, forked_child, preloaded, preloaded_pool, many_forks),
    )
}
EXITS["process_forked"] = lambda: in_process("fork")
EXITS["process_spawned"] = lambda: in_process("spawn")

if __name__ == "__main__":
    EXITS[sys.argv[1]]()
