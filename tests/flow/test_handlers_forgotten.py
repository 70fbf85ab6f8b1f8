"""Handlers share the writer of their database, and one that is forgotten without a close leaves nothing."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from support.history_records import eventually

from resilience import BAMLErrorHandler, BreakerPolicy, Settings, runtime, shared_recorders


class Sink:
    """A sink that keeps the events it gets."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        self.events += [line["event"] for _, line in lines]


def settings(tmp_path: Path) -> Settings:
    return Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db", exit_timeout=60.0)


async def answer() -> int:
    return 1


def writer_threads() -> int:
    return sum(thread.name == "resilience-history" for thread in threading.enumerate())


def calls(tmp_path: Path) -> int:
    with closing(sqlite3.connect(tmp_path / "history.db")) as connection:
        count: int = connection.execute("SELECT count(*) FROM calls").fetchone()[0]
        return count


async def test_handlers_with_their_own_policies_and_sinks_share_one_writer(tmp_path: Path) -> None:
    """One thread writes for all of them. The lines of each go to its own sinks alone."""
    sinks = [Sink() for _ in range(5)]
    handlers = [
        BAMLErrorHandler(
            settings=settings(tmp_path), breaker=BreakerPolicy(open_for=10.0 + number), sinks=[sink]
        )
        for number, sink in enumerate(sinks)
    ]
    before = writer_threads()
    for handler in handlers:
        await handler.call_with_retry(answer, "A", "F")
    assert writer_threads() == before + 1

    for handler in handlers[:-1]:
        await handler.aclose()
    await handlers[-1].call_with_retry(answer, "A", "F")
    await handlers[-1].aclose()
    assert [sink.events.count("call.end") for sink in sinks] == [1, 1, 1, 1, 2]
    assert calls(tmp_path) == 6
    assert writer_threads() == before


def test_a_forgotten_handler_leaves_nothing(tmp_path: Path) -> None:
    """Once it is garbage its rows are written, its thread ends, and no runtime or recorder is left."""
    threads, runtimes, recorders = (
        set(threading.enumerate()),
        dict(runtime._open),
        dict(shared_recorders._open),
    )
    for number in range(3):
        handler = BAMLErrorHandler(
            settings=settings(tmp_path), breaker=BreakerPolicy(open_for=10.0 + number), sinks=[Sink()]
        )
        asyncio.run(handler.call_with_retry(answer, "A", "F"))
    del handler

    def is_gone() -> bool:
        gc.collect()  # a record that waits for its row holds its handler, so one collection may come too early
        return runtime._open == runtimes and shared_recorders._open == recorders

    assert eventually(is_gone, within=60)
    assert eventually(lambda: set(threading.enumerate()) <= threads, within=60)
    assert calls(tmp_path) == 3


def test_a_runtime_may_be_forgotten_while_a_lock_is_held(tmp_path: Path) -> None:
    """The garbage collector may find a handler on a thread that holds our locks: its finalizer takes none."""
    handler = BAMLErrorHandler(settings=settings(tmp_path))
    handler.open()
    with runtime._open_lock, runtime._lock, shared_recorders._lock:
        del handler
        gc.collect()
        assert runtime._forgotten
    runtime.release_forgotten()
    assert not runtime._forgotten
