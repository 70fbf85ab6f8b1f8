"""Spans: the place of a secret in a text, and the mark that replaces it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

NOT_WITHIN: Final = r"(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt]))"
"""A pattern for the place before a secret: no letter or digit, except that of an escaped line break, as JSON in a text has."""


@dataclass(frozen=True, slots=True)
class Span:
    """The characters from *start* to *end*, and the mark that replaces them."""

    start: int
    end: int
    mark: str


def mask(text: str, spans: Iterable[Span]) -> str:
    """Return *text* with every span replaced by its mark. Overlapping spans become one, with the mark of the first and longest."""
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
