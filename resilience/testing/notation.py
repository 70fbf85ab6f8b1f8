"""Outages in one word, as people type them on a command line: `Primary:2-7:503`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

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
    Truncate,
    When,
    WrongSchema,
)

_OUTAGE = re.compile(r"(?P<client>\w+):(?P<start>[\d.]+)-(?P<end>[\d.]+):(?P<behaviour>.+)")

_NAMED: dict[str, Callable[[str], Behaviour]] = {
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
}


def _when(text: str) -> When:
    return cast("When", text or "before")  # Reset checks what it is given


@dataclass(frozen=True, slots=True)
class PlannedOutage:
    """What `Primary:2-7:503` says: the arguments of `SimulatedClient.outage`, and whose."""

    client: str
    start: float
    end: float
    behaviour: Behaviour


def behaviour(text: str) -> Behaviour:
    """Read a behaviour: a status (`503`; `429=3` adds Retry-After 3), or a name, some with a value after `=`.

    Names: hang[=seconds], reset[=before|headers|body], close[=...], truncate[=bytes], malformed[=body],
    wrong_schema, empty, finish[=reason], error_in_body[=message], slow[=seconds].

    Raises:
        ConfigurationError: there is no such behaviour, or its value is none.
    """
    name, _, value = text.partition("=")
    try:
        if name.isdecimal():
            return Status(int(name), retry_after=float(value) if value else None)
        return _NAMED[name.replace("-", "_")](value)
    except (KeyError, ValueError) as exc:
        why = f" ({exc})" if isinstance(exc, ValueError) else ""
        msg = f"{text!r} is no behaviour{why}: give a status such as 503 or 429=3, or one of {', '.join(_NAMED)}"
        raise ConfigurationError(msg) from exc


def outage(text: str) -> PlannedOutage:
    """Read `CLIENT:START-END:BEHAVIOUR`, times in seconds since the simulator started.

    Raises:
        ConfigurationError: the text says something else.
    """
    said = _OUTAGE.fullmatch(text)
    if said is None:
        msg = f"{text!r} is no outage: give CLIENT:START-END:BEHAVIOUR, such as Primary:2-7:503"
        raise ConfigurationError(msg)
    try:
        start, end = float(said["start"]), float(said["end"])
    except ValueError as exc:
        msg = f"{text!r} is no outage: {exc}"
        raise ConfigurationError(msg) from exc
    return PlannedOutage(said["client"], start, end, behaviour(said["behaviour"]))
