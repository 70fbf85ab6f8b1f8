"""One attempt of a stream: drives one stream of BAML, hands its snapshots on, and judges how it ended.

BAML judges each event alone and calls many cut streams a success. So an attempt reads the raw events beside BAML, from its
Collector, and they decide: whether content arrives in time, whether the answer is whole, and which error was reported.

The order at the end of an attempt matters. BAML's generator joins its thread when it unwinds, which blocks the event loop for
up to 5 s while the request goes on. So the request is aborted first, and the generator then ends by itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from resilience import errors
from resilience.baml.attempt import Attempt
from resilience.baml.collector import (
    clients_of,
    keys_of,
    output_of,
    read_collector,
    stream_of,
    without_keys,
)
from resilience.baml.rust_runtime import abort_error, baml_runtime, collector_needs_an_event
from resilience.baml.stream_outcome import StreamReading
from resilience.baml.stream_progress import StreamProgress
from resilience.failure import (
    CATEGORY_RULES,
    ErrorCategory,
    Evidence,
    Failure,
    classify_evidence,
    safe_class_name,
)
from resilience.failure.exceptions import is_transport_fault_of_old_baml

_POLL: Final = 0.05
"""Seconds between two looks at the events, and at an abort controller of the caller."""
_GRACE: Final = 0.5
"""Seconds that a finished answer waits for more events (its usage) and for BAML's own end of the stream."""
_LONG_GRACE: Final = 3.0
"""The same where the finish reason may not have been the last."""
_TRANSPORT_FAULTS: Final = frozenset({"BamlClientHttpError", "BamlTimeoutError"})
_UNWIND: Final = 2.0
"""Seconds to wait for BAML after an abort. It takes some 10 ms; a stream that does not end is left to its thread."""
_ERRORS: Final[Mapping[ErrorCategory, type[errors.AnswerError]]] = {
    ErrorCategory.OUTPUT_TRUNCATED: errors.OutputTruncatedError,
    ErrorCategory.CONTENT_POLICY: errors.ContentRefusedError,
}
"""The error for a stream that BAML called a success; `StreamFailedError` for all other categories."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """The time limits of one attempt of a stream, in seconds; None for no limit.

    Attributes:
        first_token: from the request to the first content.
        stall: from one event with content to the next.
    """

    first_token: float | None = None
    stall: float | None = None


class StreamAttempt(Attempt):
    """A streaming BAML function bound to one client, with the rules of `Attempt`.

    Args:
        function: the function of `b.stream`; it returns one of BAML's streams.
        client: the client it asks.
        options: the caller's BAML options.
        progress: receives the snapshots.
        limits: the time limits.
        parse: turns a whole text into the result of the function; None where BAML has no such function.
        **more: as for `Attempt`.
    """

    __slots__ = (
        "_began_at",
        "_calls",
        "_category",
        "_content_at",
        "_controller",
        "_event_at",
        "_fed",
        "_limits",
        "_may_read",
        "_parse",
        "_progress",
        "_reading",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        client: str,
        options: Mapping[str, Any],
        *,
        progress: StreamProgress,
        limits: StreamLimits,
        parse: Callable[[str], Any] | None,
        **more: Any,
    ) -> None:
        super().__init__(function, client, options, **more)
        self._progress = progress
        self._limits = limits
        self._parse = parse
        self._controller: Any = None
        self._reading: StreamReading | None = None
        self._category: ErrorCategory | None = None
        self._calls = self._fed = 0
        self._may_read = True
        self._began_at = self._event_at = self._content_at = 0.0

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Ask the client once and hand its snapshots to the readers.

        Args:
            *args: positional arguments of the BAML function.
            **kwargs: keyword arguments of the BAML function.

        Returns:
            The final response.

        Raises:
            AttemptTimeoutError: no content arrived in time, or no more of it.
            AnswerError: BAML called the stream a success although it was cut, withheld, empty or failed.
            Exception: whatever BAML raises, unchanged.
        """
        self._begin()
        options = self._call_options()
        registry = await self._registry(args, kwargs)
        if registry is not None:
            options["client_registry"] = registry
        stream = self._function(*args, baml_options=options, **kwargs)
        reader = _ReaderTask(self._read_snapshots(stream), self._controller.abort)
        try:
            await self._watch(reader)
            hung_up = not reader.done()
            self._may_read = self._may_read or not hung_up
        finally:
            if not reader.done():
                await self._hang_up(reader)
            if self._learn is not None and self._may_read and (asked := clients_of(self._collector)):
                self._learn(asked)
        self._read_events()
        self._usage = read_collector(self._collector).usage
        return self._result(None if hung_up else reader)

    def _begin(self) -> None:
        self._progress.time_to_first_token = None  # of the attempt before: this one may fail before it begins
        baml_py = baml_runtime()
        if self._is_aborted_by_caller():  # BAML looks at the controller of a stream only later, and would ask
            raise abort_error()
        self._collector, self._usage = baml_py.Collector("resilience"), None
        # One controller per attempt: an aborted one stays aborted, and the caller's own would end its other calls.
        self._controller = baml_py.AbortController()
        self._reading, self._category = None, None
        self._calls = self._fed = 0
        self._may_read = not collector_needs_an_event()
        self._began_at = self._event_at = self._content_at = asyncio.get_running_loop().time()
        self._progress.begin(self._client)

    def _call_options(self) -> dict[str, Any]:
        options = {**super()._call_options(), "abort_controller": self._controller}
        if not self._may_read:
            options["on_tick"] = self._allow_reading(options.get("on_tick"))
        return options

    def _allow_reading(self, on_tick: Callable[..., Any] | None) -> Callable[..., None]:
        """Return a callback of BAML that opens the Collector at the first event, and calls the caller's own."""

        def tick(*args: Any) -> None:
            self._may_read = True
            if on_tick is not None:
                on_tick(*args)

        return tick

    def _is_aborted_by_caller(self) -> bool:
        return bool(getattr(self._options.get("abort_controller"), "aborted", False))

    async def _read_snapshots(self, stream: Any) -> Any:
        async for snapshot in stream:
            if not self._progress.has_content:
                self._read_events()
            if (
                self._reading is None
            ):  # a version of BAML or a double without events: snapshots are all there is to go by
                self._on_content()
            self._progress.show(snapshot)
        return await stream.get_final_response()

    # --- while it runs ----------------------------------------------------------------------------------------

    async def _watch(self, reader: asyncio.Future[Any]) -> None:
        """Wait until the stream has ended, by itself or by what its events say.

        Raises:
            AttemptTimeoutError: no content arrived in time.
        """
        while not reader.done():
            await asyncio.wait({reader}, timeout=_POLL)
            if reader.done() or self._is_aborted_by_caller():
                return
            self._read_events()
            if self._has_ended():
                return
            self._check_limits()

    def _has_ended(self) -> bool:
        """Return whether the events show the end of the answer, and for a while none has added to it."""
        reading = self._reading
        if reading is None or not (reading.finish or reading.end_marked or reading.error):
            return False
        return self._seconds_since(self._event_at) >= (_LONG_GRACE if reading.finish_may_repeat else _GRACE)

    def _check_limits(self) -> None:
        reading, waited = self._reading, self._seconds_since(self._content_at)
        if reading is not None and (reading.finish or reading.end_marked or reading.error):
            return  # the answer has ended, and its last events may still come
        if self._progress.has_content:
            if self._limits.stall is not None and waited >= self._limits.stall:
                raise errors.StreamStalledError(self._client, self._limits.stall)
        elif self._limits.first_token is not None and waited >= self._limits.first_token:
            raise errors.AttemptTimeoutError(self._client, self._limits.first_token)

    def _seconds_since(self, moment: float) -> float:
        return asyncio.get_running_loop().time() - moment

    def _read_events(self) -> None:
        """Feed the events that arrived since the last look."""
        if not self._may_read:
            return
        seen = stream_of(self._collector)
        if not seen.events:
            return
        if self._reading is None or seen.calls != self._calls:  # BAML asked again by itself: another stream
            self._reading, self._calls, self._fed = StreamReading(seen.provider), seen.calls, 0
        events, self._fed = seen.events[self._fed :], len(seen.events)
        if events:
            self._feed(self._reading, [str(event.text) for event in events])

    def _feed(self, reading: StreamReading, events: list[str]) -> None:
        content, end = reading.content_count, _end_of(reading)
        for event in events:
            reading.feed(event)
        now = asyncio.get_running_loop().time()
        if reading.content_count > content:
            self._on_content()
        # Pings may go on after the end of the answer. They must not put the end off.
        if reading.content_count > content or _end_of(reading) != end:
            self._event_at = now

    def _on_content(self) -> None:
        self._content_at = asyncio.get_running_loop().time()
        self._progress.has_begun(self._content_at - self._began_at)

    async def _hang_up(self, reader: asyncio.Future[Any]) -> None:
        """Abort the request, then wait until BAML has left it. After a second cancellation it ends by itself."""
        self._controller.abort()
        reader.add_done_callback(_ignore)
        await asyncio.wait({reader}, timeout=_UNWIND)

    # --- how it ended -----------------------------------------------------------------------------------------

    def _result(self, reader: asyncio.Future[Any] | None) -> Any:
        """Return the final response, or raise why there is none.

        Args:
            reader: holds what BAML made of the stream; None if we ended it.
        """
        exc = None if reader is None else reader.exception()
        if reader is None and self._is_aborted_by_caller():
            raise abort_error()
        reading = self._reading
        self._category = None if reading is None else reading.verdict()
        if reading is not None and self._category is None:
            text = reading.text
            if reader is None or _is_transport_fault(exc) or self._has_lost(text):
                # The provider completed the answer. To ask again would be a waste.
                return self._parsed(text, exc)
        if exc is not None:
            raise exc
        result = None if reader is None else reader.result()
        if reading is None or self._category is None:
            return self._not_empty(result)
        if self._category is ErrorCategory.OUTPUT_TRUNCATED and (reading.is_complete or not reading.finish):
            raise errors.StreamCutError(self._client, result)
        raise _ERRORS.get(self._category, errors.StreamFailedError)(self._client, result)

    def _has_lost(self, text: str) -> bool:
        """Return whether BAML made its answer of less than the *text* of the events.

        It skips events whose form it does not know, such as one of Google without `usageMetadata`, and says nothing.
        """
        taken = output_of(self._collector)
        return taken is not None and len(taken.strip()) < len(text.strip())

    def _parsed(self, text: str, exc: BaseException | None) -> Any:
        if self._parse is None:
            raise exc if exc is not None else errors.StreamCutError(self._client)
        try:
            result = self._parse(text)
        except Exception as error:  # a plain BamlError, which elsewhere means a wrong configuration
            raise errors.AnswerError(self._client) from error
        return self._not_empty(result)

    def _not_empty(self, result: Any) -> Any:
        if result == "":
            raise errors.EmptyAnswerError(self._client, result)
        return result

    def classify(self, exc: Exception, *, now: float | None = None, arguments: object = ()) -> Failure:
        """Classify what the last attempt raised, by the error event of the stream where there is one.

        Args:
            exc: what it raised.
            now: the time in epoch seconds, for waits that are stated as a date.
            arguments: as for `Attempt.classify`.
        """
        reading, category = self._reading, self._category
        if reading is None or category is None or self._is_aborted_by_caller():
            return super().classify(exc, now=now, arguments=arguments)
        if reading.error is not None:
            # BAML wraps the event into a text of its own, with a backtrace. The event itself says more.
            failure = self._of_event(reading.error, exc, now, arguments)
        else:
            failure = super().classify(exc, now=now, arguments=arguments)
        if not reading.finish and reading.error is None and _is_transport_fault(exc):
            return failure  # the connection broke: BAML's exception says how
        return failure if failure.category is category else _of_category(failure, category)

    def _of_event(
        self, event: Mapping[str, object], exc: Exception, now: float | None, arguments: object
    ) -> Failure:
        body = without_keys(json.dumps(dict(event)), keys=keys_of(self.usage().request))
        sent = self._sent(arguments)
        failure = classify_evidence(Evidence(body=body, sent=sent), now)
        return replace(failure, exception_type=safe_class_name(exc, sent))


