"""Where a secret stands in a text, and what to write in its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

NOT_WITHIN: Final = r"(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt]))"
"""Before a secret stands no letter and no digit, except those of an escaped line break: JSON inside of text has these."""


@dataclass(frozen=True, slots=True)
class Span:
    """The characters from *start* to *end*, and the mark that stands for them."""

    start: int
    end: int
    mark: str


def mask(text: str, spans: Iterable[Span]) -> str:
    """*text* with every span replaced by its mark; of spans that overlap the first and longest gives the mark."""
    ordered = sorted(spans, key=lambda span: (span.start, -span.end))
    if not ordered:
        return text
    parts: list[str] = []
    done = 0
    for span in ordered:
        if span.start >= done:
            parts += text[done : span.start], span.mark
        done = max(done, span.end)
    parts.append(text[done:])
    return "".join(parts)
