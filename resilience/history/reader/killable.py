"""Run a query in a process of its own, which is killed when it takes too long or too much memory.

SQLite looks at the clock between instructions. One instruction may call a function that compares megabytes with megabytes, or sort
gigabytes, and nothing ends it from inside the process. So the command line, where people type queries, forks for each. The child
asks, sends the rows through a pipe, and ends.

Only the command line does this. It has no threads, whose locks a fork would copy in any state, and no event loop.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import time
import warnings
from collections.abc import Mapping
from typing import Any, Final

from resilience.errors import HistoryError
from resilience.history.reader.adhoc_sql import AdhocQuery
from resilience.history.reader.results import ResultSet
from resilience.history.schema import urls
from resilience.history.schema.sqlite_driver import module as sqlite3

_GRACE: Final = 1.0
"""Seconds beyond its time limit after which a query that SQLite did not end is killed."""
_HEAP_BYTES: Final = 256 * 1024 * 1024
"""Memory that SQLite may use for a query, sorts included."""


def sql(url: str, text: str, params: Mapping[str, Any] | None, *, timeout: float, limit: int) -> ResultSet:
    """Run a query as `SyncHistory.sql` does, in a process that can be killed if the history is an SQLite file.

    A server needs none: it has a time limit and a memory of its own.

    Raises:
        ValueError: as in `SyncHistory.sql`.
        HistoryError: as there; or the query was killed, or needs more memory than a query may.
    """
    parsed = urls.parse(url)
    query = AdhocQuery(parsed, text, params, timeout=timeout, limit=limit)
    if not urls.is_sqlite(parsed):
        return query.run()
    receiver, sender = os.pipe()
    child = _fork()
    if not child:
        _answer(query, sender)
    os.close(sender)
    try:
        answer = _received(receiver, timeout + _GRACE)
    finally:
        os.close(receiver)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if answer is None:
        msg = f"the query was stopped after {timeout:g} s: ask for less (WHERE occurred_at >= ...), or give it a longer timeout"
        raise HistoryError(msg)
    return _result(answer)


def _fork() -> int:
    with warnings.catch_warnings():
        # Python warns of threads of the caller. The child runs the query and ends with os._exit, and takes no lock of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _answer(query: AdhocQuery, sender: int) -> None:
    """Run *query* in the child, send what comes of it, and end the child without any of the parent's hooks."""
    answer: tuple[ResultSet | None, str] = (None, "the query failed")
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            # For the whole process: that is why it is another one.
            connection.execute(f"PRAGMA hard_heap_limit={_HEAP_BYTES}")
        answer = (query.run(), "")
    except MemoryError:
        answer = (
            None,
            f"the query needs more than {_HEAP_BYTES // 1024**2} MB: select fewer columns, or sort fewer rows",
        )
    except Exception as exc:  # noqa: BLE001 - whatever it is, the parent reports it
        answer = (None, str(exc))
    finally:
        with contextlib.suppress(BaseException), open(sender, "wb") as stream:
            pickle.dump(answer, stream, pickle.HIGHEST_PROTOCOL)
        os._exit(0)


def _received(receiver: int, seconds: float) -> bytes | None:
    """Return all that the child sends; None if it is not complete in time."""
    deadline = time.monotonic() + seconds
    parts: list[bytes] = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([receiver], [], [], left)[0]:
            return None
        part = os.read(receiver, 1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _result(answer: bytes) -> ResultSet:
    try:
        # From our own child, through a pipe that no other process has.
        result, error = pickle.loads(answer)  # noqa: S301
    except (EOFError, pickle.UnpicklingError):
        msg = "the query ended its process: it may need more memory than there is"
        raise HistoryError(msg) from None
    if error:
        raise HistoryError(error)
    found: ResultSet = result
    return found