class _ReaderTask(asyncio.Task[Any]):
    """The task that reads a stream of BAML. Whatever cancels it aborts the request first.

    An event loop that ends cancels all its tasks in any order, this one perhaps before the attempt that would have aborted.

    Args:
        coroutine: reads the stream.
        abort: ends the request.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], abort: Callable[[], object]) -> None:
        super().__init__(coroutine, loop=asyncio.get_running_loop())
        self._abort = abort

    def cancel(self, msg: Any = None) -> bool:
        """Abort the request, then cancel the task."""
        self._abort()
        return super().cancel(msg)


def _end_of(reading: StreamReading) -> tuple[object, ...]:
    """Return what the events have said about the end of the answer."""
    return reading.finish, reading.end_marked, reading.error is not None


def _of_category(failure: Failure, category: ErrorCategory) -> Failure:
    """Return *failure* with another category and what follows from it."""
    rules = CATEGORY_RULES[category]
    return replace(
        failure,
        category=category,
        recoverable=rules.recoverable,
        counts_against_client=rules.counts_as_failure,
        starts_cooldown=rules.cooldown is not None,
    )


def _is_transport_fault(exc: BaseException | None) -> bool:
    """Return whether BAML lost the connection. What it raises for the answer itself, or for its finish reason, stands."""
    return type(exc).__name__ in _TRANSPORT_FAULTS or is_transport_fault_of_old_baml(exc)


def _ignore(reader: asyncio.Future[Any]) -> None:
    """Take the exception of a stream that was ended on purpose, so that asyncio does not report it."""
    if not reader.cancelled():
        reader.exception()
