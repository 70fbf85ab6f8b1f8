"""The guarded streams of a protected client: `protect(b).stream.X(...)`."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final, Generic, TypeVar

from resilience import baml as _baml
from resilience.baml.stream_progress import NO_SNAPSHOT
from resilience.errors import ForkedRuntimeError, StreamLeftError
from resilience.execution.loop_thread import LoopThread

_Partial = TypeVar("_Partial")
_Final = TypeVar("_Final")
RunStream = Callable[[_baml.StreamProgress], Awaitable[Any]]
"""Asks the clients until one has streamed a whole answer. Shows snapshots on the way and returns the final response."""
_loop_thread: Final = LoopThread()


class GuardedStream(Generic[_Partial, _Final]):
    """A stream of BAML with retries, fallbacks and circuits. It is used like BAML's own.

    Like BAML's, it asks nothing before it is read. It is read with `async for snapshot in stream`, with
    `await stream.get_final_response()`, or with both. Each snapshot is the whole answer so far. After a restart the snapshots
    begin again: `restarts` shows it.

    Unlike BAML's iterator, this one raises the error of a stream that did not end whole, instead of ending quietly. The request
    ends with its last reader: after `break`, a cancellation or `aclose()` it is aborted and counts for no circuit. A second
    iteration ends at once.

    Args:
        run: asks the clients.
        kind: the class of BAML's own stream, for `isinstance`.
    """

    def __init__(self, run: RunStream, kind: type) -> None:
        self._run = run
        self._kind = kind
        self._progress = _baml.StreamProgress(self._wake)
        self._changed = asyncio.Event()
        self._call: asyncio.Future[_Final] | None = None
        self._readers = 0

    @property  # type: ignore[misc]  # so that isinstance(stream, BamlStream) holds
    def __class__(self) -> type:
        return self._kind

    @property
    def client(self) -> str:
        """The client that is streaming, or that was asked last; empty before the first attempt."""
        return self._progress.client

    @property
    def attempt(self) -> int:
        """The number of the attempt that is streaming, from 1, counted over all clients; 0 before the first."""
        return self._progress.attempt

    @property
    def restarts(self) -> int:
        """How often the snapshots went back to the start, because a client failed after some of its content was shown."""
        return self._progress.restarts

    async def __aiter__(self) -> AsyncIterator[_Partial]:
        """Yield snapshots of the answer until it is whole.

        Raises:
            Exception: as `get_final_response`.
        """
        call = self._join()
        try:
            while True:
                self._changed.clear()
                snapshot = self._progress.take()
                if snapshot is not NO_SNAPSHOT:
                    yield snapshot
                elif call.done():
                    break
                else:
                    await self._changed.wait()
            self._result(call)
        finally:
            await self._leave(call)

    async def get_final_response(self) -> _Final:
        """Return the whole answer. May be called more than once, before, during or after an iteration.

        Raises:
            Exception: the client's own, when only one client was asked.
            AllClientsFailedError: several clients were asked, and none answered.
            CircuitOpenError: the only client was not asked.
            DeadlineExceededError: the policy's deadline passed.
            StreamLeftError: an iteration was left before, which ended the request.
        """
        call = self._join()
        try:
            await asyncio.wait({call})
            return self._result(call)
        finally:
            await self._leave(call)

    def _wake(self) -> None:
        self._changed.set()

    def _join(self) -> asyncio.Future[_Final]:
        """Return the call, started by its first reader, and count one more reader."""
        call = self._call
        if call is None:
            call = self._call = asyncio.ensure_future(self._run(self._progress))
            call.add_done_callback(self._on_end)
        self._readers += 1
        return call

    def _on_end(self, call: asyncio.Future[_Final]) -> None:
        if not call.cancelled():
            call.exception()  # readers that have left do not ask for it, and asyncio would report it
        self._wake()

    def _result(self, call: asyncio.Future[_Final]) -> _Final:
        if call.cancelled():
            msg = "the stream was left before its end, which ended the request: read it to its end, or ask again"
            raise StreamLeftError(msg)
        return call.result()

    async def _leave(self, call: asyncio.Future[_Final]) -> None:
        """End the request if its last reader leaves. The attempt aborts it before BAML's generator unwinds."""
        self._readers -= 1
        if self._readers == 0 and not call.done():
            call.cancel()
            await asyncio.wait({call})


