"""Closing a handler: the event loop goes on while the store and the history take their time."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import uvloop

from resilience import BAMLErrorHandler, Settings


async def answer() -> str:
    return "yes"


async def test_closing_blocks_no_other_task(tmp_path: Path) -> None:
    """While another process locks the history, `aclose` waits for it, and the other tasks of the loop go on."""
    handler = BAMLErrorHandler(
        settings=Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/h.db")
    )
    await handler.call_with_retry(answer, "Primary", "Ask")
    await asyncio.to_thread(handler._open().recorder.flush)
    await handler.call_with_retry(answer, "Primary", "Ask")
    holder = sqlite3.connect(tmp_path / "h.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    ticks = [time.monotonic()]
    closing = asyncio.ensure_future(handler.aclose())
    while not closing.done():
        await asyncio.sleep(0.01)
        ticks.append(time.monotonic())
    holder.close()

    duration, longest = ticks[-1] - ticks[0], max(after - before for before, after in pairwise(ticks))
    assert duration > 0.5, "nothing was waited for: the test shows nothing"
    assert longest < duration / 2


def test_a_process_whose_loops_are_of_uvloop_loses_no_row(tmp_path: Path) -> None:
    """One handler serves calls of two loops, one after the other, that are not asyncio's own; a shared store answers both."""
    url = f"sqlite:///{tmp_path}/h.db"
    settings = Settings(store_url=f"sqlite:///{tmp_path}/c.db", database_url=url, exit_timeout=60)
    handler = BAMLErrorHandler(settings=settings)

    async def calls() -> None:
        await asyncio.gather(*(handler.call_with_retry(answer, "Primary", "Ask") for _ in range(50)))

    for _ in range(2):
        uvloop.run(calls())
    handler.close()

    with closing(sqlite3.connect(tmp_path / "h.db")) as connection:
        assert connection.execute("SELECT count(*) FROM calls").fetchone() == (100,)
        assert connection.execute("SELECT sum(calls) FROM rollups").fetchone() == (100,)
