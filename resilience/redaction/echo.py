"""Remove from a provider's message what it repeats of the request."""

from __future__ import annotations

import json
import re
from typing import Final

ECHO: Final = "[echo]"
"""The replacement of a part of a message that also stands in the request."""
RUN: Final = 20
"""Length of a common part that is not a coincidence, in characters."""

_REQUEST_LIMIT: Final = 65_536
"""Characters of a request that are compared."""
_MODEL = re.compile(r'"model(?:Id)?"\s{0,4}:\s{0,4}"[^"]{1,200}"')
_STEP: Final = RUN // 2
"""A common part of at least `RUN` + `_STEP` characters covers one of the windows that are compared."""


def without_echo(message: str, request: str) -> str:
    """Return *message* without the parts that it shares with *request*: all of 30 characters or more, and some from 20 on.

    The name of the model may be repeated.

    Args:
        message: a provider's message.
        request: the JSON body of the request; its first 65 536 characters are compared.
    """
    # Both sides in the form of JSON strings, so that a line break or quote of the prompt compares equal.
    request, message = _MODEL.sub("", request[:_REQUEST_LIMIT], count=4), _to_json(message)
    parts: list[str] = []
    done = at = 0
    while at + RUN <= len(message):
        found = request.find(message[at : at + RUN])
        if found < 0:
            at += _STEP
            continue
        start, end = _extent(message, at, request, found, done)
        parts += message[done:start], ECHO
        done = at = end
    return _from_json("".join((*parts, message[done:])))


def _to_json(text: str) -> str:
    """Return *text* as it stands within a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _from_json(escaped: str) -> str:
    try:
        return str(json.loads(f'"{escaped}"'))
    except ValueError:  # a part began or ended within an escape
        return ECHO


def _extent(message: str, at: int, request: str, found: int, done: int) -> tuple[int, int]:
    """Return start and end of the common part around *at* in the message and *found* in the request; not before *done*."""
    before = after = 0
    while (
        at - before > done and found - before > 0 and message[at - before - 1] == request[found - before - 1]
    ):
        before += 1
    while (
        at + RUN + after < len(message)
        and found + RUN + after < len(request)
        and message[at + RUN + after] == request[found + RUN + after]
    ):
        after += 1
    return at - before, at + RUN + after
