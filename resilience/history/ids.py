"""Ids that sort by time: UUIDv7, RFC 9562."""

from __future__ import annotations

import os
import threading
import time

_lock = threading.RLock()  # re-entrant: a signal handler may record
_last = 0


def new_id() -> str:
    """Make a UUIDv7 in hex (RFC 9562 section 5.7): ids of one process sort in the order they were made."""
    global _last  # noqa: PLW0603 - the counter that keeps one process's ids in order
    with _lock:
        # 48 bits of milliseconds and 12 bits below them: RFC 9562 section 6.2, method 3.
        stamp = max(time.time_ns() * 4096 // 1_000_000, _last + 1)
        _last = stamp
    milliseconds, fraction = stamp >> 12, stamp & 0xFFF
    tail = int.from_bytes(os.urandom(8)) & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
    return f"{milliseconds:012x}7{fraction:03x}{tail:016x}"


def _forget() -> None:
    global _lock  # noqa: PLW0603 - a lock held by another thread at the fork would never be released here
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_forget)
