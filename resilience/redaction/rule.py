"""A rule: a literal that is looked for, and the pattern tried where it stands."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass

from resilience.redaction.spans import Span

_ESCAPE = re.compile(r"\\[bfnrt]")
_ALPHANUMERIC = string.ascii_letters + string.digits
_MARK = re.compile(r"\[(?:key|token|pem|credentials|secret|email|phone|card|iban|ssn)\]")


@dataclass(frozen=True, slots=True)
class RedactionRule:
    """A literal in lower case, and the pattern tried where it stands, or so many characters *before* it.

    A group of the pattern narrows what is masked; *before* counts letters and digits alone.
    """

    mark: str
    literal: str
    pattern: re.Pattern[str]
    before: int = 0

    def spans(self, text: str, lowered: str) -> Iterator[Span]:
        """Where it finds something in *text*, which is *lowered* in lower case, character for character."""
        at, done = lowered.find(self.literal), 0
        while at >= 0:
            match = self.pattern.match(text, at - _run(text, max(done, at - self.before), at))
            if match:
                start, end = match.span(match.lastgroup or 0)
                if not _MARK.fullmatch(text, start, end):
                    yield Span(start, end, self.mark)
                done = match.end()
            at = lowered.find(self.literal, max(match.end(), at + 1) if match else at + 1)


def _run(text: str, start: int, end: int) -> int:
    """How many letters and digits stand right before *end*, from *start* on; that of an escaped line break is none."""
    run = end - start - len(text[start:end].rstrip(_ALPHANUMERIC))
    return run - 1 if run and _ESCAPE.match(text, max(0, end - run - 1)) else run