class GuardedSyncStream(Generic[_Partial, _Final]):
    """A stream of BAML's sync client with retries, fallbacks and circuits. It is used like BAML's own, on any thread.

    It is a `GuardedStream` that runs on a background loop, so that every wait can be interrupted: Ctrl-C and handlers of signals
    that raise, such as Celery's soft time limit, abort the request and go on at once.

    Args:
        run: asks the clients.
        kind: the class of BAML's own stream, for `isinstance`.
    """

    def __init__(self, run: RunStream, kind: type) -> None:
        self._stream: GuardedStream[_Partial, _Final] = GuardedStream(run, kind)
        self._kind = kind
        self._pid = os.getpid()

    @property  # type: ignore[misc]  # as for GuardedStream
    def __class__(self) -> type:
        return self._kind

    @property
    def client(self) -> str:
        """The client that is streaming, or that was asked last; empty before the first attempt."""
        return self._stream.client

    @property
    def attempt(self) -> int:
        """The number of the attempt that is streaming, from 1, counted over all clients; 0 before the first."""
        return self._stream.attempt

    @property
    def restarts(self) -> int:
        """How often the snapshots went back to the start, because a client failed after some of its content was shown."""
        return self._stream.restarts

    def __iter__(self) -> Iterator[_Partial]:
        """Yield snapshots of the answer until it is whole. Leaving the loop early aborts the request.

        Raises:
            ForkedRuntimeError: as `get_final_response`.
            Exception: as `GuardedStream.get_final_response`.
        """
        snapshots: Any = self._stream.__aiter__()
        try:
            while True:
                snapshot = self._run(functools.partial(_next, snapshots))
                if snapshot is NO_SNAPSHOT:
                    return
                yield snapshot
        finally:
            # After the end of the answer this does nothing. Before it, the abort is sent before this generator has unwound.
            if os.getpid() == self._pid:
                _loop_thread.leave(snapshots.aclose)

    def get_final_response(self) -> _Final:
        """Return the whole answer. May be called more than once, before, during or after an iteration.

        Raises:
            ForkedRuntimeError: this process was forked after the stream was made or the generated client was imported.
            Exception: as `GuardedStream.get_final_response`.
        """
        final: _Final = self._run(self._stream.get_final_response)
        return final

    def _run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        # Before BAML is touched: it would hang here and crash the parent. And the loop of the stream is the parent's.
        _baml.refuse_forked_client()
        if os.getpid() != self._pid:
            msg = "the stream was made before this process was forked, and cannot be read here: ask again in the child"
            raise ForkedRuntimeError(msg)
        return _loop_thread.run(work)


async def _next(snapshots: AsyncIterator[Any]) -> Any:
    return await anext(snapshots, NO_SNAPSHOT)


class GuardedStreams:
    """`b.stream` with guarded functions; everything else is the client's own.

    Args:
        plain: the client's own `stream`.
        guard: returns the guarded form of a function, from its name and itself.
        is_guarded: whether the function of that name is guarded.
    """

    def __init__(
        self,
        plain: Any,
        guard: Callable[[str, Callable[..., Any]], Callable[..., Any]],
        is_guarded: Callable[[str], bool],
    ) -> None:
        self._plain = plain
        self._guard = guard
        self._is_guarded = is_guarded

    def __getattr__(self, name: str) -> Any:
        if name in {"_plain", "_guard", "_is_guarded"}:  # copies ask before these are set; this would recurse
            raise AttributeError(name)
        value = getattr(self._plain, name)
        if not self._is_guarded(name):
            return value
        guarded = self.__dict__[name] = functools.wraps(value)(self._guard(name, value))
        return guarded

    @property  # type: ignore[misc]  # as for the client
    def __class__(self) -> type:
        return type(self._plain)

    def __dir__(self) -> list[str]:
        return dir(self._plain)
