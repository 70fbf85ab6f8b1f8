"""Turns a scripted stream into the bytes and silences of a reply, in the protocol of its request. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from http import HTTPStatus

from resilience.testing import stream_bodies
from resilience.testing.behaviours import Stream, StreamFault, StreamPlace
from resilience.testing.dialects import Dialect
from resilience.testing.reply import End, Piece, Reply, head
from resilience.testing.request import Request
from resilience.testing.stream_bodies import Event, StreamedAnswer, StreamEvents, answer_events
from resilience.testing.stream_frames import LAST_CHUNK, chunk, frame, media_type

_REFUSAL = "I cannot help with that."
_THOUGHT = "Let me think about this."
_HEARTBEAT_EVERY = 0.1
"""Seconds between two heartbeats."""

_SILENCES: frozenset[StreamFault] = frozenset({"stall", "heartbeats"})
_BREAKS: Mapping[StreamFault, End] = {"cut": End.RESET, "close": End.CLOSE}
_LAST: frozenset[StreamFault] = frozenset({"end", "refusal"})
"""After these the body ends as HTTP wants it. After every other fault the stream goes on."""


def stream_head(request: Request, status: int, headers: Mapping[str, str] | None = None) -> bytes:
    """Return the head of a streamed response."""
    return head(request, status, media_type(request.dialect), None, headers)


@lru_cache(maxsize=256)
def stream_body(answer: StreamedAnswer) -> bytes:
    """Return the body of a stream without faults. It is cached: fleets and benchmarks repeat the same requests."""
    events = answer_events(answer)
    everything = [*events.opening, *events.content, *events.finish, *events.mark]
    return b"".join(_framed(answer.dialect, everything)) + LAST_CHUNK


def render_stream(behaviour: Stream, text: str, request: Request) -> Reply:
    """Return the reply that *behaviour* makes of an answer of *text*."""
    dialect, start = request.dialect, stream_head(request, HTTPStatus.OK)
    if behaviour.at == "head":
        return _reply(behaviour, dialect, [start[: len(start) // 2]], [])
    answer = StreamedAnswer(dialect, request.model, text, behaviour.finish or "stop")
    before, after = _split(behaviour, answer_events(answer))
    frames, rest = _framed(dialect, before), _framed(dialect, after)
    if behaviour.at == "event" and after:
        # One chunk of HTTP for each half, so that a client can read the first one.
        event = frame(dialect, after[0])
        frames.append(chunk(event[: len(event) // 2]))
        rest[0] = chunk(event[len(event) // 2 :])
    if behaviour.fault == "malformed" and after:
        at = _last_of_finish(behaviour, answer) if behaviour.at == "finish" else 0
        rest[at] = chunk(frame(dialect, after[at], damaged=True))
    inserted = _framed(dialect, _inserted(behaviour, answer))
    return _reply(behaviour, dialect, [start, *frames, *inserted], rest)


def _split(behaviour: Stream, events: StreamEvents) -> tuple[list[Event], list[Event]]:
    """Return the events before the place of the fault, and those after it."""
    finish = [] if behaviour.finish is None else events.finish
    everything = [*events.opening, *events.content, *finish, *events.mark]
    opening, content = len(events.opening), len(events.content)
    places: Mapping[StreamPlace, int] = {
        "headers": 0,
        "opening": opening,
        "content": opening + content // 2,
        "event": opening + content // 2,
        "finish": opening + content,
        "mark": opening + content + len(finish),
        "end": len(everything),
    }
    at = places[behaviour.at]
    return everything[:at], everything[at:]


def _last_of_finish(behaviour: Stream, answer: StreamedAnswer) -> int:
    """Return how many events stand before the one that states the finish reason, which is the last of its part."""
    return 0 if behaviour.finish is None else len(answer_events(answer).finish) - 1


def _inserted(behaviour: Stream, answer: StreamedAnswer) -> Iterable[Event]:
    """Return the events that the fault puts in its place."""
    if behaviour.error is not None:
        yield stream_bodies.error(
            answer.dialect, behaviour.error, answer.model, is_finish=behaviour.at == "finish"
        )
    if behaviour.fault == "finish":
        yield from answer_events(answer).finish
    elif behaviour.fault == "thinking":
        yield stream_bodies.thinking(answer.dialect, _THOUGHT)
    elif behaviour.fault == "refusal":
        yield from stream_bodies.refusal(StreamedAnswer(answer.dialect, answer.model, _REFUSAL))


def _reply(behaviour: Stream, dialect: Dialect, before: list[bytes], after: list[bytes]) -> Reply:
    """Return the reply that sends *before*, then does what the fault says, and goes on with *after* if it says so."""
    stops = behaviour.error is not None and not behaviour.goes_on
    fault = behaviour.fault or ("end" if stops else None)
    pieces = _paced(before, behaviour.interval)
    if fault in _SILENCES:
        beat = stream_bodies.heartbeat(dialect) if fault == "heartbeats" else None
        beats = None if beat is None else Piece(_HEARTBEAT_EVERY, chunk(frame(dialect, beat)))
        if behaviour.seconds is None:
            return Reply(delay=behaviour.delay, pieces=pieces, heartbeat=beats, end=End.HANG)
        pieces += _silence(behaviour.seconds, beats)
    if fault is not None and fault in _BREAKS:
        return Reply(delay=behaviour.delay, pieces=pieces, end=_BREAKS[fault])
    rest = [LAST_CHUNK] if fault in _LAST else [*after, LAST_CHUNK]
    return Reply(delay=behaviour.delay, pieces=(*pieces, *_paced(rest, behaviour.interval)))


def _silence(seconds: float, beats: Piece | None) -> tuple[Piece, ...]:
    return (Piece(seconds, b""),) if beats is None else (beats,) * max(1, round(seconds / beats.wait))


def _paced(frames: list[bytes], interval: float) -> tuple[Piece, ...]:
    """Return *frames* one at a time, or all at once without an interval."""
    if not interval:
        return (Piece(0.0, b"".join(frames)),)
    return tuple(Piece(interval, data) for data in frames)


def _framed(dialect: Dialect, events: Iterable[Event]) -> list[bytes]:
    return [chunk(frame(dialect, event)) for event in events]
