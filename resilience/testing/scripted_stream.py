"""Streams of a scripted client: what they show and how they end."""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from resilience import validation
from resilience.errors import StreamCutError, StreamLeftError
from resilience.testing.behaviours import Hang, Truncate

_LOOK: Final = 0.01
"""Seconds between two looks at the abort controller during a silence."""
_LAST: Final[Any] = object()
"""Stands for the last snapshot: None may be a final response."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A silence between two snapshots.

    Attributes:
        seconds: how long it lasts, in real time.

    Raises:
        ValueError: *seconds* is negative.
    """

    seconds: float

    def __post_init__(self) -> None:
        validation.number("Pause", "seconds", self.seconds)


class Snapshots:
    """What one stream of a `ScriptedBAML` shows, and how it ends.

    Example:
        baml = ScriptedBAML(Tell=[Snapshots("Once", Hang()), Snapshots("Once", Pause(0.1), "Once upon a time")])

    Args:
        *steps: what happens, in this order. `Pause` waits. `Hang` is silent until the reader leaves; with seconds it ends as cut
            after them. `Truncate` ends the stream as cut, and an exception ends it with that error. Everything else is a snapshot.
        final: the final response; the last snapshot when not given.
    """

    def __init__(self, *steps: Any, final: Any = _LAST) -> None:
        self.steps = steps
        self.final = final


class _Play:
    """One stream that is being played: yields snapshots in tuples of one, and waits in seconds.

    Attributes:
        error: how it ended; None while it is whole.
        result: the final response, once it has ended.
    """

    def __init__(self, script: Snapshots, options: Mapping[str, Any]) -> None:
        self.error: BaseException | None = None
        self.result: Any = None
        self._script = script
        self._controller = options.get("abort_controller")
        self._latest: Any = None
        self.events = self._play()

    def _play(self) -> Iterator[float | tuple[Any]]:
        for step in self._script.steps:
            yield from self._do(step)
            if self.error is None and self._is_aborted():
                self.error = StreamLeftError("the scripted stream was aborted")
            if self.error is not None:
                return
        self.result = self._latest if self._script.final is _LAST else self._script.final

    def _do(self, step: Any) -> Iterator[float | tuple[Any]]:
        if isinstance(step, Pause):
            yield from self._silence(step.seconds)
        elif isinstance(step, Hang):
            yield from self._silence(math.inf if step.seconds is None else step.seconds)
            self.error = None if self._is_aborted() else StreamCutError("scripted")
        elif isinstance(step, Truncate):
            self.error = StreamCutError("scripted")
        elif is_exception(step):
            self.error = step() if isinstance(step, type) else step
        else:
            self._latest = step
            yield (step,)

    def _silence(self, seconds: float) -> Iterator[float]:
        while seconds > 0 and not self._is_aborted():
            yield min(_LOOK, seconds)
            seconds -= _LOOK

    def _is_aborted(self) -> bool:
        return bool(getattr(self._controller, "aborted", False))

    def outcome(self) -> Any:
        """Return the final response, or raise how the stream ended."""
        if self.error is not None:
            raise self.error
        return self.result


class ScriptedStream:
    """A stream of a scripted async client. As BAML's, its iteration ends quietly; the final response raises.

    Args:
        answer: returns the step of this call, or an awaitable of it.
        options: the options of the call.
    """

    def __init__(self, answer: Callable[[], Any], options: Mapping[str, Any]) -> None:
        self._answer = answer
        self._options = options
        self._begun: _Play | None = None

    async def _play(self) -> _Play:
        if self._begun is None:
            answer = self._answer()
            step = await answer if inspect.isawaitable(answer) else answer
            self._begun = _Play(as_snapshots(step), self._options)
        return self._begun

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Yield the snapshots that were not shown yet."""
        for event in (await self._play()).events:
            if isinstance(event, tuple):
                yield event[0]
            else:
                await asyncio.sleep(event)

    async def get_final_response(self) -> Any:
        """Return the final response, or raise what ended the stream."""
        async for _ in self:
            pass
        return (await self._play()).outcome()


class ScriptedSyncStream:
    """A stream of a scripted blocking client.

    Args:
        answer: returns the step of this call.
        options: the options of the call.
    """

    def __init__(self, answer: Callable[[], Any], options: Mapping[str, Any]) -> None:
        self._answer = answer
        self._options = options
        self._begun: _Play | None = None

    def _play(self) -> _Play:
        if self._begun is None:
            self._begun = _Play(as_snapshots(self._answer()), self._options)
        return self._begun

    def __iter__(self) -> Iterator[Any]:
        """Yield the snapshots that were not shown yet."""
        for event in self._play().events:
            if isinstance(event, tuple):
                yield event[0]
            else:
                time.sleep(event)

    def get_final_response(self) -> Any:
        """Return the final response, or raise what ended the stream."""
        for _ in self:
            pass
        return self._play().outcome()


def as_snapshots(step: Any) -> Snapshots:
    """Return *step* as a stream: an answer is one snapshot, an exception ends it before any."""
    return step if isinstance(step, Snapshots) else Snapshots(step)


def is_exception(step: object) -> bool:
    """Return whether *step* is to be raised: an exception, or a class of one."""
    return isinstance(step, BaseException) or (isinstance(step, type) and issubclass(step, BaseException))
