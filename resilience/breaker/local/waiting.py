"""Bounded waits of callers for the sync thread: awaited on an event loop, or blocking a thread that signals may interrupt.

A long wait is cut into slices. A slice that takes longer than it should shows that this process was starved or stopped, which is
no silence of the store. After each slice the caller also judges whether the store has fallen silent, because the sync thread
itself may be stuck in it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from resilience.breaker.local.probe_request import StoreWait
from resilience.breaker.local.registry import LocalCircuits

_SHORT: Final = (
    0.05  # a wait of this many seconds is one slice: a timer more would cost more than it finds out
)
_SLICE: Final = 0.025


async def wait(circuits: LocalCircuits, future: StoreWait, seconds: float) -> None:
    """Wait for *future*, at most for *seconds* that this process really ran. Never raises for a timeout."""
    if future.done():
        return
    if seconds <= 0:
        circuits.judge_silence()
        return
    waiter = asyncio.wrap_future(future)
    try:
        while seconds > 0:
            slice_seconds = _slice(seconds)
            due = circuits.now() + slice_seconds
            done, _ = await asyncio.wait((waiter,), timeout=slice_seconds)
            if done:
                return
            circuits.note_stall(due)
            circuits.judge_silence()
            seconds -= slice_seconds
    finally:
        waiter.cancel()


def wait_blocking(circuits: LocalCircuits, future: StoreWait, seconds: float) -> None:
    """Wait as `wait` does, blocking the calling thread."""
    if seconds <= 0:
        circuits.judge_silence()
    while seconds > 0:
        slice_seconds = _slice(seconds)
        due = circuits.now() + slice_seconds
        if future.latch.wait(slice_seconds):
            return
        circuits.note_stall(due)
        circuits.judge_silence()
        seconds -= slice_seconds


def _slice(seconds: float) -> float:
    return seconds if seconds <= _SHORT else _SLICE
