"""A program that records fifty errors and ends in the way its first argument names: `python history_exits.py WAY URL LOGS`.

Started by tests/flow/test_history_endings.py.
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

from resilience import lifecycle
from resilience.history import Recorder, install_signal_flush
from resilience.logs import JsonLines
from support.history_records import error

RECORDS = 50
PATIENCE = 60.0
"""Instead of two seconds: on a loaded machine the first upgrade alone may take longer, and only loss is looked for here."""
lifecycle._EXIT_TIMEOUT = PATIENCE  # type: ignore[misc]  # Final for everyone but us


def recorder() -> Recorder:
    """As an application makes it, on import or at start."""
    return Recorder(sys.argv[2], sinks=[JsonLines(sys.argv[3])])


def fill(kept: Recorder) -> None:
    """Record fifty errors."""
    for _ in range(RECORDS):
        kept.record(error())


def normal() -> None:
    """The end of the program."""
    fill(recorder())


def system_exit() -> None:
    """`sys.exit`."""
    fill(recorder())
    sys.exit(3)


def uncaught() -> None:
    """An exception nobody caught."""
    fill(recorder())
    raise RuntimeError


def event_loop() -> None:
    """The end of `asyncio.run`."""

    async def main() -> None:
        fill(recorder())

    asyncio.run(main())


def interrupted() -> None:
    """Ctrl-C."""
    fill(recorder())
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)


def terminated_handled() -> None:
    """SIGTERM where the program turns it into an exit, as web servers do."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    fill(recorder())
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def terminated_installed() -> None:
    """SIGTERM at its default, with our helper."""
    install_signal_flush(timeout=PATIENCE)
    fill(recorder())
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def terminated_chained() -> None:
    """SIGTERM with our helper over a handler of the program's own."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    install_signal_flush(signal.SIGTERM, timeout=PATIENCE)
    fill(recorder())
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def terminated_ignored() -> None:
    """A signal the program ignores stays ignored under our helper."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    install_signal_flush(signal.SIGHUP, timeout=PATIENCE)
    fill(recorder())
    os.kill(os.getpid(), signal.SIGHUP)
    os._exit(5)


def killed() -> None:
    """SIGKILL, once the lines are out."""
    fill(recorder())
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)


def in_process(method: str) -> None:
    """A child of multiprocessing."""
    child = getattr(multiprocessing.get_context(method), "Process")(target=normal)  # noqa: B009 - typeshed knows no Process of a context
    child.start()
    child.join()
    sys.exit(child.exitcode)


def pool() -> None:
    """A worker of a process pool, which ends without `atexit`."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as executor:
        executor.submit(normal).result()


def forked_child() -> None:
    """A child made by `os.fork`, and nothing in the parent."""
    if os.fork() == 0:
        fill(recorder())
        sys.exit(0)
    os.wait()


def preloaded() -> None:
    """As gunicorn with preload: the parent records, forks while its thread writes, and all three end normally."""
    kept = recorder()
    fill(kept)
    for _ in range(2):
        if os.fork() == 0:
            fill(kept)
            sys.exit(0)
    os.wait()
    os.wait()


def preloaded_pool() -> None:
    """A fork-context worker that uses the recorder of its parent, whose thread is running."""
    kept = recorder()
    fill(kept)
    kept.flush(20)
    child = multiprocessing.get_context("fork").Process(target=fill, args=(kept,))
    child.start()
    child.join()


def many_forks() -> None:
    """Eight children forked while the parent's thread is writing all the time."""
    kept = recorder()
    for _ in range(8):
        fill(kept)
        if os.fork() == 0:
            fill(kept)
            sys.exit(0)
    for _ in range(8):
        os.wait()


WAYS: dict[str, Callable[[], None]] = {
    way.__name__: way
    for way in (
        *(normal, system_exit, uncaught, event_loop, interrupted, killed),
        *(terminated_handled, terminated_installed, terminated_chained, terminated_ignored),
        *(pool, forked_child, preloaded, preloaded_pool, many_forks),
    )
}
WAYS["process_forked"] = lambda: in_process("fork")
WAYS["process_spawned"] = lambda: in_process("spawn")

if __name__ == "__main__":
    WAYS[sys.argv[1]]()
