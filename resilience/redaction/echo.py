"""Takes out of a provider's sentence what it repeats of the request."""

from __future__ import annotations

import json
import re
from typing import Final

ECHO: Final = "[echo]"
"""Stands for a stretch of a message that stood in the request."""
RUN: Final = 20
"""Characters that a sentence and a prompt do not have in common by chance."""

_LOOKED_AT: Final = 65_536
_MODEL = re.compile(r'"model(?:Id)?"\s{0,4}:\s{0,4}"[^"]{1,200}"')
_STEP: Final = RUN // 2


def without_echo(message: str, request: str) -> str:
    """*message* less every stretch of 30 characters (and some from 20 on) that it shares with *request*.

    The name of the model may be repeated. Of a very long request the beginning is compared.
    """
    said, message = _MODEL.sub("", request[:_LOOKED_AT], count=4), _escaped(message)
    kept: list[str] = []
    done = at = 0
    while at + RUN <= len(message):
        found = said.find(message[at : at + RUN])
        if found < 0:
            at += _STEP
            continue
        start, end = _extent(message, at, said, found, done)
        kept += message[done:start], ECHO
        done = at = end
    return _plain("".join((*kept, message[done:])))


def _escaped(text: str) -> str:
    """*text* as it stands in the JSON of a request."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _plain(escaped: str) -> str:
    try:
        return str(json.loads(f'"{escaped}"'))
    except ValueError:  # an echo began or ended within an escape
        return ECHO


def _extent(message: str, at: int, said: str, found: int, done: int) -> tuple[int, int]:
    """How far to both sides of *at* the message goes on like the request from *found* on."""
    before = after = 0
    while at - before > done and found - before > 0 and message[at - before - 1] == said[found - before - 1]:
        before += 1
    while (
        at + RUN + after < len(message)
        and found + RUN + after < len(said)
        and message[at + RUN + after] == said[found + RUN + after]
    ):
        after += 1
    return at - before, at + RUN + after
