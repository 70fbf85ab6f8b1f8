"""Read the blocking streams of a double as async streams.

BAML's own blocking streams are never read this way: they hold the interpreter lock while they wait. The doubles of a test do not.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

_END: Final = object()


def read_on_threads(streams: Any, name: str) -> Callable[..., Any]:
    """Return a function that calls `streams.<name>` and whose result is an async stream."""
    function = getattr(streams, name)

    @functools.wraps(function)
    def ask(*args: Any, **kwargs: Any) -> ThreadedStream:
        return ThreadedStream(function(*args, **kwargs))

    return ask


class ThreadedStream:
    """A blocking stream, read step by step on threads.

    Args:
        stream: can be iterated, and has `get_final_response`.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Yield what the blocking stream yields."""
        snapshots = iter(self._stream)
        while (snapshot := await _on_thread(next, snapshots, _END)) is not _END:
            yield snapshot

    async def get_final_response(self) -> Any:
        """Return the final response of the blocking stream."""
        return await _on_thread(self._stream.get_final_response)


async def _on_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call *function* on a daemon thread of its own: a double that stalls must not hold a pool or the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def call() -> None:
        try:
            settle = functools.partial(_set, future, function(*args), None)
        except BaseException as exc:  # noqa: BLE001 - raised again where the result is awaited
            settle = functools.partial(_set, future, None, exc)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=call, name="resilience-double", daemon=True).start()
    return await future


def _set(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():  # its reader has left
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
