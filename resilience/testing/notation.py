"""The notation of behaviours and outages on a command line: `503`, `Primary:2-7:503`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast, get_args

from resilience.errors import ConfigurationError
from resilience.testing.behaviours import (
    Behaviour,
    Empty,
    ErrorInBody,
    Finish,
    Hang,
    Malformed,
    Reset,
    Slow,
    Status,
    Stream,
    StreamFault,
    StreamPlace,
    Truncate,
    When,
    WrongSchema,
)
from resilience.testing.provider_errors import ErrorKind

_OUTAGE = re.compile(r"\A(?P<client>\w+):(?P<start>[\d.]+)-(?P<end>[\d.]+):(?P<behaviour>.+)")


def _stream(text: str) -> Stream:
    """Return the stream of `FAULT@PLACE`, where FAULT is a fault or the kind of an error. `Stream` checks both."""
    fault, _, place = text.partition("@")
    at = cast("StreamPlace", place or "content")
    if fault in get_args(ErrorKind):
        return Stream(error=cast("ErrorKind", fault), at=at)
    return Stream(fault=cast("StreamFault", fault) if fault else None, at=at)


_BEHAVIOURS: dict[str, Callable[[str], Behaviour]] = {
    "hang": lambda seconds: Hang(float(seconds) if seconds else None),
    "reset": lambda when: Reset(_when(when)),
    "close": lambda when: Reset(_when(when), orderly=True),
    "truncate": lambda size: Truncate(int(size)) if size else Truncate(),
    "malformed": lambda body: Malformed(body) if body else Malformed(),
    "wrong_schema": lambda _: WrongSchema(),
    "empty": lambda _: Empty(),
    "finish": lambda reason: Finish(reason or "length"),
    "error_in_body": lambda message: ErrorInBody(message or None),
    "slow": lambda seconds: Slow(float(seconds or 1)),
    "stream": _stream,
}


def _when(text: str) -> When:
    return cast("When", text or "before")  # Reset checks what it is given


@dataclass(frozen=True, slots=True)
class PlannedOutage:
    """An outage as in `Primary:2-7:503`.

    Attributes:
        client: the name of the client.
        start: start in seconds since the simulator started.
        end: end in the same seconds.
        behaviour: what the client does in between.
    """

    client: str
    start: float
    end: float
    behaviour: Behaviour


def behaviour(text: str) -> Behaviour:
    """Return the behaviour that *text* names.

    Args:
        text: a status (`503`; `429=3` adds Retry-After 3), or a name, some with a value: hang[=seconds],
            reset[=before|headers|body], close[=before|headers|body], truncate[=bytes], malformed[=body], wrong_schema,
            empty, finish[=reason], error_in_body[=message], slow[=seconds], stream[=fault[@place]].

    Raises:
        ConfigurationError: there is no such behaviour, or it cannot have that value.
    """
    name, _, value = text.partition("=")
    try:
        if name.isdecimal():
            return Status(int(name), retry_after=float(value) if value else None)
        return _BEHAVIOURS[name.replace("-", "_")](value)
    except (KeyError, ValueError) as exc:
        cause = f" ({exc})" if isinstance(exc, ValueError) else ""
        msg = f"{text!r} is no behaviour{cause}: give a status such as 503 or 429=3, or one of {', '.join(_BEHAVIOURS)}"
        raise ConfigurationError(msg) from exc


def outage(text: str) -> PlannedOutage:
    """Return the outage that *text* describes.

    Args:
        text: `CLIENT:START-END:BEHAVIOUR`, with times in seconds since the simulator started.

    Raises:
        ConfigurationError: *text* has another form, or a part of it is invalid.
    """
    match = _OUTAGE.fullmatch(text)
    if match is None:
        msg = f"{text!r} is no outage: give CLIENT:START-END:BEHAVIOUR, such as Primary:2-7:503"
        raise ConfigurationError(msg)
    try:
        start, end = float(match["start"]), float(match["end"])
    except ValueError as exc:
        msg = f"{text!r} is no outage: {exc}"
        raise ConfigurationError(msg) from exc
    return PlannedOutage(match["client"], start, end, behaviour(match["behaviour"]))
