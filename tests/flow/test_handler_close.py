"""Closing a handler: the loop goes on while store and history take their time."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from itertools import pairwise
from pathlib import Path

from resilience import BAMLErrorHandler, Settings


async def answer() -> str:
    return "yes"


async def test_closing_holds_no_other_task_up(tmp_path: Path) -> None:
    """While the history is locked by another process, `aclose` waits for it, and the tasks beside it do not."""
    handler = BAMLErrorHandler(
        settings=Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/h.db")
    )
    await handler.call_with_retry(answer, "Primary", "Ask")
    await asyncio.to_thread(handler._open().recorder.flush)
    await handler.call_with_retry(answer, "Primary", "Ask")
    holder = sqlite3.connect(tmp_path / "h.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    turns = [time.monotonic()]
    closing = asyncio.ensure_future(handler.aclose())
    while not closing.done():
        await asyncio.sleep(0.01)
        turns.append(time.monotonic())
    holder.close()

    took, longest = turns[-1] - turns[0], max(after - before for before, after in pairwise(turns))
    assert took > 0.5, "nothing was waited for: the test shows nothing"
    assert longest < took / 2
